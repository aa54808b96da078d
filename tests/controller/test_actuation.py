from dataclasses import replace

import pytest

from dynawatt.api.base import ClockRange
from dynawatt.api.claims import ClockClaim
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.api.llmservice_status import Adopted, ShapeStatus
from dynawatt.controller.actuation import Actuator, foreign_writer
from dynawatt.controller.claiming import ClockTerms
from dynawatt.controller.target import read_target, read_workload
from dynawatt.governing.table import ClockRow, GovernorTable

from .conftest import make_plan

SERVICE = "default/llama"
SPEC = LLMServiceSpec.parse(
    {
        "deploymentRef": {"name": "llama"},
        "slo": {"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 1000}]},
        "knobs": ["Clock", "Replicas"],
    }
)
PLAN = make_plan(1, reason="ShrinkToLoad")
TABLE = GovernorTable(0.99, 0.1, 1.0, 800.0, 300.0, True, (ClockRow(900, 1.0, 8000.0, 20),))
TERMS = ClockTerms(1980, TABLE)
CLAIM = ClockClaim(
    floor_megahertz=800,
    ceiling_megahertz=1980,
    lease="system/lease",
    service=SERVICE,
    metrics_port=8000,
    ttft_milliseconds=1000,
    table=TABLE.to_dict(),
).to_annotation()


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

    async def tick(recorded, written=None, *, may_scale=True, terms=TERMS, spec=SPEC, plan=PLAN):
        found = draft(recorded, written=written)
        found.status.shapes = found.status.shapes or [
            ShapeStatus(gpu_product="x", tensor_parallel_size=1, desired_replicas=2, ready_replicas=2)
        ]
        workload = read_workload(filled.deployment("", ""), filled.pods("", {}))
        target = read_target(workload, name="llama", container=None)
        await actuator.carry_out(SERVICE, spec, target, plan, found, terms=terms, may_scale=may_scale)
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


async def test_a_plan_that_carries_nothing_scales_nothing(act, filled):
    status = await act({}, plan=make_plan(1, carried=0.0, feasible=False))
    assert status.adopted is None
    assert filled.deployment_["spec"]["replicas"] == 2


async def test_claims_are_written_once_and_only_on_scheduled_pods(act, filled):
    status = await act({}, may_scale=False)
    assert filled.claims() == [CLAIM, CLAIM, None]
    filled.writes.clear()
    again = await act(status.to_dict(), status, may_scale=False)
    assert filled.writes == []
    assert len(again.last_changes) == len(status.last_changes)


async def test_while_replicas_drain_the_others_keep_their_ceiling(act, filled, pod):
    braced = ClockClaim.from_annotation(CLAIM).model_copy(update={"floor_megahertz": 1980}).to_annotation()
    first = await act({})
    status = await act(first.to_dict(), first)
    assert filled.deployment_["spec"]["replicas"] == 1
    assert filled.claims() == [braced, braced, None]
    assert status.shapes[0].clock == ClockRange(min_megahertz=800, max_megahertz=1980)
    filled.pods_[1]["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    await act(status.to_dict(), status)
    assert filled.claims()[0] == braced
    del filled.pods_[1:]
    await act(status.to_dict(), status)
    assert filled.claims() == [CLAIM]


async def test_a_claim_is_what_the_governor_needs(act, filled):
    status = await act({})
    claim = ClockClaim.from_annotation(filled.claims()[0])
    assert GovernorTable.from_dict(claim.table.to_dict()) == TABLE
    assert status.shapes[0].clock == ClockRange(min_megahertz=800, max_megahertz=1980)
    assert [(change.from_, change.to) for change in status.last_changes] == [("default", "800-1980")]


async def test_objectives_by_length_are_not_in_the_claim(act, filled):
    unjudged = ClockTerms(1980, replace(TABLE, judges_ttft=False))
    await act({}, terms=unjudged)
    assert ClockClaim.from_annotation(filled.claims()[0]).ttft_milliseconds is None


async def test_a_new_table_rewrites_the_claims_but_is_no_change_of_clocks(act, filled):
    status = await act({})
    moved = ClockTerms(1980, replace(TABLE, prompt_tokens=900.0))
    again = await act(status.to_dict(), status, terms=moved, may_scale=False)
    assert [ClockClaim.from_annotation(claim).table.prompt for claim in filled.claims()[:2]] == [900, 900]
    assert again.last_changes == status.last_changes


async def test_a_floor_above_the_default_clock_is_that_clock(act, filled):
    high = SPEC.model_copy(update={"gpu_clock": SPEC.gpu_clock.model_copy(update={"min_megahertz": 2500})})
    status = await act({}, spec=high)
    assert status.shapes[0].clock == ClockRange(min_megahertz=1980, max_megahertz=1980)


async def test_an_slo_that_no_clock_meets_gives_the_default_clocks(act, filled):
    status = await act({})
    status = await act(status.to_dict(), status, terms=None, may_scale=False)
    assert filled.claims() == [None, None, None]
    assert status.shapes[0].clock is None
    assert (status.last_changes[0].to, status.last_changes[0].reason) == (
        "default",
        "no clock meets the SLO at any load",
    )


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
