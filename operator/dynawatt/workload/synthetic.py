"""A built-in load that needs no data: published length statistics, Poisson arrivals.

The lengths follow the statistics of the Azure LLM inference trace 2023,
conversation (github.com/Azure/AzurePublicDataset, CC-BY-4.0; Patel et al.,
"Splitwise", ISCA 2024): its mean and its 50th, 90th and 99th percentiles are met
exactly. Only the marginal distributions are: inputs and outputs are drawn
independently (in the trace they correlate weakly, by -0.11).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.workload.trace import Trace

_FRACTIONS: Final = np.array([0.0, 0.5, 0.9, 0.99, 1.0])
_TAIL: Final = 1.5  # longest request over the 99th percentile; the trace's 99.9th is 1.5 of it
_MAX_REQUESTS: Final = 50_000_000


@dataclass(frozen=True, slots=True)
class LengthStatistics:
    """Published statistics of a token count, and the distribution made from them.

    Between two known percentiles the quantile function rises as a power of the way between them. One exponent for all
    pieces gives the mean, and has a closed form.
    """

    mean: float
    p50: float
    p90: float
    p99: float

    def quantile(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Token counts, not rounded, at cumulative fractions from 0 to 1; shape as the fractions."""
        anchors = np.array([1.0, self.p50, self.p90, self.p99, _TAIL * self.p99])
        widths, rises = np.diff(_FRACTIONS), np.diff(anchors)
        # The mean of lo + rise * x**g over x in [0, 1] is lo + rise / (g + 1).
        exponent = (widths @ rises) / (self.mean - widths @ anchors[:-1]) - 1
        piece = np.clip(np.searchsorted(_FRACTIONS, fractions, side="right") - 1, 0, len(widths) - 1)
        way = (fractions - _FRACTIONS[piece]) / widths[piece]
        return np.asarray(anchors[piece] + rises[piece] * way**exponent)

    def sample(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Independent token counts, each at least 1."""
        return np.maximum(1, np.rint(self.quantile(rng.random(count)))).astype(np.int64)


CONVERSATION_INPUT: Final = LengthStatistics(mean=1155, p50=1020, p90=2734, p99=4142)
CONVERSATION_OUTPUT: Final = LengthStatistics(mean=211, p50=129, p90=424, p99=601)


def conversations(arrival_s: NDArray[np.float64], rng: np.random.Generator) -> Trace:
    """Requests at these ascending times, with lengths of conversations."""
    count = len(arrival_s)
    return Trace(arrival_s, CONVERSATION_INPUT.sample(count, rng), CONVERSATION_OUTPUT.sample(count, rng))


def poisson_arrivals(
    rate_rps: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    max_rps: float,
    duration_s: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Ascending times in s of a Poisson process whose rate at time t is ``rate_rps(t)``, never above ``max_rps``."""
    candidates = np.sort(rng.uniform(0.0, duration_s, rng.poisson(max_rps * duration_s)))
    kept = rng.uniform(0.0, max_rps, len(candidates)) < rate_rps(candidates)
    return np.asarray(candidates[kept])


def rising_and_falling(duration_s: float, trough_rps: float, peak_rps: float, seed: int) -> Trace:
    """Conversations at a rate that rises smoothly from the trough to the peak at half time, and falls back.

    The mean rate is midway between the two. Raises InvalidInputError when duration or rates make no sense.
    """
    if not 0 < duration_s < np.inf:
        raise InvalidInputError(f"duration {duration_s} s of the synthetic load: must be above 0")
    if not 0 <= trough_rps <= peak_rps < np.inf or peak_rps <= 0:
        raise InvalidInputError(
            f"rates of the synthetic load, trough {trough_rps} and peak {peak_rps} requests/s: "
            "must be 0 <= trough <= peak and peak above 0"
        )
    if peak_rps * duration_s > _MAX_REQUESTS:
        raise InvalidInputError(
            f"synthetic load of up to {peak_rps * duration_s:.0f} requests: must be at most {_MAX_REQUESTS}; "
            "lower the peak or the duration"
        )
    rng = np.random.default_rng(seed)

    def rate_rps(time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(trough_rps + (peak_rps - trough_rps) * np.sin(np.pi * time_s / duration_s) ** 2)

    return conversations(poisson_arrivals(rate_rps, max_rps=peak_rps, duration_s=duration_s, rng=rng), rng)
