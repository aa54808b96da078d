"""One governor per claimed pod, and what to do while a pod cannot be read.

A governor holds its clock while it knows nothing new. That is right for a reading
that got lost, and wrong for a pod that stays silent, because a server that is
overloaded often is: then the ceiling, and afterwards a new start from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from dynawatt.agent.claims import PodClaim
from dynawatt.governing.governor import ClockGovernor, GovernorReason
from dynawatt.ports import PodKey, Scrape

BLIND_S: Final = 5.0
"""Without a usable reading for so long, a pod gets its ceiling."""

_BLIND: Final = "blind"
REASONS: Final = (*(reason.value for reason in GovernorReason), _BLIND)
"""All values of ``Governed.reason``."""


class Governed(NamedTuple):
    """What is chosen for one pod, and why."""

    clock_mhz: int
    reason: str
    """A GovernorReason; "blind" while the pod cannot be read."""
    problem: str
    """Why it cannot; empty before it serves, and when it can."""


@dataclass(slots=True)
class _Pod:
    claim: PodClaim
    known_s: float
    """When it was last read."""
    governor: ClockGovernor | None = None
    """None while the pod cannot be read."""
    problem: str = ""

    def follow(self, claim: PodClaim) -> None:
        """Go on with a claim that may have been rewritten."""
        before, self.claim = self.claim, claim
        if self.governor is None or _terms(before) == _terms(claim):
            return
        if _objectives(before) == _objectives(claim):
            self.governor.adopt(claim.table, claim.floor_mhz, claim.ceiling_mhz)
        else:  # what was counted as late is not late any more, or the other way round
            self.governor = self._new_governor()

    def step(self, now_s: float, scrape: Scrape | None) -> None:
        reading = scrape.reading if scrape is not None else None
        if scrape is not None and reading is not None and reading.is_known:
            if self.governor is None:
                self.governor = self._new_governor()
            self.governor.step(scrape.now_s, reading)
            self.known_s, self.problem = now_s, ""
            return
        self.problem = "it has no address yet" if scrape is None else scrape.problem
        if now_s - self.known_s >= BLIND_S:
            self.governor = None

    def governed(self) -> Governed:
        if self.governor is None:
            return Governed(self.claim.ceiling_mhz, _BLIND, self.problem if self.claim.ready else "")
        return Governed(self.governor.clock_mhz, self.governor.reason.value, "")

    def _new_governor(self) -> ClockGovernor:
        return ClockGovernor(self.claim.table, self.claim.floor_mhz, self.claim.ceiling_mhz)


class PodGovernors:
    """The governors of one node's pods."""

    def __init__(self) -> None:
        self._pods: dict[PodKey, _Pod] = {}

    def step(
        self, now_s: float, claims: Mapping[PodKey, PodClaim], scrapes: Mapping[PodKey, Scrape]
    ) -> dict[PodKey, Governed]:
        """The clocks from now on; ``now_s`` is monotonic. Pods without a claim are forgotten."""
        self._pods = {pod: self._pods.get(pod) or _Pod(claim, now_s) for pod, claim in claims.items()}
        governed: dict[PodKey, Governed] = {}
        for key, pod in self._pods.items():
            pod.follow(claims[key])
            pod.step(now_s, scrapes.get(key))
            governed[key] = pod.governed()
        return governed


def _terms(claim: PodClaim) -> tuple[object, ...]:
    return (claim.floor_mhz, claim.ceiling_mhz, claim.table, _objectives(claim))


def _objectives(claim: PodClaim) -> tuple[object, ...]:
    """What late is."""
    return (claim.table.tbt_s, claim.ttft_s)
