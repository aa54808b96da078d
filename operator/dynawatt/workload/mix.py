"""Length mixes: what the requests of a service look like, independent of how many arrive.

A mix is a weighted sample of (input, output) token pairs. It comes from a trace
or, live, from vLLM's two length histograms; these carry no joint information,
so the pairs of an observed mix are drawn independently.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError

Histogram = Sequence[tuple[float, float]]
"""Cumulative counts by upper bound, ascending, as Prometheus keeps them; the last bound may be infinite."""


@dataclass(frozen=True, slots=True)
class LengthMix:
    """Equally likely (input, output) pairs."""

    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    @property
    def mean_input_tokens(self) -> float:
        """Mean prompt length."""
        return float(self.input_tokens.mean())

    @property
    def mean_output_tokens(self) -> float:
        """Mean generated length."""
        return float(self.output_tokens.mean())

    def bin(self, per_octave: int = 3) -> tuple[int, int]:
        """Coarse key: mixes whose means round to the same fraction of an octave share it."""
        means = np.array([self.mean_input_tokens, self.mean_output_tokens])
        keys = np.rint(np.log2(means) * per_octave).astype(int)
        return int(keys[0]), int(keys[1])


def blend(mixes: Sequence[tuple[LengthMix, float]], size: int = 512) -> LengthMix:
    """One mix of about ``size`` pairs that holds each of the mixes in proportion to its weight."""
    total = sum(weight for _, weight in mixes)
    picks = [(mix, round(size * weight / total)) for mix, weight in mixes]
    rows = [(mix, np.linspace(0, len(mix.input_tokens) - 1, count).astype(np.int64)) for mix, count in picks if count]
    return LengthMix(
        np.concatenate([mix.input_tokens[row] for mix, row in rows]),
        np.concatenate([mix.output_tokens[row] for mix, row in rows]),
    )


def mix_from_histograms(
    input_histogram: Histogram, output_histogram: Histogram, *, mean_input: float, mean_output: float, size: int = 512
) -> LengthMix:
    """Mix of ``size`` pairs whose marginals follow the histograms and whose means are the exact observed ones.

    Raises InvalidInputError when a histogram is empty.
    """
    fractions = (np.arange(size) + 0.5) / size
    rng = np.random.default_rng(0)
    inputs = rng.permutation(_quantiles(input_histogram, fractions))
    outputs = rng.permutation(_quantiles(output_histogram, fractions))
    return LengthMix(_with_mean(inputs, mean_input), _with_mean(outputs, mean_output))


def _quantiles(histogram: Histogram, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths at cumulative fractions, log-linear inside each bucket."""
    bounds = np.array([bound for bound, _ in histogram])
    counts = np.array([count for _, count in histogram])
    if not len(counts) or not counts[-1] > 0:
        raise InvalidInputError("length histogram is empty: must hold at least one finished request")
    bounds = np.where(np.isinf(bounds), 2 * np.max(bounds[np.isfinite(bounds)], initial=1.0), bounds)
    lower = np.concatenate([[0.5], np.maximum(bounds[:-1], 0.5)])
    cumulative = np.concatenate([[0.0], counts / counts[-1]])
    bucket = np.clip(np.searchsorted(cumulative, fractions, side="left") - 1, 0, len(bounds) - 1)
    share = cumulative[bucket + 1] - cumulative[bucket]
    inside = (fractions - cumulative[bucket]) / np.where(share > 0, share, 1.0)
    return np.asarray(np.exp(np.log(lower[bucket]) * (1 - inside) + np.log(bounds[bucket]) * inside))


def _with_mean(lengths: NDArray[np.float64], mean: float) -> NDArray[np.int64]:
    """Whole lengths of 1 and more; what is above 1 is scaled to the mean, if one is known."""
    if not mean > 0:
        return np.maximum(1, np.rint(lengths)).astype(np.int64)
    above_one = lengths - 0.5  # buckets begin at 0.5, so this is positive
    above_one *= max(0.0, mean - 1.0) / above_one.mean()
    # Rounding the running sum hands each remainder on to the next length, so the mean stays.
    return 1 + np.diff(np.rint(np.cumsum(above_one)), prepend=0.0).astype(np.int64)
