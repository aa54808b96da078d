"""Clocks of a planned service: of the fleet that is decided for, and of the replicas that serve now."""

from collections.abc import Mapping
from dataclasses import dataclass

from dynawatt.planning.curves import ShapeCurve
from dynawatt.planning.fleet_costs import CostRules, Service


@dataclass(frozen=True, slots=True)
class FleetClock:
    """A fleet at its least-watt clock."""

    open_replicas: int
    """How many serve; the others are parked at the lowest clock."""
    clock_mhz: int
    power_w: float


def fleet_clock(curve: ShapeCurve, replicas: int, rate_rps: float, costs: CostRules) -> FleetClock:
    """Of a fleet under a load; beyond its capacity all replicas serve at the highest clock."""
    serving = curve.open_replicas(replicas, rate_rps) if costs.packs else replicas
    overloaded = rate_rps > curve.capacity_rps(replicas)
    power_w = float(curve.busy_w(replicas)[-1]) if overloaded else curve.power_w(serving, rate_rps)
    parked_w = (replicas - serving) * curve.parked_w
    return FleetClock(serving, curve.clock_mhz(serving, rate_rps), power_w + parked_w)


def clocks_now(
    one: Service, fleet: tuple[int, int], costs: CostRules, *, pending: bool
) -> tuple[Mapping[str, int], str]:
    """By shape, for the replicas that serve once a decision is carried out as far as can be at once, and why.

    Args:
        one: The service.
        fleet: The decision: shape and count.
        costs: What counts as cost.
        pending: Whether it waits for replicas, so that all that is Ready goes on serving.
    """
    known = one.known(one.ready)
    shape, replicas = fleet
    serving = {
        column: int(count) if pending else min(int(count), replicas)
        for column, count in enumerate(known)
        if count and (pending or column == shape)
    }
    present_rps = one.state.present_rps
    capacity_rps = {column: one.curves[column].capacity_rps(count) for column, count in serving.items()}
    total_rps = sum(capacity_rps.values())
    names = list(one.state.curves)
    clocks = {
        names[column]: fleet_clock(
            one.curves[column], count, present_rps * (capacity_rps[column] / total_rps if total_rps else 1.0), costs
        ).clock_mhz
        for column, count in serving.items()
    }
    load = f"{present_rps:.1f} req/s on {sum(serving.values())} serving replicas"
    if not clocks:
        return clocks, "no replica serves yet"
    told = ", ".join(f"{clock} MHz" for clock in dict.fromkeys(clocks.values()))
    why = "needs the fewest watts" if present_rps <= total_rps else "is the fastest there is"
    return clocks, f"{load}: {told} {why}"
