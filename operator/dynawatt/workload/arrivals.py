"""Arrivals as renewal processes: independent gaps between requests with a given coefficient of variation (CV).

Gaps more regular than exponential follow a gamma distribution. Burstier ones
follow a hyperexponential: mostly short gaps within a burst, now and then a long
one. That is how the Azure code trace of 2023 arrives (CV 13.2): the median gap is
0.16 of the mean there and 0.13 here, the 99.9th percentile 203 and 214 times the
mean; the number of arrivals varies over windows of 1, 10 and 100 mean gaps by
6.3, 40 and 136 times as much as a Poisson process there, by 5.4, 39 and 139 here. A
gamma distribution of the same CV is another load: by 60, 91 and 138, as half of its
requests come in the same instant.

A process starts in equilibrium, as if it had run for ever: then the expected
number of arrivals is the rate times the time, however short.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError

MAX_CV: Final = 100.0
_METRONOME: Final = 1e-6
"""Below this CV gaps are all the same."""
_PAUSES: Final = 0.82
"""Part of all time that the long gaps take; fitted to the variation of counts in the Azure code trace 2023."""

_CV_TOLERANCE: Final = 1e-4


def check_cv(cv: float) -> None:
    """Raises InvalidInputError when gaps cannot vary so."""
    if not 0 <= cv <= MAX_CV:
        raise InvalidInputError(f"burstiness {cv} (CV of the gaps between requests): must be 0 to {MAX_CV:g}")


def unit_renewal(count: int, cv: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """``count`` independent gaps with mean 1 and this CV: 0 is a metronome, 1 Poisson, above is bursty.

    Raises InvalidInputError when the CV is negative or above MAX_CV.
    """
    check_cv(cv)
    if cv < _METRONOME:
        return np.ones(count)
    if cv < 1:
        return rng.gamma(cv**-2, cv**2, count)
    short, long = _hyperexponential(cv)
    gaps = rng.standard_exponential(count)
    return np.asarray(gaps * np.where(rng.random(count) < _PAUSES / long, long, short))


def first_gap(cv: float, rng: np.random.Generator) -> float:
    """Time to the first arrival of a process with mean gap 1 that has run for ever."""
    check_cv(cv)
    if cv < 1:  # a uniform part of the gap around a random instant; long gaps are hit more often
        return float(rng.random() * (rng.gamma(cv**-2 + 1, cv**2) if cv >= _METRONOME else 1.0))
    short, long = _hyperexponential(cv)  # exponential gaps forget how long they have lasted
    return float(rng.exponential(long if rng.random() < _PAUSES else short))


def renewal_arrivals(rate_rps: float, cv: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """``count`` ascending times in s of a process with this constant rate, in equilibrium at time 0.

    Raises InvalidInputError when rate or CV make no sense.
    """
    if not 0 < rate_rps < np.inf:
        raise InvalidInputError(f"rate {rate_rps} requests/s: must be above 0")
    gaps = unit_renewal(count, cv, rng)
    gaps[:1] = first_gap(cv, rng)
    return np.asarray(np.cumsum(gaps) / rate_rps)


def interarrival_cv(arrival_s: NDArray[np.float64]) -> float:
    """CV of the gaps between ascending times; nan for fewer than 3."""
    gaps = np.diff(arrival_s)
    return float(gaps.std() / gaps.mean()) if len(gaps) > 1 and gaps.mean() > 0 else float("nan")


def dispersion(arrival_s: NDArray[np.float64], window_s: float) -> float:
    """Variance over mean of the number of arrivals in windows; nan when the times span fewer than 2 of them.

    It is 1 for a Poisson process and, in long windows, CV^2 for any renewal process.
    """
    windows = int((arrival_s[-1] - arrival_s[0]) / window_s) if len(arrival_s) else 0
    if windows < 2:
        return float("nan")
    counts = np.bincount(((arrival_s - arrival_s[0]) / window_s).astype(np.int64))[:windows]
    return float(counts.var() / counts.mean())


def renewal_dispersion(cv: float, events: float) -> float:
    """Variance over mean of the number of arrivals in windows in which so many ``events`` are expected.

    Of hyperexponential gaps it rises with the window from 1 to CV^2, by 1 + (CV^2 - 1) (1 - (1 - e^-x) / x), where x is
    the window times the rate at which the phase is forgotten (from the renewal function; Cox, Renewal Theory, 1962).
    Gaps more regular than exponential are taken at their limit, CV^2.
    """
    check_cv(cv)
    if cv <= 1:
        return cv**2
    short, long = _hyperexponential(cv)
    chance = _PAUSES / long
    x = events * ((1 - chance) / long + chance / short)
    return float(1 + (cv**2 - 1) * (1 + np.expm1(-x) / x))


def renewal_cv(dispersed: float, events: float) -> float:
    """CV of the gaps at which counts have this variance over mean in windows of so many ``events``; MAX_CV if none has.

    In windows of few events all large CVs look much the same.
    """
    if dispersed <= 1:
        return float(np.sqrt(max(0.0, dispersed)))
    low, high = 1.0, MAX_CV
    while high - low > _CV_TOLERANCE * low:
        middle = (low + high) / 2
        low, high = (middle, high) if renewal_dispersion(middle, events) < dispersed else (low, middle)
    return high


def _hyperexponential(cv: float) -> tuple[float, float]:
    """Means of the short and the long phase, for an overall mean of 1.

    With w the part of time that long gaps take, (1-w)/short + w/long = 1 (probabilities) and
    (1-w) short + w long = (cv^2 + 1)/2 (half the second moment).
    """
    half_moment = (cv**2 + 1) / 2
    middle = half_moment + 2 * _PAUSES - 1
    root = np.sqrt(max(0.0, middle**2 - 4 * _PAUSES**2 * half_moment))
    long = (middle + root) / (2 * _PAUSES)
    return (1 - _PAUSES) / (1 - _PAUSES / long), long
