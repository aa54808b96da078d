"""Sizes static fleets: the best prefill chunk of a shape, and how many replicas a peak needs.

Everything by simulation of fleets of just that size, at the default clock unless another is given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.load_sweep import fleet_sweep
from dynawatt.simulation.operating_point import UnitLoad, saturation_rps, simulate_point, unit_load
from dynawatt.simulation.settings import EngineSettings
from dynawatt.workload.arrivals import check_cv
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives

CHUNK_CANDIDATES: Final = (512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384)
"""Values of ``--max-num-batched-tokens`` worth trying."""
_REQUESTS: Final = 3000
_REQUESTS_PER_REPLICA: Final = 1000
"""Large fleets are simulated with so many requests per replica, so that they are full before the measurement."""


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What a fleet is sized for, but how much of it. Raises InvalidInputError when it makes no sense."""

    mix: LengthMix
    cv: float
    """Coefficient of variation of the gaps between requests."""
    objectives: LatencyObjectives
    percentile: float
    """Fraction of requests, and of gaps, that must be within the objectives."""
    seed: int = 1
    """Of the simulated load."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_cv(self.cv)
        if not 0 < self.percentile < 1:
            raise InvalidInputError(f"SLO percentile {self.percentile}: must be a fraction, such as 0.99")

    def load(self, replicas: int) -> UnitLoad:
        """Requests for a fleet of this size, at rate 1."""
        return unit_load(self.mix, self.cv, max(_REQUESTS, replicas * _REQUESTS_PER_REPLICA), self.seed)


def tune_chunk(
    replica: ReplicaProfile,
    base_settings: EngineSettings,
    demand: Demand,
    candidates: Sequence[int] = CHUNK_CANDIDATES,
) -> tuple[EngineSettings, float]:
    """The settings with the prefill chunk that carries most, and what a replica alone carries with it in requests/s.

    Args:
        replica: Models of the shape.
        base_settings: All settings but ``max_num_batched_tokens``; ``max_num_seqs`` is lowered where vLLM would not
            start with it.
        demand: What the replica is to carry.
        candidates: Values of ``max_num_batched_tokens``; those beyond the profile's range are passed over.

    Raises InvalidInputError when no candidate is within the profile's range.
    """
    covered = sorted({chunk for chunk in candidates if 1 <= chunk <= replica.max_iteration_tokens})
    if not covered:
        raise InvalidInputError(
            f"max_num_batched_tokens {', '.join(map(str, candidates))}: the profile {replica.name} covers "
            f"1 to {replica.max_iteration_tokens}"
        )
    tried = []
    for chunk in covered:
        seqs = min(base_settings.max_num_seqs, chunk)
        settings = replace(base_settings, max_num_batched_tokens=chunk, max_num_seqs=seqs)
        tried.append((settings, capacity_rps(replica, settings, demand)))
    return max(tried, key=lambda pair: pair[1])


def capacity_rps(
    replica: ReplicaProfile,
    settings: EngineSettings,
    demand: Demand,
    *,
    replicas: int = 1,
    clock_mhz: int | None = None,
) -> float:
    """Highest load of each of ``replicas`` within the SLO, in requests/s; at the default clock unless one is given.

    It is the lower end of a bracket 2 % wide; 0 where there is none worth a replica.
    """
    shape = ReplicaShape(replica, settings)
    clock_mhz = clock_mhz or replica.gpu.default_clock_mhz
    sweep = fleet_sweep(
        shape,
        demand.objectives,
        demand.load(replicas),
        replicas=replicas,
        clock_mhz=clock_mhz,
        limit_rps=saturation_rps(shape, demand.mix, clock_mhz),
    )
    return sweep.bracket(demand.percentile)


def replicas_for(peak_rps: float, replica: ReplicaProfile, settings: EngineSettings, demand: Demand) -> int:
    """Fewest replicas at the default clock that keep a steady load of ``peak_rps`` within the SLO.

    Fleets of the very size are simulated: replicas that share a load carry more than one alone. Raises
    InvalidInputError when a replica carries nothing within the SLO.
    """
    if not 0 <= peak_rps < math.inf:
        raise InvalidInputError(f"peak load {peak_rps} requests/s: must be 0 or more")
    alone_rps = capacity_rps(replica, settings, demand)
    if alone_rps <= 0:
        raise InvalidInputError(
            f"SLO of {demand.percentile:.1%}: a replica of {replica.name} misses it under any load; "
            "loosen the objectives or choose more GPUs per replica"
        )
    if peak_rps == 0:
        return 1
    shape = ReplicaShape(replica, settings)

    def attains(count: int) -> bool:
        point = simulate_point(
            shape,
            demand.objectives,
            demand.load(count),
            peak_rps / count,
            replicas=count,
            clock_mhz=replica.gpu.default_clock_mhz,
        )
        return point.attains(demand.percentile)

    enough, too_few = max(1, math.ceil(peak_rps / alone_rps)), 0
    while not attains(enough):  # noise: what one carries alone it nearly always carries among others
        enough, too_few = enough + 1, enough
    while enough - too_few > 1:
        count = (enough + too_few) // 2
        if attains(count):
            enough = count
        else:
            too_few = count
    return enough
