"""Deployments, their pods and a scheduler, as far as an operator notices them; time goes in ticks."""

from dataclasses import dataclass, field

from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.room import NodeRoom

STARTUP_TICKS = 3
OVERDUE_TICKS = 8
DRAIN_TICKS = 2
KINDS = {"tp1": (1, 0.6), "tp2": (2, 1.5), "tp4": (4, 3.5), "tp8": (8, 8.0)}
"""GPUs, and what one replica carries."""


@dataclass(eq=False)
class Pod:
    shape: str
    ready_in: float
    node: int | None = None
    age: int = 0
    stops_in: int | None = None

    @property
    def gpus(self):
        return KINDS[self.shape][0]

    @property
    def is_ready(self):
        return self.ready_in <= 0 and self.stops_in is None


@dataclass
class Pods:
    """All pods of one service, on nodes of which others may hold GPUs."""

    free: list
    desired: dict = field(default_factory=dict)
    pods: list = field(default_factory=list)
    stuck: set = field(default_factory=set)
    """Shapes whose new pods never become Ready."""
    drainable: dict = field(default_factory=dict)
    first: dict = field(default_factory=dict)
    """Node whose pods of a shape are deleted first."""

    @classmethod
    def serving(cls, free, **counts):
        """All are Ready, beside so many free GPUs."""
        it = cls(list(free), dict.fromkeys(KINDS, 0) | counts)
        for name, places in counts.items():
            it.desired[name] = len(places)
            it.pods += [Pod(name, 0, node) for node in places]
        return it

    def scale(self, scale):
        self.desired[scale.deployment] = scale.replicas
        self.first[scale.deployment] = scale.node

    def reconcile(self):
        """What the Deployments' controller and the scheduler do."""
        for name, desired in self.desired.items():
            living = [pod for pod in self.pods if pod.shape == name and pod.stops_in is None]
            never = float("inf") if name in self.stuck else STARTUP_TICKS
            self.pods += [Pod(name, never) for _ in range(desired - len(living))]
            living.sort(key=lambda pod: (pod.node is not None, pod.is_ready, str(pod.node) != self.first.get(name)))
            for pod in living[: max(0, len(living) - desired)]:
                pod.stops_in = DRAIN_TICKS if pod.is_ready else 0
        self._bury()
        for pod in sorted((pod for pod in self.pods if pod.node is None), key=lambda pod: -pod.gpus):
            fitting = [node for node, free in enumerate(self.free) if free >= pod.gpus]
            if fitting:
                pod.node = min(fitting, key=self.free.__getitem__)
                self.free[pod.node] -= pod.gpus

    def tick(self):
        self.reconcile()
        for pod in self.pods:
            pod.age += 1
            pod.ready_in -= pod.node is not None
            if pod.stops_in is not None:
                pod.stops_in -= 1
        self._bury()

    def _bury(self):
        for pod in [pod for pod in self.pods if pod.stops_in is not None and pod.stops_in <= 0]:
            self.pods.remove(pod)
            if pod.node is not None:
                self.free[pod.node] += pod.gpus

    def shapes(self):
        return {name: self._count(name) for name in self.desired}

    def _count(self, name):
        living = [pod for pod in self.pods if pod.shape == name and pod.stops_in is None]
        late = [pod for pod in living if not pod.is_ready and pod.age > OVERDUE_TICKS]
        ready = sum(pod.is_ready for pod in living)
        gpus, capacity_rps = KINDS[name]
        return ShapeCount(
            gpus=gpus,
            capacity_rps=capacity_rps,
            desired=self.desired[name],
            ready=ready,
            starting=len(living) - ready - len(late),
            overdue=len(late),
            stopping=sum(pod.shape == name and pod.stops_in is not None for pod in self.pods),
            unscheduled=sum(pod.node is None for pod in living),
            drainable=self.drainable.get(name, 1000),
        )

    def nodes(self):
        found = []
        for node, free in enumerate(self.free):
            here = [pod for pod in self.pods if pod.node == node]
            serving = {name: sum(pod.is_ready and pod.shape == name for pod in here) for name in KINDS}
            leaving = sum(pod.gpus for pod in here if pod.stops_in is not None)
            found.append(NodeRoom(str(node), free, leaving, serving))
        return found

    def ready(self):
        return sum(pod.is_ready for pod in self.pods)

    def capacity_rps(self):
        return sum(KINDS[pod.shape][1] for pod in self.pods if pod.is_ready)

    def held_gpus(self):
        return sum(pod.gpus for pod in self.pods)

    def counts(self):
        return {name: count for name, count in self.desired.items() if count}
