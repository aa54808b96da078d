from dataclasses import replace

import pytest

from dynawatt.api.base import ClockRange
from dynawatt.api.claims import ClockClaim
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.controller.claiming import ClockTerms
from dynawatt.controller.clocks import ServiceClocks
from dynawatt.controller.reporting import report_target
from dynawatt.controller.target import read_target, read_workload
from dynawatt.governing.table import ClockRow, GovernorTable

SERVICE = "default/llama"
SPEC = LLMServiceSpec.parse(
    {
        "deploymentRef": {"name": "llama"},
        "slo": {"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 1000}]},
    }
)
TABLE = GovernorTable(0.99, 0.1, 1.0, 800.0, 300.0, True, (ClockRow(900, 1.0, 8000.0, 20),))
TERMS = {"tp1": ClockTerms(1980, TABLE)}
CLAIM = ClockClaim(
    floor_megahertz=800,
    ceiling_megahertz=1980,
    lease="system/lease",
    service=SERVICE,
    metrics_port=8000,
    ttft_milliseconds=1000,
    table=TABLE.to_dict(),
).to_annotation()
BRACED = ClockClaim.from_annotation(CLAIM).model_copy(update={"floor_megahertz": 1980}).to_annotation()


@pytest.fixture
def filled(cluster, deployment, pod):
    cluster.deployment_ = deployment(replicas=2)
    cluster.pods_ = [pod("a", ready="2026-01-01T00:00:20Z"), pod("b"), pod("c", node=None)]
    return cluster


@pytest.fixture
def claim(filled, draft):
    """One tick of claiming with the status that the last one left."""

    async def tick(written=None, *, terms=TERMS, spec=SPEC, braced=False):
        found = draft({}, written=written)
        siblings = [each for name, each in filled.deployments_.items() if name != "llama"]
        workloads = [
            read_workload(each, filled.pods_of("default", each["metadata"]["name"]))
            for each in (filled.deployment_, *siblings)
        ]
        target = read_target(workloads[0], workloads[1:], name="llama", container=None)
        report_target(target, "x", found)
        await ServiceClocks(filled, "system/lease").claim(SERVICE, spec, target, terms, found, braced=braced)
        return found.status

    return tick


async def test_claims_are_written_once_and_only_on_scheduled_pods(claim, filled):
    status = await claim()
    assert filled.claims() == [CLAIM, CLAIM, None]
    filled.writes.clear()
    again = await claim(status)
    assert filled.writes == []
    assert again.last_changes == status.last_changes


async def test_a_claim_is_what_the_governor_needs(claim, filled):
    status = await claim()
    found = ClockClaim.from_annotation(filled.claims()[0])
    assert GovernorTable.from_dict(found.table.to_dict()) == TABLE
    assert status.shapes[0].clock == ClockRange(min_megahertz=800, max_megahertz=1980)
    assert [(change.from_, change.to) for change in status.last_changes] == [("default", "800-1980")]


async def test_while_replicas_are_about_to_drain_or_do_all_keep_their_ceiling(claim, filled):
    status = await claim(braced=True)
    assert filled.claims() == [BRACED, BRACED, None]
    assert status.shapes[0].clock == ClockRange(min_megahertz=800, max_megahertz=1980)
    filled.pods_[1]["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    await claim(status)
    assert filled.claims()[0] == BRACED
    del filled.pods_[1:]
    await claim(status)
    assert filled.claims() == [CLAIM]


async def test_objectives_by_length_are_not_in_the_claim(claim, filled):
    await claim(terms={"tp1": ClockTerms(1980, replace(TABLE, judges_ttft=False))})
    assert ClockClaim.from_annotation(filled.claims()[0]).ttft_milliseconds is None


async def test_a_new_table_rewrites_the_claims_but_is_no_change_of_clocks(claim, filled):
    status = await claim()
    again = await claim(status, terms={"tp1": ClockTerms(1980, replace(TABLE, prompt_tokens=900.0))})
    assert [ClockClaim.from_annotation(text).table.prompt for text in filled.claims()[:2]] == [900, 900]
    assert again.last_changes == status.last_changes


async def test_a_floor_above_the_default_clock_is_that_clock(claim):
    high = SPEC.model_copy(update={"gpu_clock": SPEC.gpu_clock.model_copy(update={"min_megahertz": 2500})})
    status = await claim(spec=high)
    assert status.shapes[0].clock == ClockRange(min_megahertz=1980, max_megahertz=1980)


async def test_an_slo_that_no_clock_meets_gives_the_default_clocks(claim, filled):
    status = await claim()
    status = await claim(status, terms={})
    assert filled.claims() == [None, None, None]
    assert status.shapes[0].clock is None
    change = status.last_changes[0]
    assert (change.to, change.reason) == ("default", "no clock meets the SLO at any load")


@pytest.fixture
def two_shapes(filled, deployment, pod):
    sibling = filled.deployments_["llama-tp2"] = deployment(replicas=1, gpus=2)
    sibling["metadata"]["name"] = "llama-tp2"
    filled.pods_.append(pod("d", of="llama-tp2", gpus=2, ready="2026-01-01T00:00:20Z"))
    return filled


async def test_pods_of_each_shape_are_claimed_by_its_own_terms(claim, two_shapes):
    other = ClockTerms(1755, replace(TABLE, prompt_tokens=900.0))
    status = await claim(terms=TERMS | {"tp2": other})
    claims = [ClockClaim.from_annotation(text) for text in two_shapes.claims() if text]
    assert [(each.ceiling_megahertz, each.table.prompt) for each in claims] == [(1980, 800), (1980, 800), (1755, 900)]
    assert [str(shape.clock) for shape in status.shapes] == ["800-1980", "800-1755"]


async def test_a_shape_without_terms_runs_at_its_default_clock_beside_others(claim, two_shapes):
    status = await claim()
    assert two_shapes.claims() == [CLAIM, CLAIM, None, None]
    assert [shape.clock is None for shape in status.shapes] == [False, True]


async def test_clocks_that_went_with_their_pods_were_not_changed(claim, two_shapes):
    status = await claim(terms=TERMS | {"tp2": TERMS["tp1"]})
    del two_shapes.pods_[:3]
    two_shapes.deployment_["spec"]["replicas"] = 0
    again = await claim(status, terms=TERMS | {"tp2": TERMS["tp1"]})
    assert [shape.clock is None for shape in again.shapes] == [True, False]
    assert again.last_changes == status.last_changes


async def test_all_clocks_are_withdrawn_together(claim, filled, draft):
    status = await claim()
    found = draft({}, written=status)
    await ServiceClocks(filled, "system/lease").withdraw(filled.pods(), found)
    assert filled.claims() == [None, None, None]
    assert found.status.shapes[0].clock is None


async def test_claims_are_dropped_wherever_they_are_but_not_those_of_others(claim, filled, pod):
    await claim()
    theirs = ClockClaim.from_annotation(CLAIM).model_copy(update={"service": "default/other"}).to_annotation()
    for name, text in (("orphan", CLAIM), ("other", theirs), ("odd", "{")):
        filled.pods_.append(pod(name, app="elsewhere"))
        filled.pods_[-1]["metadata"]["annotations"] = {CLAIM_ANNOTATION: text}
    filled.pods_[0]["metadata"]["annotations"] = {CLAIM_ANNOTATION: "{"}  # its own, however it reads
    filled.pods_[1]["metadata"]["annotations"] = {CLAIM_ANNOTATION: theirs}  # of two on one Deployment, the other's
    own = filled.pods_of("default", "llama")
    await ServiceClocks(filled, "system/lease").withdraw_everywhere(SERVICE, filled.pods(), own)
    assert filled.claims() == [None, theirs, None, None, theirs, "{"]
