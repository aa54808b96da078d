from collections.abc import Callable
from typing import Any

import pytest

from dynawatt.agent.claims import read_claims
from dynawatt.api.conditions import Reason
from dynawatt.ports import PodKey

LEASE = "dynawatt-system/dynawatt-operator"
KEY = PodKey("prod", "a")
TABLE = {
    "attainment": 0.99,
    "tbt": 0.1,
    "drain": 0.5,
    "prompt": 1000,
    "kv": 400,
    "ttft": False,
    "rows": [[800, 1, 8000, 20], [1980, 8, 20000, 140]],
}


def pod(text: str | None, phase: str = "Running", **status: Any) -> dict[str, Any]:
    annotations = None if text is None else {"dynawatt.dev/clock-claim": text}
    status = {"phase": phase, "podIP": "127.1.0.7"} | status
    return {"metadata": {"namespace": "prod", "name": "a", "annotations": annotations}, "status": status}


def test_valid_claim(claim_text: Callable[..., str]) -> None:
    claims = read_claims([pod(claim_text(345, 1200))], lease=LEASE)
    claim = claims.valid[KEY]
    assert (claim.floor_mhz, claim.ceiling_mhz) == (345, 1200)
    assert [row.clock_mhz for row in claim.table.rows] == [800, 1200, 1600, 1980]
    assert claim.target == ("127.1.0.7", 8000, 0.1, None)
    assert not claim.ready
    assert not claims.invalid


def test_where_the_metrics_are_and_what_is_late(claim_text: Callable[..., str]) -> None:
    text = claim_text(345, 1200, metricsPort=9000, ttftMilliseconds=400, table=TABLE | {"ttft": True})
    ready = {"podIP": "fd00::7", "conditions": [{"type": "Ready", "status": "True"}]}
    claim = read_claims([pod(text, **ready)], lease=LEASE).valid[KEY]
    assert claim.target == ("fd00::7", 9000, 0.1, 0.4)
    assert claim.ready


def test_a_pod_without_an_address_is_claimed_but_not_scraped(claim_text: Callable[..., str]) -> None:
    assert read_claims([pod(claim_text(345, 1200), podIP=None)], lease=LEASE).valid[KEY].target is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_claims_nothing(claim_text: Callable[..., str], phase: str) -> None:
    claims = read_claims([pod(claim_text(345, 1200), phase)], lease=LEASE)
    assert not claims.valid
    assert not claims.invalid


def test_no_claim() -> None:
    assert not read_claims([pod(None)], lease=LEASE).invalid


@pytest.mark.parametrize("text", ["", "{}", "null", "[1]", '{"version": 1}', '{"version": 2}', "{"])
def test_unreadable_claims_are_told(text: str) -> None:
    claims = read_claims([pod(text)], lease=LEASE)
    assert not claims.valid
    assert claims.invalid[KEY].reason is Reason.INVALID_CLAIM


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"table": None}, "table: None: must be a valid dictionary"),
        ({"table": {}}, "table.attainment: must be given"),
        ({"table": TABLE | {"rows": []}}, "table.rows: []: "),
        ({"table": TABLE | {"rows": [[1200, 1, 1, 1], [800, 2, 2, 2]]}}, "clocks must ascend from row to row"),
        ({"table": TABLE | {"rows": [[800, 2, 1, 1], [1200, 1, 2, 2]]}}, "a higher clock must carry at least as much"),
        ({"table": TABLE | {"ttft": True}}, "ttftMilliseconds must be given exactly when table.ttft is true"),
        ({"ttftMilliseconds": 400}, "ttftMilliseconds must be given exactly when table.ttft is true"),
        ({"metricsPort": 0}, "metricsPort: 0: "),
    ],
)
def test_a_claim_that_no_governor_can_follow_is_told(
    claim_text: Callable[..., str], changes: dict[str, Any], problem: str
) -> None:
    claims = read_claims([pod(claim_text(345, 1200, **changes))], lease=LEASE)
    assert not claims.valid
    assert claims.invalid[KEY].reason is Reason.INVALID_CLAIM
    assert problem in claims.invalid[KEY].message


def test_claim_of_another_lease(claim_text: Callable[..., str]) -> None:
    claims = read_claims([pod(claim_text(345, 1200, lease="other/lease"))], lease=LEASE)
    assert not claims.valid
    assert "'other/lease': must be 'dynawatt-system/dynawatt-operator'" in claims.invalid[KEY].message
