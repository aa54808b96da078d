"""Policies that leave replicas alone and have clocks governed only.

They run on the untouched fleet: the replicas, prefill chunk and inventory of
single-pool, which is sized for the peak with requests served in the order of
arrival. Only the order in which requests wait differs between them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dynawatt.simulation.policy import FleetPlan, FleetView, Governed, Group
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.static_policies import FixedFleet

CLOCK_ONLY: Final = {f"clock-only-{order.value}": order for order in QueueOrder}
"""Queue order by policy name."""


@dataclass(frozen=True, slots=True)
class ClockOnlyPolicy(FixedFleet):
    """A fixed fleet, each replica with a governor of its own."""

    claim: Governed

    @property
    def govern_interval_s(self) -> None:
        """The governors do all of it."""

    def initial(self) -> FleetPlan:
        """The fleet, its clocks left to governors."""
        group = Group(shape=0)
        return FleetPlan({group: self.replicas}, governed={group: self.claim})

    def govern(self, now_s: float, view: FleetView) -> Mapping[int, float]:
        """Leaves every clock to its governor."""
        del now_s, view
        return {}
