"""Joules per GPU and pod, from counters that only know the GPU.

What a GPU used between two readings is charged to the pod that held it at the
first of them. Nothing is lost or invented: the sum over pods of a GPU is what its
counter moved, and a counter that fell (its driver restarted at zero) counts with
what it shows now. Series of pods that are gone stay long enough to be scraped.
"""

from typing import Final, NamedTuple

from dynawatt.ports import PodKey

_KEEP_S: Final = 600.0

NOBODY: Final = PodKey("", "")
"""Charged for a GPU that no pod, or more than one, holds."""


class EnergyKey(NamedTuple):
    """One exported series."""

    uuid: str
    pod: PodKey


class EnergyMeter:
    """Accumulates joules per GPU and pod."""

    def __init__(self) -> None:
        self._counter_j: dict[str, float] = {}
        self._holder: dict[str, PodKey] = {}
        self._total_j: dict[EnergyKey, float] = {}
        self._used_s: dict[EnergyKey, float] = {}

    def observe(self, *, uuid: str, counter_j: float, holder: PodKey, now_s: float) -> bool:
        """Take one reading of a GPU's counter; True when the counter fell, so its driver restarted."""
        before_j = self._counter_j.get(uuid)
        charged, next_charged = EnergyKey(uuid, self._holder.get(uuid, holder)), EnergyKey(uuid, holder)
        restarted = before_j is not None and counter_j < before_j
        delta_j = 0.0 if before_j is None else counter_j if restarted else counter_j - before_j
        self._total_j[charged] = self._total_j.get(charged, 0.0) + delta_j
        self._total_j.setdefault(next_charged, 0.0)  # so that a scrape sees the series begin at zero
        self._used_s[charged] = self._used_s[next_charged] = now_s
        self._counter_j[uuid] = counter_j
        self._holder[uuid] = holder
        return restarted

    def totals_j(self, now_s: float) -> dict[EnergyKey, float]:
        """Joules of every series since the start, without those that ended long ago."""
        for key in [key for key, used_s in self._used_s.items() if now_s - used_s > _KEEP_S]:
            del self._total_j[key], self._used_s[key]
        return dict(self._total_j)
