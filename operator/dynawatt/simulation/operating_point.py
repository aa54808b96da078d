"""One operating point by simulation: equal replicas at one clock under a steady load.

The load is a renewal process at rate 1 that is stretched to each rate: the same
requests come in the same order with the same bursts. These common random
numbers make neighbouring points comparable, and latency almost always monotone
in the load.

A run begins with requests that only fill the fleet. First tokens are counted
for every request after them, however late; gaps, energy and tokens until the
last arrival, so that neither the filling nor the emptying of the fleet is taken
for its steady state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.surface import ClassLatency, SurfacePoint
from dynawatt.simulation.confidence import attainment_interval
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.simulation.tally import Tally
from dynawatt.workload.arrivals import renewal_arrivals
from dynawatt.workload.classes import CLASS_NAMES
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

_WARM_UP: Final = 0.1
"""Requests that fill the fleet, per measured one."""
_BATCHES: Final = 10
_MOST_BURSTY: Final = 8.0
"""At most so many times the requests are measured of bursty loads."""
_FEWEST_CLASS_REQUESTS: Final = 200
"""A class with fewer says little about its 99th percentile."""
SATURATING: Final = 16_384
"""Requests that tell what a replica can serve to within 1 %, where the default tells it to within some percent."""
_BURST: Final = 1200
"""Enough to know which loads are worth simulating, if they are several batches."""
_BATCHES_OF_A_BURST: Final = 4
"""In fewer, long answers all begin and end together, and only the first prefills keep the replica busy."""
_ANY: Final = LatencyObjectives(((None, 1.0),), 1.0)
"""Objectives of a replica whose latency nobody looks at."""


@dataclass(frozen=True, slots=True, eq=False)
class UnitLoad:
    """Requests at a mean rate of 1/s, and how many of them come before the measurement."""

    trace: Trace
    warm_up: int

    def at(self, rate_rps: float) -> Trace:
        """The same requests at another rate."""
        return Trace(self.trace.arrival_s / rate_rps, self.trace.input_tokens, self.trace.output_tokens)


def unit_load(mix: LengthMix, cv: float, requests: int, seed: int, *, least: int = 0) -> UnitLoad:
    """A load with gaps of this coefficient of variation, whose last ``requests`` are measured.

    Of a load burstier than Poisson more is measured, because its bursts are few; and of every load at least ``least``
    requests. Lengths are those of the mix in random order, repeated as often as needed: so the load has the mix's own
    mean. The rate is exact as well, by stretching the gaps that were drawn.
    """
    requests = max(least, round(requests * min(max(1.0, cv**2), _MOST_BURSTY)))
    warm_up = round(_WARM_UP * requests)
    count = requests + warm_up
    rng = np.random.default_rng(seed)
    arrival_s = renewal_arrivals(1.0, cv, count, rng)
    pick = _pick(mix, count, rng)
    trace = Trace(arrival_s * (count / arrival_s[-1]), mix.input_tokens[pick], mix.output_tokens[pick])
    return UnitLoad(trace, warm_up)


def simulate_point(
    shape: ReplicaShape,
    objectives: LatencyObjectives,
    load: UnitLoad,
    rate_rps: float,
    *,
    replicas: int,
    clock_mhz: float,
) -> SurfacePoint:
    """What each of ``replicas`` does when ``rate_rps`` arrive at every one of them on average."""
    core = FleetCore([shape], objectives)
    for _ in range(replicas):
        core.add_replica(0, clock_mhz=clock_mhz)
    trace = load.at(rate_rps * replicas)
    cuts = np.linspace(load.warm_up, len(trace) - 1, _BATCHES + 1).astype(np.int64)
    times_s = trace.arrival_s[cuts]
    steady = []
    first = 0
    for until_s in times_s:
        last = int(np.searchsorted(trace.arrival_s, until_s, side="left"))
        core.advance(float(until_s), _rows(trace, first, last))
        steady.append(core.tally())
        first = last
    core.advance(float(np.nextafter(trace.span_s, np.inf)), _rows(trace, first, len(trace)))
    core.finish(inf)
    return _point(rate_rps, replicas, float(times_s[-1] - times_s[0]), steady, core.tally())


def saturation_rps(shape: ReplicaShape, mix: LengthMix, clock_mhz: float, requests: int = _BURST) -> float:
    """Requests per second of a replica that never runs dry, because so many came at once, several batches at least.

    Half of them are counted: of the default number, whose lengths happen to be longer or shorter than the mix's, the
    error is some percent. Raises InvalidInputError when no request fits into its KV cache.
    """
    requests = max(requests, _BATCHES_OF_A_BURST * shape.settings.max_num_seqs)
    pick = _pick(mix, requests, np.random.default_rng(0))
    burst = Trace(np.zeros(requests), mix.input_tokens[pick], mix.output_tokens[pick])
    core = FleetCore([shape], _ANY, keep_requests=True)
    core.add_replica(0, clock_mhz=clock_mhz)
    core.advance(np.nextafter(0.0, 1.0), burst)
    core.finish(inf)
    found_s = core.requests().end_s
    ends_s = np.sort(found_s[np.isfinite(found_s)])
    if not len(ends_s):
        raise InvalidInputError(
            f"KV cache of {shape.settings.kv_capacity_tokens} tokens: no request of this mix fits into it; "
            "choose more GPUs per replica"
        )
    # Neither while the batch fills nor while it empties, unless all of them end at once.
    early, late = len(ends_s) // 4, 3 * len(ends_s) // 4
    span_s = float(ends_s[late] - ends_s[early])
    return (late - early) / span_s if span_s > 0 else len(ends_s) / float(ends_s[-1])


def _pick(mix: LengthMix, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of the mix in random order, each as often as any other but once."""
    rows = len(mix.input_tokens)
    return np.concatenate([rng.permutation(rows) for _ in range(-(-count // rows))])[:count]


def _rows(trace: Trace, first: int, last: int) -> Trace:
    return Trace(trace.arrival_s[first:last], trace.input_tokens[first:last], trace.output_tokens[first:last])


@dataclass(frozen=True, slots=True, eq=False)
class _Batches:
    """Counts by batch and class, each of shape (batches, classes)."""

    ttft_met: NDArray[np.float64]
    ttfts: NDArray[np.float64]
    gaps_met: NDArray[np.float64]
    gaps: NDArray[np.float64]


def _point(rate_rps: float, replicas: int, span_s: float, steady: Sequence[Tally], end: Tally) -> SurfacePoint:
    """From the tallies at the cuts, of which the first ends the warm-up, and the one after the last request."""
    measured, answered = steady[-1] - steady[0], end - steady[0]
    until_end = [*steady[:-1], end]
    # A request that can never fit is rejected: it has no first token and misses its objective.
    rejected = end.requests - end.ttft_histogram.sum(axis=1)
    batches = _Batches(
        ttft_met=_steps([tally.ttft_met for tally in until_end]),
        ttfts=_steps([tally.ttft_histogram.sum(axis=1) for tally in until_end]) + rejected / _BATCHES,
        gaps_met=_steps([tally.gaps_met for tally in steady]),
        gaps=_steps([tally.gaps for tally in steady]),
    )
    overall = _latency(None, batches, answered, measured)
    many = np.flatnonzero(batches.ttfts.sum(axis=0) >= _FEWEST_CLASS_REQUESTS)
    return SurfacePoint(
        rate_rps=rate_rps,
        ttft_attainment=overall.ttft_attainment,
        tbt_attainment=overall.tbt_attainment,
        ttft_p99_s=overall.ttft_p99_s,
        tbt_p99_s=overall.tbt_p99_s,
        power_w=float(measured.energy_j.sum()) / span_s / replicas,
        ttft_p50_s=overall.ttft_p50_s,
        tbt_p50_s=overall.tbt_p50_s,
        output_tokens_per_s=measured.output_tokens / span_s / replicas,
        ttft_interval=overall.ttft_interval,
        tbt_interval=overall.tbt_interval,
        classes=tuple(_latency(int(index), batches, answered, measured) for index in many),
        ttft_mean_s=_mean(answered.ttft_sum_s, answered.ttft_histogram),
        tbt_mean_s=_mean(measured.gap_sum_s, measured.gaps),
    )


def _steps(cumulative: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    return np.diff(np.array(cumulative, dtype=np.float64), axis=0)


def _latency(index: int | None, batches: _Batches, answered: Tally, measured: Tally) -> ClassLatency:
    """Of one class, or of all together."""
    columns = slice(None) if index is None else slice(index, index + 1)
    ttft_met, ttfts = batches.ttft_met[:, columns].sum(axis=1), batches.ttfts[:, columns].sum(axis=1)
    gaps_met, gaps = batches.gaps_met[:, columns].sum(axis=1), batches.gaps[:, columns].sum(axis=1)
    return ClassLatency(
        name="" if index is None else CLASS_NAMES[index],
        requests=float(ttfts.sum()),
        gaps=float(gaps.sum()),
        ttft_attainment=_share(ttft_met, ttfts),
        tbt_attainment=_share(gaps_met, gaps),
        ttft_p50_s=_known(answered.ttft_quantile_s(0.5, index)),
        ttft_p99_s=_known(answered.ttft_quantile_s(0.99, index)),
        tbt_p50_s=_known(measured.tbt_quantile_s(0.5, index)),
        tbt_p99_s=_known(measured.tbt_quantile_s(0.99, index)),
        ttft_interval=attainment_interval(ttft_met, ttfts, float(ttfts.sum())),
        # All gaps of one iteration are one trial.
        tbt_interval=attainment_interval(gaps_met, gaps, measured.iterations),
    )


def _share(met: NDArray[np.float64], total: NDArray[np.float64]) -> float:
    """Attainment; nothing asked is nothing missed."""
    return float(met.sum() / total.sum()) if total.sum() > 0 else 1.0


def _mean(sums_s: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Over all classes; 0 of nothing."""
    return float(sums_s.sum() / counts.sum()) if counts.sum() else 0.0


def _known(quantile_s: float) -> float:
    """0 for a quantile of nothing."""
    return 0.0 if np.isnan(quantile_s) else quantile_s
