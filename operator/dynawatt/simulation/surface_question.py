"""What a surface depends on, and the fingerprint under which it is kept."""

import hashlib
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Final

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.clocked import ClockedReplica
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.operating_point import UnitLoad, unit_load
from dynawatt.simulation.settings import EngineSettings
from dynawatt.workload.arrivals import check_cv
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives

SURFACE_VERSION: Final = 5
"""Part of every fingerprint: raise it when the same question gets another answer."""

_CV_BINS_PER_OCTAVE: Final = 8
_TAIL_BINS_PER_OCTAVE: Final = 2
_FILLED: Final = 8
"""Replicas for which the requests of a question are enough, those included that only fill the fleet."""


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceQuestion:
    """All that a surface depends on. Raises InvalidInputError for what no surface can be made of."""

    replica: ReplicaProfile
    settings: EngineSettings
    mix: LengthMix
    cv: float
    """Coefficient of variation of the gaps between the service's requests."""
    objectives: LatencyObjectives
    attainments: tuple[float, ...]
    """Fractions of requests and gaps within the objectives whose capacities are bracketed."""
    clocks_mhz: tuple[int, ...]
    fleet_sizes: tuple[int, ...] = (1, 2, 4)
    """Must begin with 1."""
    requests: int = 3000
    """Measured at every point; more of burstier loads, and of fleets of more than eight replicas."""
    seed: int = 1
    _family: str | None = field(default=None, init=False, repr=False)
    """Once it was worked out."""

    def __post_init__(self) -> None:
        """Check what a caller could get wrong."""
        check_cv(self.cv)
        if not self.attainments or not all(0 < fraction < 1 for fraction in self.attainments):
            raise InvalidInputError(f"attainments {self.attainments}: give at least one, each between 0 and 1")
        if self.fleet_sizes[:1] != (1,):
            raise InvalidInputError(f"fleet sizes {self.fleet_sizes}: must begin with 1")

    @property
    def mix_bin(self) -> tuple[int, int]:
        """Mixes whose means lie in the same bin share a surface, if their tails do as well."""
        return self.mix.bin()

    @property
    def binned_cv(self) -> float:
        """What is simulated: the upper end of the bin that the CV falls into, at most 9 % above."""
        if self.cv <= 0:
            return 0.0
        # A CV on an edge belongs to it, rounding errors aside.
        octaves = math.ceil(math.log2(self.cv) * _CV_BINS_PER_OCTAVE - 1e-6) / _CV_BINS_PER_OCTAVE
        return math.exp2(octaves)

    def load(self, replicas: int) -> UnitLoad:
        """What a fleet of this size is simulated under, at rate 1.

        Each replica of a large fleet gets as many requests as one of eight does: a run that is shorter would be over
        before the fleet is full and its queues are as long as they become.
        """
        least = self.requests * replicas // _FILLED
        return unit_load(self.mix, self.binned_cv, self.requests, self.seed, least=least)

    def about(self, mix: LengthMix) -> "SurfaceQuestion":
        """The same question about another mix; the family, which both share, is worked out once."""
        other = replace(self, mix=mix)
        object.__setattr__(other, "_family", self.family())
        return other

    def family(self) -> str:
        """Equal for questions that differ in nothing but the mix; 32 hex digits."""
        if self._family is None:
            object.__setattr__(self, "_family", self._without_mix())
        assert self._family is not None
        return self._family

    def _without_mix(self) -> str:
        # Costs rather than coefficients: they change as well when the formulas between the two do.
        costs = [_values(self.replica.at_clock(clock_mhz)) for clock_mhz in self.clocks_mhz]
        default_idle_w = self.replica.loaded_idle_w(self.replica.gpu.default_clock_mhz)
        replica = (self.replica.tensor_parallel, self.replica.released_w, default_idle_w, costs)
        load = (self.binned_cv, self.requests, self.fleet_sizes, self.seed)
        slo = (asdict(self.objectives), self.attainments)
        return _digest(SURFACE_VERSION, replica, asdict(self.settings), load, slo)

    def fingerprint(self) -> str:
        """Equal for questions that share an answer, in every process; 32 hex digits."""
        # Equal means alone are not the same load: percentiles are decided by the long requests.
        tails = [np.quantile(tokens, 0.95) for tokens in (self.mix.input_tokens, self.mix.output_tokens)]
        return _digest(self.family(), self.mix_bin, [round(math.log2(tail) * _TAIL_BINS_PER_OCTAVE) for tail in tails])


def _values(costs: ClockedReplica) -> list[object]:
    values = [getattr(costs, each.name) for each in fields(costs)]
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in values]


def _digest(*parts: object) -> str:
    # repr of numbers, strings, tuples and dicts is exact and the same everywhere.
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
