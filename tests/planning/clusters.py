"""A cluster that carries plans out as the drivers do, and checks every instant of it."""

from dataclasses import dataclass, field

import numpy as np

from dynawatt.planning.demand import DemandForecast
from dynawatt.planning.service import ServiceState


@dataclass
class Replica:
    shape: str
    node: int
    ready_s: float


@dataclass
class Cluster:
    """One service on nodes; a forecast that is right."""

    planner: object
    curves: dict
    free: list
    rates_rps: list
    high: float = 1.2
    horizon: int = 8
    limits: dict = field(default_factory=dict)
    replicas: list = field(default_factory=list)
    now_s: float = 0.0
    changed_s: float = -np.inf
    changes: list = field(default_factory=list)
    plans: list = field(default_factory=list)
    capacities_rps: list = field(default_factory=list)
    """Lowest of every slot."""

    def start(self, shape):
        gpus = self.curves[shape].gpus
        fitting = [node for node, free in enumerate(self.free) if free >= gpus]
        assert fitting, f"no node has {gpus} GPUs free for {shape}: {self.free}"
        node = min(fitting, key=self.free.__getitem__)
        self.free[node] -= gpus
        self.replicas.append(Replica(shape, node, self.now_s + self.curves[shape].startup_s))
        held = sum(self.curves[replica.shape].gpus for replica in self.replicas)
        assert held <= self.limits.get("max_gpus", np.inf)

    def drain(self, replica):
        self.replicas.remove(replica)
        self.free[replica.node] += self.curves[replica.shape].gpus

    def counts(self, *, ready):
        names = [each.shape for each in self.replicas if (each.ready_s <= self.now_s) == ready]
        return {name: names.count(name) for name in self.curves}

    def capacity_rps(self):
        return sum(self.curves[name].capacity_rps(count) for name, count in self.counts(ready=True).items())

    def state(self):
        slot = int(self.now_s // 300)
        rates = np.array([self.rates_rps[min(at, len(self.rates_rps) - 1)] for at in range(slot, slot + self.horizon)])
        return ServiceState(
            self.curves,
            self.counts(ready=True),
            self.counts(ready=False),
            DemandForecast(rates, rates * self.high),
            float(rates[0]),
            since_change_s=self.now_s - self.changed_s,
            **self.limits,
        )

    def run(self):
        for slot in range(len(self.rates_rps)):
            self.now_s = slot * 300.0
            state = self.state()
            plan = self.planner.plan({"it": state}, list(self.free))["it"]
            self.plans.append(plan)
            self.carry_out(plan, slot)
        return self

    def carry_out(self, plan, slot):
        present = self.counts(ready=True)[plan.shape] + self.counts(ready=False)[plan.shape]
        for _ in range(plan.replicas - present):
            self.start(plan.shape)
        if plan.replicas > present:
            self.note(slot, plan)
        lowest_rps = np.inf
        while True:
            waiting = [each.ready_s for each in self.replicas if each.ready_s > self.now_s]
            if not waiting and self.surplus(plan):
                for each in self.surplus(plan):
                    self.drain(each)
                if plan.replicas <= present:
                    self.note(slot, plan)
            lowest_rps = min(lowest_rps, self.capacity_rps())
            if not waiting or min(waiting) >= (slot + 1) * 300.0:
                break
            self.now_s = min(waiting)
        self.capacities_rps.append(lowest_rps)

    def surplus(self, plan):
        keep = plan.replicas
        found = []
        for each in self.replicas:
            if each.shape == plan.shape and keep > 0:
                keep -= 1
            else:
                found.append(each)
        return found

    def note(self, slot, plan):
        self.changed_s = slot * 300.0
        self.changes.append((slot, plan.shape, plan.replicas))
