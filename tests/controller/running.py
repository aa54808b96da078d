"""One LLMService under the whole operator: real modelling, planning and actuation over a cluster in memory."""

import numpy as np

from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.conditions import find_condition
from dynawatt.controller import evaluating, figuring, giving_back, modelling, planning_round, reconcile, rollout
from dynawatt.controller.calibrating import Calibrator
from dynawatt.controller.evaluating import Evaluator
from dynawatt.controller.learnt import Learnt
from dynawatt.controller.metrics.figures import Figures
from dynawatt.controller.metrics.working import Work
from dynawatt.controller.reconcile import Reconciler
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.silent_agents import SilentAgents
from dynawatt.controller.switch import Switch
from dynawatt.controller.target import read_workload
from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.ports import MetricsUnavailable
from dynawatt.workload.mix import LengthMix

from .conftest import make_deployment, make_pod
from .memory import MemoryCluster, make_node
from .playing import Controllers

TICK_S = 10.0
SLO = {"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 1000}]}
CARRIES_RPS = {1: 5.0, 2: 9.0, 4: 16.0, 8: 28.0}
"""What one replica carries, by its tensor-parallel size."""
IDLE_W = {1: 80.0, 2: 110.0, 4: 140.0, 8: 170.0}
"""Of each of its GPUs: small ones need by far the fewest watts for a request."""
MIX = LengthMix(np.array([1000]), np.array([200]))


def surface(size, idle_w=None):
    """Of a replica that draws so many watts for each of its GPUs, and 60 W more when it is busy."""
    most_rps, idle_w = CARRIES_RPS[size], IDLE_W[size] if idle_w is None else idle_w
    busy_w = idle_w + 60.0
    row = [
        SurfacePoint(0.0, 1, 1, 0.1, 0.02, size * idle_w),
        SurfacePoint(most_rps, 1, 1, 0.1, 0.02, size * busy_w),
        SurfacePoint(1.01 * most_rps, 0.5, 0.5, 9, 1, size * busy_w),
    ]
    return Surface(size, 70.0, 110.0, {1980: row})


class Surfaces:
    """All are there at once."""

    def __init__(self):
        self.by_size = {size: surface(size) for size in CARRIES_RPS}

    def get(self, question):
        return self.by_size.get(question.replica.tensor_parallel)

    def close(self):
        pass


class Lease:
    name = "system/lease"
    holder = "somebody"
    held = True


class Killed(Exception):  # noqa: N818 - nobody made a mistake
    """The operator died."""


class Hands:
    """What writes to a cluster, until it dies at its write to a Deployment of this number, before or after it."""

    def __init__(self, cluster, dies_at=None, *, before=False):
        self.cluster, self.dies_at, self.before = cluster, dies_at, before
        self.count = 0

    def __getattr__(self, name):
        method = getattr(self.cluster, name)
        return method if name not in {"scale", "create_deployment", "delete_deployment"} else self._mortal(method)

    def _mortal(self, method):
        def write(*args):
            self.count += 1
            if self.count == self.dies_at and self.before:
                raise Killed
            written = method(*args)
            if self.count == self.dies_at:
                raise Killed
            return written

        return write


class Running:
    """Ticks of the operator, with what the cluster's own controllers do in between."""

    prometheus = None
    """What the operator asks about the agents."""

    def __init__(self, monkeypatch, deployment=None, *, nodes="ab", elastic_nodes=False, **spec):
        self.cluster = MemoryCluster()
        self.cluster.nodes_ = [make_node(name) for name in nodes]
        self.cluster.deployment_ = deployment or make_deployment(2, gpus=4)
        self.clock = Controllers(self.cluster)
        self.clock.settle()
        for module in (evaluating, figuring, giving_back, modelling, planning_round, rollout):
            monkeypatch.setattr(module, "time", self.clock)
        monkeypatch.setattr(reconcile, "datetime", self.clock)
        self.load_rps = 6.0
        self.has_metrics = True
        self.surfaces = Surfaces()
        self.settings = OperatorSettings(
            prometheus_url=None,
            namespace="system",
            rate_window_s=10,
            peak_window_s=30,
            give_back_timeout_s=600,
            elastic_nodes=elastic_nodes,
        )
        self.draft = None
        self.status = {}
        """As the API has it."""
        self.is_recorded = True
        """Whether the API takes what is written there."""
        self.spec = {"deploymentRef": {"name": "llama"}, "mode": "Auto", "knobs": ["Clock", "Shape"], "slo": SLO} | spec
        self.start(Hands(self.cluster))

    def start(self, hands=None):
        """A new operator, which knows what the API has."""
        self.hands = hands or Hands(self.cluster)
        self.learnt = Learnt()
        self.agents = SilentAgents(self.prometheus, stale_s=300)
        self.operator = Reconciler(
            cluster=self.hands,
            view=self.cluster,
            source=self,
            lease=Lease(),
            switch=Switch(self.cluster, namespace="system"),
            surfaces=self.surfaces,
            evaluator=Evaluator(None),
            calibrator=Calibrator(None, self.learnt),
            agents=self.agents,
            figures=Figures(),
            work=Work(),
            settings=self.settings,
        )

    @property
    def body(self):
        metadata = {"namespace": "default", "name": "llama", "uid": "llama", "generation": 1}
        created = {"creationTimestamp": "2026-01-01T00:00:00Z"}
        return {"metadata": metadata | created, "spec": self.spec, "status": self.status}

    async def tick(self):
        """One look of the operator, without any time going by."""
        try:
            draft = await self.operator.tick(self.body)
        except Killed:
            self.start()
            return
        assert draft is not None
        self.draft = draft
        if self.is_recorded:
            self.status = draft.status.to_dict()

    async def run(self, ticks=1, *, until=None, each_s=TICK_S):
        """Ticks until something holds, or so many; returns how many there were."""
        for count in range(ticks):
            if until is not None and until():
                return count
            await self.tick()
            self.clock.pass_s(each_s)
            self.check()
        assert until is None or until(), f"not within {ticks} ticks: {self.told('Progressing')} {self.told('Ready')}"
        return ticks

    async def give_back(self, looks=200, each_s=2.0):
        """Deletion of the LLMService; returns after how many looks it was done."""
        for count in range(looks):
            try:
                if await self.operator.give_back(self.body):
                    return count
            except Killed:
                self.start()
            self.clock.pass_s(each_s)
            self.check()
        raise AssertionError(f"not given back within {looks} looks: {self.cluster.replicas()}")

    def check(self):
        """Is called after every tick: put in what is promised for all time."""

    def told(self, type_):
        found = find_condition(self.draft.status.conditions, type_)
        return found.status, found.reason, found.message

    def reason(self, type_):
        return self.told(type_)[1]

    @property
    def reshape(self):
        """The change of shape in the status, if there is one."""
        return None if self.draft is None else self.draft.status.reshape

    def replicas(self):
        return self.cluster.replicas()

    def serving(self):
        """Ready pods that stay, by Deployment."""
        found = {}
        for name, deployment in self.cluster.deployments_.items():
            pods = self.cluster.pods_of("default", name)
            found[self.cluster.short(name)] = len(read_workload(deployment, pods).serving_pods)
        return found

    def carried_rps(self):
        sizes = {"llama": self.gpus_of(self.cluster.deployments_.get("llama"))}
        return sum(CARRIES_RPS[sizes.get(name) or int(name[2:])] * count for name, count in self.serving().items())

    @staticmethod
    def gpus_of(deployment):
        containers = deployment["spec"]["template"]["spec"]["containers"] if deployment else ()
        return sum(int(each["resources"]["limits"]["nvidia.com/gpu"]) for each in containers)

    def writes(self, *kinds):
        return [write for write in self.cluster.writes if not kinds or write[0] in kinds]

    # The load.

    async def observe(self, question):
        if not self.has_metrics:
            raise MetricsUnavailable("no answer")
        return LoadObservation(self.load_rps, MIX, 500.0, [], [])

    async def history(self, question, **kwargs):
        raise MetricsUnavailable("nothing was kept")

    async def close(self):
        pass


def occupied(node, gpus):
    """A pod of somebody else."""
    return make_pod(f"other-{node}", node=node, app="other", gpus=gpus, ready="2026-01-01T00:00:00Z")
