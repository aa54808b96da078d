"""Better flags for the replicas that a service has, found by simulating them.

Flags are judged by what a request costs at the clock where it costs least, in
joules beyond what idle GPUs draw. Of all that are tried the best one is lucky in
the load it was tried under; so what it saves is measured under another one,
against the present flags under the same. A change that saves too little is left
out, and so is each part of a change.

About fifty sweeps of a small fleet are simulated: 3 to 9 seconds of one core in
all, and up to eight times that for bursty loads.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.simulation.energy_tuning import THRESHOLDS, EnergyTuned, judged, tune_for_energy
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.sizing import Demand
from dynawatt.simulation.surface_question import SurfaceQuestion

WORTHWHILE: Final = 0.03
"""Of the energy: less is within the noise, and not worth a restart."""
CHUNKS: Final = (256, 512, 768, 1024, 1280, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384)
"""Values of ``--max-num-batched-tokens`` that are tried."""
_ORDERS: Final = (QueueOrder.PRIORITY, QueueOrder.DEADLINE)


@dataclass(frozen=True, slots=True)
class BetterFlags:
    """Settings that are worth changing to, and what a request costs with them."""

    tuned: EnergyTuned
    saving: float | None
    """Of all energy, relative to the present settings; None where those miss the SLO under any load."""
    added_saving: float | None
    """Of all energy, relative to the best settings in the present queue order; likewise."""


@dataclass(frozen=True, slots=True)
class EngineFindings:
    """What flags could do for a replica."""

    present: EnergyTuned
    """As it is; where that misses the SLO under any load, a request's joules are infinite."""
    flags: BetterFlags | None
    """In the present queue order; None where no flags save enough."""
    orders: tuple[BetterFlags, ...]
    """In other queue orders, which do nothing before requests carry deadlines; each saves enough beyond the others."""


def engine_findings(question: SurfaceQuestion) -> EngineFindings:
    """The prefill chunk and threshold that save most, and the queue orders that would save more.

    Args:
        question: The replica with its present settings, its load, and the SLO: the first of the attainments.

    Raises InvalidInputError when no request fits into the replica's KV cache.
    """
    trial = _Trial(question)
    orders: list[BetterFlags] = []
    present = trial.rated(question.settings)
    best = trial.kept(present, trial.candidates(question.settings, THRESHOLDS))
    last = best
    for order in _ORDERS if best.capacity_rps > 0 else ():  # no order helps where nothing waits
        switched = replace(best.settings, queue_order=order)
        found = trial.kept(last, [trial.rated(switched), *trial.candidates(switched, ())])
        if found is not last:
            orders.append(BetterFlags(found, trial.saving(present, found), trial.saving(best, found)))
            last = found
    saving = trial.saving(present, best)
    flags = None if best is present else BetterFlags(best, saving, saving)
    return EngineFindings(present, flags, tuple(orders))


class _Trial:
    """Settings under the load of a question."""

    def __init__(self, question: SurfaceQuestion) -> None:
        replica = question.replica
        self._replica: ReplicaProfile = replica
        self._tuning, self._rating = (
            Demand(question.mix, question.binned_cv, question.objectives, question.attainments[0], seed)
            for seed in (question.seed, question.seed + 1)
        )
        thrifty = [clock for clock in question.clocks_mhz if clock <= replica.gpu.voltage_knee_mhz]
        thriftiest_mhz = max(thrifty, default=min(question.clocks_mhz))
        self._clocks_mhz = [clock for clock in sorted(question.clocks_mhz) if clock >= thriftiest_mhz]

    def candidates(self, base: EngineSettings, thresholds: Sequence[int]) -> Iterator[EnergyTuned]:
        """With the best chunk, then with the best chunk and threshold; none where the SLO is missed under any load."""
        base = replace(base, long_prefill_token_threshold=0)
        for clock_mhz in dict.fromkeys((self._clocks_mhz[0], self._clocks_mhz[-1])):
            found = self._tuned(base, CHUNKS, (), clock_mhz)
            if found.capacity_rps <= 0:
                continue
            yield self.rated(found.settings)
            if thresholds:
                chunk = found.settings.max_num_batched_tokens
                larger = [other for other in CHUNKS if 2 * chunk <= other <= self._replica.max_iteration_tokens]
                yield self.rated(self._tuned(base, (chunk, *larger[:1]), thresholds, clock_mhz).settings)
            return

    def rated(self, settings: EngineSettings) -> EnergyTuned:
        """At the clock where a request costs least, under a load that nothing was tuned under."""
        rated = (judged(self._replica, settings, self._rating, clock_mhz) for clock_mhz in self._clocks_mhz)
        return min(rated, key=lambda each: each.request_j)

    def kept(self, before: EnergyTuned, candidates: Iterable[EnergyTuned]) -> EnergyTuned:
        """What is left of changes that come one after the other when each has to be worthwhile."""
        for each in candidates:
            saving = self.saving(before, each)
            if each.capacity_rps > 0 and (saving is None or saving >= WORTHWHILE):
                before = each
        return before

    def saving(self, before: EnergyTuned, after: EnergyTuned) -> float | None:
        """Of the energy of as many GPUs as the larger of both fleets needs, those that are not needed idling.

        Both fleets are as large as the same load needs. None where one of them would never be large enough.
        """
        smaller_rps = min(before.capacity_rps, after.capacity_rps)
        if smaller_rps <= 0:
            return None
        idle_j = self._replica.tensor_parallel * self._replica.released_w / smaller_rps
        return (before.request_j - after.request_j) / (before.request_j + idle_j)

    def _tuned(
        self, base: EngineSettings, chunks: Sequence[int], thresholds: Sequence[int], clock_mhz: int
    ) -> EnergyTuned:
        return tune_for_energy(
            self._replica, base, self._tuning, chunks=chunks, thresholds=thresholds, clock_mhz=clock_mhz
        )
