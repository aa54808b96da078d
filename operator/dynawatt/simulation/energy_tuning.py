"""Engine settings for the fewest joules per request, rather than for the most requests.

A prefill chunk that just fits the TBT objective at the default clock is too long at
the clocks that save energy. So chunks are judged where a replica spends the least:
at the highest clock that needs no more than the lowest voltage. There a request
costs what the replica draws beyond an idle one at its capacity, divided by that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.load_sweep import fleet_sweep
from dynawatt.simulation.operating_point import saturation_rps
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.sizing import Demand

CHUNKS: Final = (512, 768, 1024, 1152, 1280, 1408, 1536, 1664, 1792, 2048, 2304, 2560, 3072, 4096)
"""Values of ``--max-num-batched-tokens``; fine where mixed steps take about 100 ms."""
THRESHOLDS: Final = (128, 192, 256, 320, 384, 512)
"""Values of ``--long-prefill-token-threshold`` tried with the best chunk and with twice that."""
_FLEET: Final = 4
"""Replicas that are simulated together."""
_PAST_THE_BEST: Final = 3
"""Chunks in a row that are worse than the best one before the larger ones are given up."""


@dataclass(frozen=True, slots=True)
class EnergyTuned:
    """Settings and what a request costs with them."""

    settings: EngineSettings
    request_j: float
    """Beyond what idle GPUs draw, at capacity; infinite where nothing is carried within the SLO."""
    capacity_rps: float
    """Of each replica in a small fleet, at the clock it was tuned at."""


def tune_for_energy(
    replica: ReplicaProfile,
    base_settings: EngineSettings,
    demand: Demand,
    *,
    chunks: Sequence[int] = CHUNKS,
    thresholds: Sequence[int] = THRESHOLDS,
    clock_mhz: int | None = None,
) -> EnergyTuned:
    """The prefill chunk and threshold with the fewest joules per request.

    Args:
        replica: Models of the shape.
        base_settings: All other settings; ``max_num_seqs`` is lowered where vLLM would not start with it.
        demand: What the replicas are to carry.
        chunks: Values of ``max_num_batched_tokens``; those beyond the profile's range are passed over.
        thresholds: Values of ``long_prefill_token_threshold`` to try beside none.
        clock_mhz: Where they are judged; the thriftiest clock where it is left out.

    Raises InvalidInputError when no chunk is within the profile's range.
    """
    covered = [chunk for chunk in sorted(set(chunks)) if 1 <= chunk <= replica.max_iteration_tokens]
    if not covered:
        raise InvalidInputError(
            f"max_num_batched_tokens {', '.join(map(str, chunks))}: the profile {replica.name} covers "
            f"1 to {replica.max_iteration_tokens}"
        )

    def tried(chunk: int, threshold: int = 0) -> EnergyTuned:
        settings = replace(
            base_settings,
            max_num_batched_tokens=chunk,
            max_num_seqs=min(base_settings.max_num_seqs, chunk),
            long_prefill_token_threshold=threshold,
        )
        return judged(replica, settings, demand, clock_mhz)

    best = _first_valley(tried(chunk) for chunk in covered)
    chunk = best.settings.max_num_batched_tokens
    larger = [chunk, *[other for other in covered if other >= 2 * chunk][:1]]
    limited = [tried(size, threshold) for size in larger for threshold in thresholds if threshold < size]
    return min([best, *limited], key=lambda each: each.request_j)


def _first_valley(ascending: Iterator[EnergyTuned]) -> EnergyTuned:
    """The best before several in a row are worse: beyond the TBT objective larger chunks only get worse."""
    best, worse = next(ascending), 0
    for each in ascending:
        if each.request_j < best.request_j:
            best, worse = each, 0
        elif best.request_j < inf:
            worse += 1
        if worse == _PAST_THE_BEST:
            break
    return best


def judged(
    replica: ReplicaProfile, settings: EngineSettings, demand: Demand, clock_mhz: int | None = None
) -> EnergyTuned:
    """What a request costs with these settings, at the thriftiest clock unless another one is given."""
    shape = ReplicaShape(replica, settings)
    clock_mhz = clock_mhz or _thriftiest_mhz(replica)
    sweep = fleet_sweep(
        shape,
        demand.objectives,
        demand.load(1),
        replicas=_FLEET,
        clock_mhz=clock_mhz,
        limit_rps=saturation_rps(shape, demand.mix, clock_mhz),
    )
    capacity_rps = sweep.bracket(demand.percentile)
    if capacity_rps <= 0:
        return EnergyTuned(settings, inf, 0.0)
    beyond_idle_w = sweep.at(capacity_rps).power_w - replica.tensor_parallel * replica.released_w
    return EnergyTuned(settings, beyond_idle_w / capacity_rps, capacity_rps)


def _thriftiest_mhz(replica: ReplicaProfile) -> int:
    """The highest clock at the lowest voltage: below it requests take longer and cost no fewer joules."""
    return max(clock for clock in replica.gpu.supported_clocks_mhz if clock <= replica.gpu.voltage_knee_mhz)
