"""Built-in workloads: loads like published ones, generated from their statistics at any rate."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.workload import published
from dynawatt.workload.arrivals import check_cv, first_gap, unit_renewal
from dynawatt.workload.lengths import JointLengths, LengthCurve
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.rates import RateCurve, rate_curve
from dynawatt.workload.streaming import CHUNK_S, rechunk, window_end_s
from dynawatt.workload.trace import ScaleMode, Trace

_BLOCK_REQUESTS: Final = 1 << 17
_WEEK_S: Final = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class BuiltInWorkload:
    """A renewal process in operational time, in which one request is expected per unit, warped by a rate curve.

    Scaled up by superposing, the curve is multiplied and the gaps keep their CV: more of the same bursty users, not
    independent copies, whose sum would be smoother. Compressed, the curve is passed faster.
    """

    name: str
    source: str
    curve: RateCurve
    lengths: JointLengths
    interarrival_cv: float

    @property
    def span_s(self) -> float:
        """How long it lasts, unscaled."""
        return self.curve.span_s

    @property
    def mean_rps(self) -> float:
        """Mean rate over the span."""
        return self.curve.mean_rps

    @property
    def peak_rps(self) -> float:
        """Highest level of the rate curve; bursts go beyond it."""
        return self.curve.peak_rps

    def mix(self, size: int, seed: int = 0) -> LengthMix:
        """``size`` requests drawn at random."""
        return self.lengths.mix(size, seed)

    def expected_by(
        self, times_s: NDArray[np.float64], rate_scale: float, scale_mode: ScaleMode
    ) -> NDArray[np.float64]:
        """Requests expected before these times."""
        denser, faster = _scaled(rate_scale, scale_mode)
        return denser * self.curve.count_by(np.minimum(times_s * faster, self.span_s))

    def chunks(
        self,
        *,
        hours: float | None = None,
        seed: int = 0,
        rate_scale: float = 1.0,
        scale_mode: ScaleMode = ScaleMode.SUPERPOSE,
        chunk_s: float = CHUNK_S,
    ) -> Iterator[Trace]:
        """See ``Workload``."""
        end_s = window_end_s(self, hours, rate_scale, scale_mode, chunk_s)
        denser, faster = _scaled(rate_scale, scale_mode)
        return rechunk(self._blocks(end_s, seed, denser, faster), chunk_s)

    def _blocks(self, end_s: float, seed: int, denser: float, faster: float) -> Iterator[Trace]:
        """Requests before ``end_s``, so many at a time."""
        gaps_rng, lengths_rng = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
        end = denser * float(self.curve.count_by(np.array([end_s * faster]))[0])
        start = first_gap(self.interarrival_cv, gaps_rng)
        while start < end:
            gaps = unit_renewal(_BLOCK_REQUESTS, self.interarrival_cv, gaps_rng)
            times = start + np.cumsum(gaps)  # of the requests after each one of this block
            start, times = float(times[-1]), np.concatenate([[start], times[:-1]])
            inputs, outputs = self.lengths.sample(_BLOCK_REQUESTS, lengths_rng)
            count = int(np.searchsorted(times, end, side="left"))
            arrival_s = self.curve.time_of(times[:count] / denser) / faster
            # Rounding may put the last of a step behind the first of the next one, by less than a nanosecond.
            yield Trace(np.maximum.accumulate(arrival_s), inputs[:count], outputs[:count])


def _scaled(rate_scale: float, scale_mode: ScaleMode) -> tuple[float, float]:
    """How much denser requests come, and how much faster the curve is passed."""
    return (1.0, rate_scale) if scale_mode is ScaleMode.COMPRESS else (rate_scale, 1.0)


def built_in(name: str, burstiness: float | None = None) -> BuiltInWorkload:
    """The workload of this name, with another CV of the gaps between requests if ``burstiness`` is given.

    Raises InvalidInputError for an unknown name or an impossible CV.
    """
    found = next((workload for workload in BUILT_IN if workload.name == name), None)
    if found is None:
        names = [workload.name for workload in BUILT_IN]
        close = difflib.get_close_matches(name, names, n=2, cutoff=0.3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise InvalidInputError(f"workload {name!r}: {hint}there are {', '.join(names)}")
    if burstiness is None:
        return found
    check_cv(burstiness)
    return replace(found, interarrival_cv=burstiness)


_AZURE: Final = "Azure LLM inference trace {}, CC-BY-4.0"
_CONVERSATION_CV: Final = 1.09
_CODE_CV: Final = 13.2

# Alpaca's mean lengths are those of its 52,000 instructions and answers in OPT tokens (Kwon et al., "PagedAttention",
# SOSP 2023, figure 11). The distribution around them is ours, lognormal with CV 1; so is the steady rate.
_ALPACA_MEAN_INPUT: Final = 19.31
_ALPACA_MEAN_OUTPUT: Final = 58.45
# Deciles and tail of the standard normal distribution.
_NORMAL: Final = (
    (0.01, -2.326), (0.05, -1.645), (0.1, -1.282), (0.2, -0.842), (0.3, -0.524), (0.4, -0.253), (0.5, 0.0),
    (0.6, 0.253), (0.7, 0.524), (0.8, 0.842), (0.9, 1.282), (0.95, 1.645), (0.975, 1.96), (0.99, 2.326),
    (0.995, 2.576), (0.999, 3.09),
)  # fmt: skip


def _lognormal(mean: float) -> LengthCurve:
    """Lengths with this mean and, but for the cut tail, CV 1."""
    sigma = np.sqrt(np.log(2.0))
    shape = [(0.0, 0.0), *((fraction, float(np.exp(sigma * z))) for fraction, z in _NORMAL), (1.0, np.exp(sigma * 3.5))]
    fractions, values = np.array(shape).T
    values *= (mean - 0.5) / np.sum(np.diff(fractions) * (values[1:] + values[:-1]) / 2)
    return LengthCurve(tuple(zip(fractions.tolist(), (values + 0.5).tolist(), strict=True)))


BUILT_IN: Final = (
    BuiltInWorkload(
        name="azure-2023-conv",
        source=_AZURE.format("2023, conversation"),
        curve=rate_curve(published.CONVERSATION_2023_LEVELS, span_s=3501.7, mean_rps=19_366 / 3501.7),
        lengths=JointLengths(
            LengthCurve(published.CONVERSATION_2023_INPUTS),
            LengthCurve(published.CONVERSATION_2023_OUTPUTS),
            published.CONVERSATION_COPULA,
        ),
        interarrival_cv=1.03,  # with the changes from minute to minute, which the curve has, the published 1.09
    ),
    BuiltInWorkload(
        name="azure-2023-code",
        source=_AZURE.format("2023, code"),
        # One level: a renewal process with this CV varies from minute to minute as much as the trace does.
        curve=rate_curve([1.0], span_s=3435.9, mean_rps=8_819 / 3435.9),
        lengths=JointLengths(
            LengthCurve(published.CODE_2023_INPUTS), LengthCurve(published.CODE_2023_OUTPUTS), published.CODE_COPULA
        ),
        interarrival_cv=_CODE_CV,
    ),
    # Of 2024 only rates and marginal lengths are published: CV and dependence are those of the service in 2023.
    BuiltInWorkload(
        name="azure-2024-conv",
        source=_AZURE.format("2024, conversation, digitised from published figures"),
        curve=rate_curve(published.CONVERSATION_2024_LEVELS, span_s=_WEEK_S, mean_rps=27_303_999 / _WEEK_S),
        lengths=JointLengths(
            LengthCurve(published.CONVERSATION_2024_INPUTS),
            LengthCurve(published.CONVERSATION_2024_OUTPUTS),
            published.CONVERSATION_COPULA,
        ),
        interarrival_cv=_CONVERSATION_CV,
    ),
    BuiltInWorkload(
        name="azure-2024-code",
        source=_AZURE.format("2024, code, digitised from published figures"),
        curve=rate_curve(published.CODE_2024_LEVELS, span_s=_WEEK_S, mean_rps=16_803_695 / _WEEK_S),
        lengths=JointLengths(
            LengthCurve(published.CODE_2024_INPUTS), LengthCurve(published.CODE_2024_OUTPUTS), published.CODE_COPULA
        ),
        interarrival_cv=_CODE_CV,
    ),
    BuiltInWorkload(
        name="alpaca",
        source="Alpaca mean lengths (Kwon et al., SOSP 2023); distribution, steady rate and Poisson arrivals assumed",
        curve=rate_curve([1.0], span_s=24 * 3600.0, mean_rps=10.0),
        lengths=JointLengths(_lognormal(_ALPACA_MEAN_INPUT), _lognormal(_ALPACA_MEAN_OUTPUT)),
        interarrival_cv=1.0,
    ),
)
"""All built-in workloads."""
