"""An optimiser that tries every course; it shares no code with the real one but the curves."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, inf

from dynawatt.planning.fleet_costs import CostRules

SLOT_S = 300.0


@dataclass
class Oracle:
    """Tries all courses, second by second where it matters."""

    state: object
    total_gpus: float
    free_gpus: list | None
    dwell_slots: int
    costs: CostRules
    charge: object
    """How much a shortage weighs is the optimiser's own business."""

    @cached_property
    def curves(self):
        return list(self.state.curves.values())

    @cached_property
    def slots(self):
        return len(self.state.demand.expected_rps)

    def capacity_rps(self, fleet):
        return sum(curve.capacity_rps(count) for curve, count in zip(self.curves, fleet, strict=True))

    def power_w(self, index, count, slot, share=1.0):
        each, rate_rps = self.curves[index], self.state.demand.expected_rps[slot] * share
        if rate_rps > each.capacity_rps(count):
            return each.clock_power_w(count, each.capacity_rps(count), each.clocks_mhz[-1])
        return each.packed_w(count, rate_rps) if self.costs.packs else each.power_w(count, rate_rps)

    def cost_w(self, fleet, slot):
        capacity_rps = self.capacity_rps(fleet)
        shares = [
            (curve.capacity_rps(count) / capacity_rps if capacity_rps else 0.0)
            for curve, count in zip(self.curves, fleet, strict=True)
        ]
        power_w = sum(self.power_w(i, n, slot, shares[i]) for i, n in enumerate(fleet) if n)
        if self.costs.released_power_counts:
            power_w -= sum(n * each.released_w for n, each in zip(fleet, self.curves, strict=True))
        high_rps = self.state.demand.high_rps[slot]
        high_rps = max(high_rps, self.state.present_rps) if slot == 0 else high_rps
        if high_rps > capacity_rps:
            power_w += self.charge.base_w + self.charge.each_w * (high_rps - capacity_rps)
        missing = self.state.min_replicas - sum(fleet)
        return power_w + (self.charge.base_w * (1 + missing) if missing > 0 else 0)

    def run_j(self, fleet, from_s, to_s):
        to_s = min(to_s, self.slots * SLOT_S)
        total_j, now_s = 0.0, from_s
        while now_s < to_s - 1e-9:
            slot = floor(now_s / SLOT_S + 1e-12)
            end_s = min(to_s, (slot + 1) * SLOT_S)
            total_j += self.cost_w(fleet, slot) * (end_s - now_s)
            now_s = end_s
        return total_j

    def fleet(self, index, count):
        return tuple(count if other == index else 0 for other in range(len(self.curves)))

    def gpus(self, fleet):
        return sum(n * each.gpus for n, each in zip(fleet, self.curves, strict=True))

    @cached_property
    def limit(self):
        return min(self.total_gpus, inf if self.state.max_gpus is None else self.state.max_gpus)

    @cached_property
    def most(self):
        return [int(min(c.most_replicas, self.state.max_replicas, self.limit // c.gpus)) for c in self.curves]

    def start_j(self, index):
        each = self.curves[index]
        return (each.starting_w - (each.released_w if self.costs.released_power_counts else 0)) * each.startup_s

    def steps(self, slot, index, count):
        """Every step of a fleet that is Ready at the start of a slot: as ``first_steps``."""
        now_s, fleet = slot * SLOT_S, self.fleet(index, count)
        held = self.gpus(fleet)
        yield (index, count), slot + 1, self.run_j(fleet, now_s, now_s + SLOT_S), held, 0
        for fewer in range(count):
            until = min(slot + self.dwell_slots, self.slots)
            smaller = self.fleet(index, fewer)
            yield (index, fewer), until, self.run_j(smaller, now_s, until * SLOT_S), self.gpus(smaller), 0
        for to, each in enumerate(self.curves):
            for more in range(self.most[to] + 1):
                started = more - count if to == index else more
                peak = held + started * each.gpus
                if (started > 0 or to != index) and (to == index or peak <= self.limit):
                    yield (
                        (to, more),
                        self.ready(slot, to),
                        self.change_j(slot, fleet, to, more, started),
                        peak,
                        started,
                    )

    def least_j(self, slot, index, count):
        """Of a fleet that is Ready at the start of a slot, to the end."""
        if slot >= self.slots:
            return 0.0
        return min(cost_j + self.least_j(until, *to) for to, until, cost_j, _, _ in self.steps(slot, index, count))

    def courses(self):
        """Every way through the horizon: cost, GPUs held by slot, sizes of the replicas that are started now."""
        for fleet, until, cost_j, held, started in self.first_steps():
            sizes = [self.curves[fleet[0]].gpus] * started
            for rest_j, gpus in self.rests(until, *fleet):
                yield cost_j + rest_j, (held,) * until + gpus, sizes

    def courses_from(self):
        """The same: decision, cost, GPUs held by slot."""
        for fleet, until, cost_j, held, _ in self.first_steps():
            for rest_j, gpus in self.rests(until, *fleet):
                yield fleet, cost_j + rest_j, (held,) * until + gpus

    def rests(self, slot, index, count):
        if slot >= self.slots:
            yield 0.0, ()
            return
        for to, until, cost_j, held, _ in self.steps(slot, index, count):
            for rest_j, gpus in self.rests(until, *to):
                yield cost_j + rest_j, (held,) * (until - slot) + gpus

    def ready(self, slot, to):
        return min(slot + max(1, ceil(self.curves[to].startup_s / SLOT_S)), self.slots)

    def change_j(self, slot, before, to, count, started):
        now_s, ready_s = slot * SLOT_S, slot * SLOT_S + self.curves[to].startup_s
        waited_j = self.run_j(before, now_s, min(ready_s, self.slots * SLOT_S))
        served_j = self.run_j(self.fleet(to, count), ready_s, self.ready(slot, to) * SLOT_S)
        return waited_j + served_j + started * self.start_j(to)

    def first_steps(self):
        """Every decision for now: fleet, until which slot, cost so far, most GPUs held until then, replicas started."""
        names = list(self.state.curves)
        ready = [self.state.ready.get(name, 0) for name in names]
        starting = [self.state.starting.get(name, 0) for name in names]
        held = self.gpus(ready) + self.gpus(starting)
        for to, each in enumerate(self.curves):
            for count in range(self.most[to] + 1):
                started = max(0, count - ready[to] - starting[to])
                nodes = inf if self.free_gpus is None else sum(free // each.gpus for free in self.free_gpus)
                own = inf if self.state.max_gpus is None else self.state.max_gpus
                if started > nodes or (started and held + started * each.gpus > own):
                    continue
                if started or starting[to]:
                    cost_j = self.change_j(0, ready, to, count, started + starting[to])
                    yield (to, count), self.ready(0, to), cost_j, held + started * each.gpus, started
                else:
                    until = min(self.dwell_slots if held > count * each.gpus else 1, self.slots)
                    cost_j = self.run_j(self.fleet(to, count), 0.0, until * SLOT_S)
                    yield (to, count), until, cost_j, count * each.gpus, 0

    def decisions(self):
        """Cost of every decision for now."""
        for fleet, until, cost_j, _, _ in self.first_steps():
            yield fleet, cost_j + self.least_j(until, *fleet)
