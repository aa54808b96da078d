import pytest

from dynawatt.api.claims import ClockClaim
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.api.llmservice_status import Adopted, ShapeStatus
from dynawatt.controller.actuation import Actuator, foreign_writer
from dynawatt.controller.target import read_target, read_workload
from dynawatt.planning.plan import OperatingPoint, ServicePlan

SERVICE = "default/llama"
SPEC = LLMServiceSpec.parse(
    {
        "deploymentRef": {"name": "llama"},
        "slo": {"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 1000}]},
        "knobs": ["Clock", "Replicas"],
    }
)
PLAN = ServicePlan(
    OperatingPoint(1, 1200, 300.0, 0.999, feasible=True), 1200, "why this clock", [], "ShrinkToLoad", "why"
)
CLAIM = ClockClaim(min_megahertz=800, max_megahertz=1200, lease="system/lease", service=SERVICE).to_annotation()


@pytest.fixture
def actuator(cluster):
    return Actuator(cluster, "system/lease")


@pytest.fixture
def filled(cluster, deployment, pod):
    cluster.deployment_ = deployment(replicas=2)
    cluster.pods_ = [pod("a", ready="2026-01-01T00:00:20Z"), pod("b"), pod("c", node=None)]
    return cluster


@pytest.fixture
def act(filled, actuator, draft):
    """One tick of acting with the status that the last one left."""

    async def tick(recorded, written=None, *, may_scale=True):
        found = draft(recorded, written=written)
        found.status.shapes = found.status.shapes or [
            ShapeStatus(gpu_product="x", tensor_parallel_size=1, desired_replicas=2, ready_replicas=2)
        ]
        workload = read_workload(filled.deployment("", ""), filled.pods("", {}))
        target = read_target(workload, name="llama", container=None)
        await actuator.carry_out(SERVICE, SPEC, target, PLAN, found, may_scale=may_scale)
        return found.status

    return tick


async def test_nothing_is_scaled_before_the_original_number_is_on_record(act, filled):
    first = await act({})
    assert first.adopted == Adopted(replicas=2)
    second = await act({}, first)  # the write of the first status failed or is under way
    assert filled.deployment_["spec"]["replicas"] == 2
    third = await act(second.to_dict(), second)
    assert filled.deployment_["spec"]["replicas"] == 1
    assert third.adopted == Adopted(replicas=2, commanded=1)
    assert [change.knob for change in third.last_changes] == [Knob.REPLICAS, Knob.CLOCK]


async def test_claims_are_written_once_and_only_on_scheduled_pods(act, filled):
    status = await act({})
    assert filled.claims() == [CLAIM, CLAIM, None]
    filled.writes.clear()
    again = await act(status.to_dict(), status)
    assert [write for write in filled.writes if isinstance(write, tuple)] == []
    assert len(again.last_changes) == len(status.last_changes) + 1  # the replicas


async def test_a_write_in_between_is_looked_at_again(act, filled):
    status = await act({})
    filled.outdated = True
    status = await act(status.to_dict(), status)
    assert status.adopted == Adopted(replicas=2)


async def test_who_may_not_scale_adopts_nothing(act, filled):
    status = await act({}, may_scale=False)
    assert status.adopted is None
    assert filled.claims() == [CLAIM, CLAIM, None]


@pytest.mark.parametrize(
    ("replicas", "writer", "adopted", "foreign"),
    [
        (2, "kubectl", None, None),
        (2, "kubectl", Adopted(replicas=2), None),
        (5, "kubectl", Adopted(replicas=2), "kubectl"),
        (1, "dynawatt", Adopted(replicas=2), None),  # scaled, and died before that was on record
        (1, "dynawatt", Adopted(replicas=2, commanded=1), None),
        (1, "dynawatt", Adopted(replicas=2, commanded=3), None),
        (5, "kubectl", Adopted(replicas=2, commanded=1), "kubectl"),
        (1, "kubectl", Adopted(replicas=2, commanded=1), None),
    ],
)
def test_foreign_writer(workload, replicas, writer, adopted, foreign):
    assert foreign_writer(workload(replicas=replicas, writer=writer), adopted) == foreign


@pytest.mark.parametrize(("writer", "replicas"), [("dynawatt", 4), ("kubectl", 1)])
async def test_replicas_are_given_back_unless_somebody_else_set_them(
    filled, actuator, draft, deployment, writer, replicas
):
    filled.deployment_ = deployment(replicas=1, writer=writer)
    found = draft({"adopted": {"replicas": 4, "commanded": 2}})
    workload = read_workload(filled.deployment_, filled.pods_)
    await actuator.give_back(SERVICE, "default", workload, found)
    assert filled.deployment_["spec"]["replicas"] == replicas
    assert found.status.adopted is None


async def test_giving_back_is_not_done_while_the_write_is_refused(filled, actuator, draft, deployment):
    filled.deployment_ = deployment(replicas=1, writer="dynawatt")
    filled.outdated = True
    found = draft({"adopted": {"replicas": 4, "commanded": 1}})
    await actuator.give_back(SERVICE, "default", read_workload(filled.deployment_, filled.pods_), found)
    assert found.status.adopted is not None


async def test_claims_are_dropped_wherever_they_are_but_not_those_of_others(filled, actuator, draft, pod):
    theirs = ClockClaim.from_annotation(CLAIM).model_copy(update={"service": "default/other"}).to_annotation()
    for name, claim in (("orphan", CLAIM), ("other", theirs), ("odd", "{")):
        filled.pods_.append(pod(name, app="elsewhere"))
        filled.pods_[-1]["metadata"]["annotations"] = {CLAIM_ANNOTATION: claim}
    filled.pods_[0]["metadata"]["annotations"] = {CLAIM_ANNOTATION: "{"}  # of the Deployment: ours, however it reads
    await actuator.give_back(
        SERVICE,
        "default",
        read_workload(filled.deployment_, filled.pods("", {"matchLabels": {"app": "llama"}})),
        draft(),
    )
    assert filled.claims() == [None, None, None, None, theirs, "{"]


async def test_without_a_deployment_nothing_is_left_to_give_back(filled, actuator, draft, pod):
    filled.pods_ = [pod("orphan")]
    filled.pods_[0]["metadata"]["annotations"] = {CLAIM_ANNOTATION: CLAIM}
    found = draft({"adopted": {"replicas": 4, "commanded": 1}})
    await actuator.give_back(SERVICE, "default", None, found)
    assert found.status.adopted is None
    assert filled.claims() == [None]
