"""Runs a fleet under a policy slot by slot."""

from collections.abc import Callable
from typing import Final

from dynawatt.forecast.slots import SLOT_S
from dynawatt.simulation.driver import SimulationSettings, drive
from dynawatt.simulation.managed_fleet import ManagedFleet
from dynawatt.simulation.policy import Policy
from dynawatt.simulation.results import PolicyResult
from dynawatt.simulation.slots.core import SurfaceCore
from dynawatt.simulation.slots.load import SlotLoad
from dynawatt.simulation.study import Study

LEAST_INTERVAL_S: Final = 60.0
"""A policy is not asked more often."""


def simulate_slots(
    policy: Policy,
    load: SlotLoad,
    study: Study,
    settings: SimulationSettings,
    on_progress: Callable[[float], None] | None = None,
) -> PolicyResult:
    """Run a load through a fleet whose replicas do what their surfaces say.

    The policy is asked at most every minute. Governors are where they settle for the load of the interval.

    Args:
        policy: Decides about replicas and clocks.
        load: Counts up to the settings' horizon.
        study: Where surfaces come from.
        settings: Duration and inventory; clocks change without delay.
        on_progress: Called with the virtual time in s, once per point of the time series.

    Raises InvalidInputError when the initial fleet does not fit the inventory.
    """
    core = SurfaceCore(
        settings.physics.of(policy.shapes),
        study,
        load,
        pool_classes=policy.pool_classes,
        eligible=policy.eligible,
        predictor=settings.predictor,
    )

    def advance(fleet: ManagedFleet, until_s: float) -> None:
        arrivals = load.between(fleet.now_s, until_s)
        if claims := fleet.claims:
            fleet.set_clocks(core.settled_clocks(claims, arrivals, until_s - fleet.now_s))
        core.advance(until_s, arrivals, load.counted_between(fleet.now_s, until_s))
        fleet.settle()

    return drive(policy, core, settings, advance, on_progress, step_s=SLOT_S, least_interval_s=LEAST_INTERVAL_S)
