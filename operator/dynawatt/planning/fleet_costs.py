"""What every fleet of every service carries and draws over the horizon, as arrays for the optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.planning.commitment import Fleets, Indices
from dynawatt.planning.curves import Numbers, ShapeCurve
from dynawatt.planning.service import ServiceState

_SHORTAGE: Final = 1000.0
"""What a second of any shortage is charged, in watts of the service's largest fleet: no start-up, and no horizon full
of idle replicas, costs as much."""


@dataclass(frozen=True, slots=True)
class CostRules:
    """What counts as cost."""

    packs: bool = False
    """Whether some replicas of a fleet may be parked while the others serve."""
    released_power_counts: bool = True
    """Whether GPUs that no pod holds draw power all the same."""

    def serving_w(self, curve: ShapeCurve, rates_rps: Numbers, most: int) -> Numbers:
        """Watts of fleets up to ``most`` replicas, [replicas, rate]; beyond its capacity those of a busy fleet."""
        watts = curve.packed_table(rates_rps, most) if self.packs else curve.power_table(rates_rps, most)
        return np.where(np.isfinite(watts), watts, curve.busy_w(most)[:, None])

    def released_w(self, curve: ShapeCurve) -> float:
        """Watts that the GPUs of a replica draw anyway."""
        return curve.released_w if self.released_power_counts else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """One service as the optimiser sees it; its shapes are numbered. Arrays are [shape] where nothing else is said."""

    state: ServiceState
    curves: Sequence[ShapeCurve]
    ready: Indices
    starting: Indices
    most_gpus: float
    """At any instant; infinite where all are free."""
    most_replicas: Indices
    """That may be planned."""

    @property
    def have(self) -> Indices:
        """Replicas that serve or start."""
        return self.ready + self.starting

    @property
    def gpus(self) -> Indices:
        """Of one replica."""
        return np.array([curve.gpus for curve in self.curves])

    @property
    def held_gpus(self) -> int:
        """Of all replicas that are there."""
        return int((self.have * self.gpus).sum())

    @property
    def home(self) -> int:
        """The shape that the service is of, or on its way to; the first where nothing is there."""
        if self.state.goal is not None and self.state.goal.shape in self.state.curves:
            return list(self.state.curves).index(self.state.goal.shape)
        held = (self.starting if self.starting.any() else self.ready) * self.gpus
        return int(held.argmax())

    @property
    def high_rps(self) -> Numbers:
        """What to be ready for, [slot]; the present load is part of the first slot."""
        high_rps = self.state.demand.high_rps.copy()
        high_rps[0] = max(high_rps[0], self.state.present_rps)
        return high_rps

    @property
    def expected_rps(self) -> Numbers:
        """What energy is counted at, [slot]."""
        return self.state.demand.expected_rps

    def known(self, counts: Indices) -> Indices:
        """Counts of replicas, but none above its curve: a larger fleet counts as the largest that is known."""
        return np.minimum(counts, [curve.most_replicas for curve in self.curves])


def service(state: ServiceState, total_gpus: float) -> Service:
    """Of a usable state; ``total_gpus`` of the inventory, free or held by anyone."""
    curves = list(state.usable_curves.values())
    ready, starting = (np.array([have.get(name, 0) for name in state.curves]) for have in (state.ready, state.starting))
    most_gpus = total_gpus if state.max_gpus is None else min(total_gpus, state.max_gpus)
    most = [int(min(state.max_replicas, curve.most_replicas, most_gpus // curve.gpus)) for curve in curves]
    found = Service(state, curves, ready, starting, most_gpus, np.array(most))
    if not found.most_replicas.any() and state.max_replicas > 0:
        # No shape fits at all: better to keep what is there than to switch the service off.
        found.most_replicas[:] = found.known(found.have)
    return found


def gather(services: Sequence[Service], rules: CostRules) -> "Tables":
    """The arrays of services whose forecasts have the same slots."""
    demand = services[0].state.demand
    slots = len(demand.high_rps)
    shapes = max(len(one.curves) for one in services)
    counts = 1 + max(int(max(one.most_replicas.max(), one.known(one.have).max())) for one in services)
    by_shape, by_fleet = (len(services), shapes), (len(services), shapes, counts)
    gpus, startup_s, start_j = np.ones(by_shape, dtype=int), np.zeros(by_shape), np.zeros(by_shape)
    allowed, capacity_rps = np.zeros(by_fleet, dtype=bool), np.zeros(by_fleet)
    power_w, net_w = np.zeros((2, slots, *by_fleet))
    for row, one in enumerate(services):
        for column, curve in enumerate(one.curves):
            most = min(counts - 1, curve.most_replicas)
            released_w = rules.released_w(curve)
            here = (row, column, slice(most + 1))
            gpus[row, column], startup_s[row, column] = curve.gpus, curve.startup_s
            start_j[row, column] = (curve.starting_w - released_w) * curve.startup_s
            capacity_rps[here] = curve.capacities_rps[: most + 1, -1]
            power_w[:, *here] = rules.serving_w(curve, one.expected_rps, most).T
            net_w[:, *here] = power_w[:, *here] - released_w * np.arange(most + 1)
        _allow(one, allowed[row])
    charges = [
        Charge.of(one, float(power_w[:, row].max()), float(capacity_rps[row].max())) for row, one in enumerate(services)
    ]
    net_j = cumulated(net_w * demand.slot_s)
    for row, charge in enumerate(charges):
        net_w[:, row] += charge.watts(capacity_rps[row]) + charge.missing_w(np.arange(counts))
    fleets = Fleets(
        slot_s=demand.slot_s,
        gpus=gpus,
        startup_s=startup_s,
        start_j=start_j,
        most_gpus=np.array([one.most_gpus for one in services]),
        allowed=allowed,
        spent_j=cumulated(net_w * demand.slot_s),
    )
    drawn_j = cumulated(power_w * demand.slot_s)
    owns = []
    for row, (one, charge) in enumerate(zip(services, charges, strict=True)):
        own = (row, slice(len(one.curves)))
        owns.append(
            Own(
                one,
                demand.slot_s,
                allowed[own],
                capacity_rps[own],
                drawn_j[:, *own],
                net_j[:, *own],
                fleets.spent_j[:, *own],
                start_j[own],
                fleets.lead_slots[own],
                charge,
            )
        )
    return Tables(fleets, owns)


@dataclass(frozen=True, slots=True, eq=False)
class Own:
    """The tables of one service; arrays are [shape, replicas], over time [slot, shape, replicas]."""

    service: Service
    slot_s: float
    allowed: NDArray[np.bool_]
    capacity_rps: Numbers
    drawn_j: Numbers
    """Energy of all GPUs of a fleet from now to the start of each slot."""
    net_j: Numbers
    """The same beyond what its GPUs draw released."""
    spent_j: Numbers
    """As ``Fleets.spent_j``: with the charges for shortages."""
    start_j: Numbers
    """Of one replica until it is Ready, beyond what its GPUs draw released, [shape]."""
    lead_slots: Indices
    """[shape]."""
    charge: "Charge"

    @property
    def slots(self) -> int:
        """Length of the horizon."""
        return len(self.spent_j) - 1

    @property
    def counts(self) -> Indices:
        """Of replicas, along the last axis."""
        return np.arange(self.allowed.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Services side by side."""

    fleets: Fleets
    owns: Sequence[Own]


@dataclass(frozen=True, slots=True, eq=False)
class Charge:
    """What the optimiser is charged for what must not be, in watts; far more than any energy."""

    high_rps: Numbers
    """[slot]."""
    min_replicas: int
    base_w: float
    """For any shortage."""
    each_w: float
    """For each request/s of it."""

    @classmethod
    def of(cls, one: Service, most_w: float, most_rps: float) -> "Charge":
        """For a service whose largest fleet draws and carries this."""
        base_w = _SHORTAGE * (most_w + 1.0)
        return cls(one.high_rps, one.state.min_replicas, base_w, base_w / max(most_rps, 1e-9))

    def watts(self, capacity_rps: Numbers) -> Numbers:
        """For fleets of any shape [...] -> [slot, ...]."""
        short_rps = self.high_rps.reshape(-1, *(1,) * capacity_rps.ndim) - capacity_rps
        return np.where(short_rps > 0, self.base_w + self.each_w * short_rps, 0.0)

    def missing_w(self, replicas: Indices) -> Numbers:
        """For fewer replicas than the least, shaped as the counts."""
        missing = np.maximum(0, self.min_replicas - replicas)
        return np.where(missing > 0, self.base_w * (1.0 + missing), 0.0)


def cumulated(energy_j: Numbers) -> Numbers:
    """From energies by slot, those from now to the start of each slot and to the end."""
    return np.concatenate([np.zeros((1, *energy_j.shape[1:])), np.cumsum(energy_j, axis=0)])


def _allow(one: Service, allowed: NDArray[np.bool_]) -> None:
    """Mark the fleets of a service that may be planned, [shape, replicas]."""
    if not one.state.may_scale:
        allowed[one.home, one.known(one.have)[one.home]] = True
        return
    for column, curve in enumerate(one.curves):
        useful = curve.capacities_rps[-1, -1] > 0 or one.have[column] > 0
        if useful and (one.state.may_reshape or column == one.home):
            allowed[column, : one.most_replicas[column] + 1] = True
