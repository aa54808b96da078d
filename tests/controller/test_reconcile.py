import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from dynawatt.adapters.kubernetes.client import API_ERRORS
from dynawatt.api.claims import ClockClaim
from dynawatt.api.conditions import ConditionType, Reason, find_condition
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.controller.calibrating import Calibrator
from dynawatt.controller.evaluating import Evaluator
from dynawatt.controller.learnt import Learnt
from dynawatt.controller.metrics.figures import Figures
from dynawatt.controller.metrics.working import Work
from dynawatt.controller.reconcile import Reconciler
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.silent_agents import SilentAgents
from dynawatt.controller.switch import Switch
from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.planning.curves import shape_curve
from dynawatt.planning.demand import DemandForecast
from dynawatt.planning.service import ServiceState
from dynawatt.ports import MetricsUnavailable

TABLE = {"attainment": 0.99, "tbt": 0.1, "drain": 1, "prompt": 800, "kv": 300, "ttft": False, "rows": [[900, 1, 1, 1]]}
CLAIM = ClockClaim(
    floor_megahertz=800,
    ceiling_megahertz=1980,
    lease="system/lease",
    service="default/llama",
    metrics_port=8000,
    table=TABLE,
).to_annotation()


class Lease:
    name = "system/lease"
    holder = "somebody"
    held = True


class NoMetrics:
    """A Prometheus that is asked, hangs until released, and then does not answer."""

    def __init__(self):
        self.asked, self.released = asyncio.Event(), asyncio.Event()
        self.released.set()

    async def observe(self, question):
        self.asked.set()
        await self.released.wait()
        raise MetricsUnavailable(f"no answer: {question.deployment}")


class NoSurfaces:
    def get(self, question):
        return None

    def close(self):
        pass


@pytest.fixture
def metrics():
    return NoMetrics()


@pytest.fixture
def lease():
    return Lease()


@pytest.fixture
def switch(cluster):
    return Switch(cluster, namespace="system")


@pytest.fixture
def reconciler(cluster, metrics, lease, switch):
    settings = OperatorSettings(prometheus_url="http://unused", namespace="system")
    return Reconciler(
        evaluator=Evaluator(None),
        calibrator=Calibrator(None, Learnt()),
        agents=SilentAgents(None, stale_s=300),
        figures=Figures(),
        work=Work(),
        cluster=cluster,
        view=cluster,
        source=metrics,
        lease=lease,
        switch=switch,
        surfaces=NoSurfaces(),
        settings=settings,
    )


@pytest.fixture
def filled(cluster, deployment, pod):
    cluster.deployment_ = deployment(replicas=1, writer="dynawatt")
    cluster.pods_ = [pod("a", ready="2026-01-01T00:00:20Z")]
    cluster.pods_[0]["metadata"]["annotations"] = {CLAIM_ANNOTATION: CLAIM}
    return cluster


def llmservice(name="llama", *, created="2026-01-01T00:00:00Z", status=None, **spec):
    slo = {"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 1000}]}
    defaults = {"deploymentRef": {"name": "llama"}, "mode": "Auto", "knobs": ["Clock", "Replicas"], "slo": slo}
    metadata = {"namespace": "default", "name": name, "uid": name, "generation": 1, "creationTimestamp": created}
    return {"metadata": metadata, "spec": defaults | spec, "status": status or {"adopted": {"replicas": 4}}}


def ready(draft):
    condition = find_condition(draft.status.conditions, "Ready")
    return condition.status, condition.reason


async def test_without_the_lease_nothing_is_read_or_written(reconciler, filled, lease):
    lease.held = False
    filled.failing = AssertionError("was read")
    assert await reconciler.tick(llmservice()) is None
    assert await reconciler.give_back(llmservice()) is False
    assert filled.writes == []


async def test_without_metrics_everything_is_held(reconciler, filled):
    draft = await reconciler.tick(llmservice())
    assert ready(draft) == ("False", "MetricsQueryFailed")
    assert filled.writes == []


@pytest.mark.parametrize(
    ("spec", "replicas", "claims"),
    [
        ({"mode": "Off"}, 4, [None]),
        ({"mode": "Recommend"}, 4, [None]),
        ({"knobs": ["Clock"]}, 4, [CLAIM]),
        ({"knobs": ["Replicas"]}, 1, [None]),
        ({"mode": "Off", "paused": True}, 1, [CLAIM]),
    ],
)
async def test_what_is_not_allowed_is_given_back_even_without_metrics(reconciler, filled, spec, replicas, claims):
    await reconciler.tick(llmservice(**spec))
    assert filled.deployment_["spec"]["replicas"] == replicas
    assert filled.claims() == claims


@pytest.mark.parametrize("spec", [{}, {"knobs": ["Clock"]}, {"mode": "Off"}])
async def test_nothing_is_written_while_the_switch_is_off(reconciler, switch, filled, spec):
    filled.switch_ = {"data": {"enabled": "false"}}
    switch.look()
    draft = await reconciler.tick(llmservice(**spec))
    assert filled.writes == []
    ready = find_condition(draft.status.conditions, ConditionType.READY)
    assert (ready.status, ready.reason) == ("False", Reason.SWITCHED_OFF)
    assert "ConfigMap dynawatt-switch has enabled: 'false'" in ready.message
    filled.switch_ = None
    switch.look()
    draft = await reconciler.tick(llmservice(**spec, **({} if spec else {"mode": "Off"})))
    assert filled.writes


def test_a_switch_that_cannot_be_read_stays_as_it_was(switch, cluster):
    cluster.switch_ = {"data": {"enabled": "false"}}
    switch.look()
    cluster.failing = OSError("away")
    with pytest.raises(OSError, match="away"):
        switch.look()
    assert switch.off


@pytest.mark.parametrize(
    ("body", "image"),
    [
        (llmservice(), "vllm-openai"),
        (llmservice(), "nginx"),
        (llmservice(futureField={}), "vllm-openai"),
        (llmservice(status={"adopted": {"replicas": 4}, "lastChanges": [{"knob": "Shape"}]}), "vllm-openai"),
    ],
)
async def test_deletion_gives_back_whatever_cannot_be_understood(reconciler, filled, deployment, body, image):
    filled.deployment_ = deployment(replicas=1, writer="dynawatt", image=image)
    assert await reconciler.give_back(body)
    assert filled.deployment_["spec"]["replicas"] == 4
    assert filled.claims() == [None]


async def test_deletion_waits_for_the_tick_that_is_under_way_and_none_follows(reconciler, filled, metrics):
    metrics.released.clear()
    ticking = asyncio.create_task(reconciler.tick(llmservice()))
    await metrics.asked.wait()
    deleting = asyncio.create_task(reconciler.give_back(llmservice()))
    late = asyncio.create_task(reconciler.tick(llmservice()))
    await asyncio.sleep(0.1)
    assert not deleting.done()
    metrics.released.set()
    assert await ticking is not None
    assert await deleting
    assert await late is None


async def test_deletion_is_tried_again_when_the_api_fails(reconciler, filled):
    filled.failing = OSError("no route")
    with pytest.raises(API_ERRORS):
        await reconciler.give_back(llmservice())
    filled.failing = None
    assert await reconciler.give_back(llmservice())


async def test_an_api_error_is_told_and_survived(reconciler, filled):
    filled.failing = OSError("no route")
    draft = await reconciler.tick(llmservice())
    assert ready(draft) == ("False", "APIError")
    assert draft.status.adopted.replicas == 4


async def test_a_deployment_created_anew_is_adopted_anew(reconciler, filled):
    filled.deployment_ = None
    draft = await reconciler.tick(llmservice())
    assert ready(draft) == ("False", "DeploymentNotFound")
    assert draft.status.adopted is None
    assert draft.status.shapes == []


async def test_of_two_services_for_one_deployment_the_older_manages_it(reconciler, filled):
    older, newer = llmservice("b"), llmservice("a", created="2026-01-02T00:00:00Z", status={})
    assert ready(await reconciler.tick(older)) == ("False", "MetricsQueryFailed")
    assert ready(await reconciler.tick(newer)) == ("False", "UnsupportedDeployment")
    assert ready(await reconciler.tick(older)) == ("False", "MetricsQueryFailed")
    await reconciler.give_back(older)
    assert ready(await reconciler.tick(newer)) == ("False", "MetricsQueryFailed")


@pytest.mark.parametrize(
    ("scalers", "writer", "reason"),
    [
        ([("HorizontalPodAutoscaler", "web")], "dynawatt", "ScaledByHPA"),
        ([("HorizontalPodAutoscaler", "keda-hpa-web"), ("ScaledObject", "web")], "dynawatt", "ScaledByKEDA"),
        ([("VerticalPodAutoscaler", "web")], "dynawatt", "ResizedByVPA"),
        ([], "kubectl", "ForeignWrite"),
    ],
)
async def test_conflicts(reconciler, filled, deployment, scalers, writer, reason):
    filled.deployment_, filled.autoscalers_ = deployment(replicas=1, writer=writer), scalers
    draft = await reconciler.tick(llmservice())
    conflicting = find_condition(draft.status.conditions, "Conflicting")
    assert (conflicting.status, conflicting.reason) == ("True", reason)
    assert filled.deployment_["spec"]["replicas"] == 1


class Profile:
    def loaded_idle_w(self, clock_mhz):
        return 80.0


ROW = [SurfacePoint(0, 1, 1, 0, 0, 100), SurfacePoint(9, 1, 1, 0, 0, 500), SurfacePoint(9.1, 0.5, 0.5, 9, 1, 500)]
CURVE = shape_curve(
    "tp1", Surface(1, 70.0, 110.0, {1980: ROW}), Profile(), attainment=0.99, startup_s=60.0, most_replicas=4
)
QUIET = ServiceState(
    curves={"tp1": CURVE},
    ready={"tp1": 3},
    starting={"tp1": 0},
    demand=DemandForecast(np.full(24, 4.0), np.full(24, 6.0)),
    present_rps=4.0,
    max_replicas=4,
    may_reshape=False,
)


@pytest.fixture
def seen(reconciler, filled, deployment, pod, monkeypatch):
    """What the modeller says, whatever the metrics are, of a Deployment of three; the governors get no claims."""
    filled.deployment_ = deployment(replicas=3, writer="dynawatt")
    filled.pods_ += [pod(name, ready="2026-01-01T00:00:20Z") for name in "bc"]
    states = {"llama": QUIET}

    async def look(tick, **kwargs):
        return states[tick.runtime.name]

    monkeypatch.setattr(reconciler._modeller, "look", look)
    monkeypatch.setattr(reconciler._modeller, "clock_terms", lambda *args: {})
    return states


SCALED = {"adopted": {"replicas": 3}}


async def test_the_plan_is_carried_out_and_told(reconciler, filled, seen):
    draft = await reconciler.tick(llmservice(status=SCALED))
    assert ready(draft) == ("True", "Reconciled")
    assert filled.deployment_["spec"]["replicas"] == 3  # which pods are to go is known a look before they do
    await reconciler.tick(llmservice(status=SCALED))
    assert filled.deployment_["spec"]["replicas"] == 1
    decision = draft.status.last_decision
    assert (decision.reason, decision.chosen.replicas) == ("ShrinkToLoad", 1)
    assert decision.predicted_saving.to_keeping_percent > 0
    attainable = find_condition(draft.status.conditions, "SLOAttainable")
    assert (attainable.status, attainable.reason) == ("True", "PlanFound")


async def test_a_recommendation_changes_nothing(reconciler, filled, seen):
    draft = await reconciler.tick(llmservice(mode="Recommend", status={"observedGeneration": 1}))
    assert ready(draft) == ("True", "Recommending")
    assert draft.status.last_decision.chosen.replicas == 1
    assert filled.deployment_["spec"]["replicas"] == 3


async def test_a_load_that_no_fleet_carries_is_told(reconciler, filled, seen):
    seen["llama"] = replace(QUIET, demand=DemandForecast(np.full(24, 72.0), np.full(24, 72.0)))
    draft = await reconciler.tick(llmservice(status=SCALED))
    attainable = find_condition(draft.status.conditions, "SLOAttainable")
    assert (attainable.status, attainable.reason) == ("False", "SLOUnreachable")
    assert attainable.message.startswith("50% of the load")
    assert filled.deployment_["spec"]["replicas"] == 4


async def test_what_makes_no_sense_holds_everything(reconciler, filled, seen):
    seen["llama"] = replace(QUIET, present_rps=float("nan"))
    draft = await reconciler.tick(llmservice(status=SCALED))
    assert ready(draft) == ("False", "CannotPlan")
    assert filled.deployment_["spec"]["replicas"] == 3
    assert [claim for claim in filled.claims() if claim] == [CLAIM]


async def test_all_services_are_planned_together_and_once(reconciler, filled, seen, deployment, pod, monkeypatch):
    asked = []
    plan = type(reconciler._round._planner).plan

    def planned(self, states, free_gpus):
        asked.append(len(states))
        return plan(self, states, free_gpus)

    monkeypatch.setattr(type(reconciler._round._planner), "plan", planned)
    seen["other"] = QUIET
    other = filled.deployments_["other"] = deployment()
    other["metadata"]["name"] = "other"
    filled.pods_.append(pod("other", app="other"))
    bodies = [llmservice(), llmservice("other", deploymentRef={"name": "other"})]
    await asyncio.gather(*map(reconciler.tick, bodies))
    await asyncio.gather(*map(reconciler.tick, bodies))
    assert asked == [1, 1]  # at once for each that is new, and then nothing was
    reconciler._services["llama"].planned_s = float("-inf")
    await asyncio.gather(*map(reconciler.tick, bodies))
    assert asked == [1, 1, 2]


async def test_a_service_that_is_deleted_while_it_is_planned_for_is_given_back(reconciler, filled, seen, monkeypatch):
    plan, asked, released = type(reconciler._round._planner).plan, threading.Event(), threading.Event()

    def slow(self, states, free_gpus):
        asked.set()
        released.wait(10)
        return plan(self, states, free_gpus)

    monkeypatch.setattr(type(reconciler._round._planner), "plan", slow)
    ticking = asyncio.create_task(reconciler.tick(llmservice()))
    await asyncio.to_thread(asked.wait, 10)
    deleting = asyncio.create_task(reconciler.give_back(llmservice()))
    await asyncio.sleep(0.05)
    released.set()
    assert ready(await ticking) == ("False", "GivingBack")
    assert await deleting
    assert filled.deployment_["spec"]["replicas"] == 4
