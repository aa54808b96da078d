import asyncio

import pytest

from dynawatt.adapters.kubernetes.client import API_ERRORS
from dynawatt.api.claims import ClockClaim
from dynawatt.api.conditions import find_condition
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.controller.reconcile import Reconciler
from dynawatt.controller.settings import OperatorSettings
from dynawatt.ports import MetricsUnavailable

CLAIM = ClockClaim(min_megahertz=800, max_megahertz=1200, lease="system/lease", service="default/llama").to_annotation()


class Lease:
    name = "system/lease"
    holder = "somebody"
    held = True


class NoMetrics:
    """A Prometheus that is asked, hangs until released, and then does not answer."""

    def __init__(self):
        self.asked, self.released = asyncio.Event(), asyncio.Event()
        self.released.set()

    async def query(self, promql):
        self.asked.set()
        await self.released.wait()
        raise MetricsUnavailable(f"no answer: {promql}")


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
def reconciler(cluster, metrics, lease):
    settings = OperatorSettings(prometheus_url="http://unused", namespace="system")
    return Reconciler(cluster=cluster, metrics=metrics, lease=lease, surfaces=NoSurfaces(), settings=settings)


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
    ("hpas", "writer", "reason"), [(["web"], "dynawatt", "ScaledByHPA"), ([], "kubectl", "ForeignWrite")]
)
async def test_conflicts(reconciler, filled, deployment, hpas, writer, reason):
    filled.deployment_, filled.hpas = deployment(replicas=1, writer=writer), hpas
    draft = await reconciler.tick(llmservice())
    conflicting = find_condition(draft.status.conditions, "Conflicting")
    assert (conflicting.status, conflicting.reason) == ("True", reason)
    assert filled.deployment_["spec"]["replicas"] == 1
