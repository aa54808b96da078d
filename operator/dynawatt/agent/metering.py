"""Joules per GPU and pod, from counters that only know the GPU.

What a GPU used between two readings is charged to the pod that held it at the
first of them. Nothing is lost or invented: the sum over pods of a GPU is what its
counter moved, and a counter that fell (its driver restarted at zero) counts with
what it shows now. Series of pods that are gone stay long enough to be scraped;
then their joules count as GONE, so that the sum over all never falls.

Joules are kept in whole 1024ths. Sums of such numbers are exact in whatever order
they are added, up to 8e12 J: a sum that fell by a rounding error would look to
Prometheus like a counter that began anew, and be added a second time.
"""

from math import floor
from typing import Final, NamedTuple

from dynawatt.ports import PodKey

KEEP_S: Final = 600.0
"""How long what a gone pod used and served is still told."""
_PER_J: Final = 1024

NOBODY: Final = PodKey("", "")
"""Charged for a GPU that no pod, or more than one, holds."""
GONE: Final = PodKey("", "gone")
"""Has the joules of pods that are not told any more; no pod is without a namespace."""


class EnergyKey(NamedTuple):
    """One series of joules."""

    uuid: str
    pod: PodKey


class EnergyMeter:
    """Accumulates joules per GPU and pod."""

    def __init__(self) -> None:
        self._counter: dict[str, int] = {}
        self._holder: dict[str, PodKey] = {}
        self._total: dict[EnergyKey, int] = {}
        self._used_s: dict[PodKey, float] = {}

    def observe(self, *, uuid: str, counter_j: float, holder: PodKey, now_s: float) -> bool:
        """Take one reading of a GPU's counter; True when the counter fell, so its driver restarted."""
        now, before = floor(counter_j * _PER_J), self._counter.get(uuid)
        charged = self._holder.get(uuid, holder)
        restarted = before is not None and now < before
        delta = 0 if before is None else now if restarted else now - before
        self._charge(EnergyKey(uuid, charged), delta)
        self._charge(EnergyKey(uuid, holder), 0)  # so that a scrape sees the series begin at zero
        self._used_s[charged] = self._used_s[holder] = now_s
        self._counter[uuid] = now
        self._holder[uuid] = holder
        return restarted

    def totals_j(self, now_s: float) -> dict[EnergyKey, float]:
        """Joules of every series since the start; those of pods that ended long ago as GONE."""
        for pod in [pod for pod, used_s in self._used_s.items() if now_s - used_s > KEEP_S and pod != NOBODY]:
            del self._used_s[pod]
            # All at once: a pod's own sum must not fall while it is told, even if it came back on another GPU.
            for key in [key for key in self._total if key.pod == pod]:
                self._charge(EnergyKey(key.uuid, GONE), self._total.pop(key))
        return {key: total / _PER_J for key, total in self._total.items()}

    def _charge(self, key: EnergyKey, amount: int) -> None:
        self._total[key] = self._total.get(key, 0) + amount
