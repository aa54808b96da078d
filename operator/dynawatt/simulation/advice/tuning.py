"""Engine flags for a load: tuned for the fewest joules, and kept where they already are as good."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Final

from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.energy_tuning import CHUNKS, THRESHOLDS, tune_for_energy
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.sizing import capacity_rps, tune_chunk
from dynawatt.simulation.study import Study

_COARSE_CHUNKS: Final = (512, 1024, 1536, 2048, 3072)
_COARSE_THRESHOLDS: Final = (256,)
"""For shapes that are only compared with: enough to tell them apart."""
_WORTHWHILE: Final = 0.03
"""Of the requests that a replica carries: a smaller gain is within the noise, and not worth a restart."""


@dataclass(frozen=True, slots=True)
class TunedFlags:
    """What a replica carries with the user's flags, and with better ones."""

    shape: ReplicaShape
    """The user's own shape where no flags are better."""
    before_rps: float
    """Of one replica alone at its default clock, within the SLO; 0 where it never meets the SLO."""
    after_rps: float
    changed: bool


def tuned_flags(study: Study, present: ReplicaShape) -> TunedFlags:
    """Better flags for the user's own tensor-parallel degree and queue order, if there are any."""
    demand, replica = study.demand(), present.replica
    before_rps = capacity_rps(replica, present.settings, demand)
    shape = tuned_shape(study, replica, present.settings, CHUNKS, THRESHOLDS)
    if shape is None:
        return TunedFlags(present, before_rps, before_rps, False)
    after_rps = capacity_rps(replica, shape.settings, demand)
    if after_rps <= before_rps * (1 + _WORTHWHILE):
        return TunedFlags(present, before_rps, before_rps, False)
    return TunedFlags(shape, before_rps, after_rps, True)


def compared_shape(study: Study, tensor_parallel: int, order: QueueOrder) -> ReplicaShape | None:
    """A shape to compare with, roughly tuned; None where it carries nothing within the SLO."""
    replica = study.profiles[tensor_parallel]
    return tuned_shape(study, replica, study.base_settings(replica, order), _COARSE_CHUNKS, _COARSE_THRESHOLDS)


def tuned_shape(
    study: Study,
    replica: ReplicaProfile,
    settings: EngineSettings,
    chunks: Sequence[int],
    thresholds: Sequence[int],
) -> ReplicaShape | None:
    """The prefill chunk and threshold of the fewest joules per request.

    Where the clock that is thriftiest meets the SLO at no load, those that carry most at the default clock; None where
    that carries nothing either.
    """
    base = replace(settings, long_prefill_token_threshold=0)
    # Settings say nothing of threshold where urgent requests go first anyway.
    limits = thresholds if settings.queue_order is QueueOrder.FCFS else ()
    tuned = tune_for_energy(replica, base, study.demand(), chunks=chunks, thresholds=limits)
    if isfinite(tuned.request_j):
        return ReplicaShape(replica, tuned.settings)
    found, carried_rps = tune_chunk(replica, base, study.demand())
    return ReplicaShape(replica, found) if carried_rps > 0 else None
