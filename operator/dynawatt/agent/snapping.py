"""Counts the claims that ask for clocks which their GPUs do not have."""

from collections.abc import Mapping

from dynawatt.agent.claims import PodClaim
from dynawatt.agent.enforcing import ClockRange
from dynawatt.ports import PodKey


class SnapCount:
    """A claim that its GPUs cannot follow to the letter counts once, however long it stands."""

    def __init__(self) -> None:
        self.total = 0
        self._snapped: dict[PodKey, tuple[ClockRange, ClockRange]] = {}

    def take(self, claims: Mapping[PodKey, PodClaim], granted: Mapping[PodKey, ClockRange]) -> None:
        """Take note of all valid claims, and of what was granted to those that are honoured now."""
        # A claim that is not honoured for a while, as when its Lease is stale, is still the same claim.
        self._snapped = {pod: snap for pod, snap in self._snapped.items() if pod in claims}
        for pod, given in granted.items():
            snap = ClockRange(claims[pod].floor_mhz, claims[pod].ceiling_mhz), given
            if snap[0] != given and self._snapped.get(pod) != snap:
                self.total += 1
            self._snapped[pod] = snap
