from collections.abc import Callable
from typing import Any

import pytest

from dynawatt.agent.claims import read_claims
from dynawatt.api.conditions import Reason
from dynawatt.ports import PodKey

LEASE = "dynawatt-system/dynawatt-operator"
KEY = PodKey("prod", "a")


def pod(text: str | None, phase: str = "Running") -> dict[str, Any]:
    annotations = None if text is None else {"dynawatt.dev/clock-claim": text}
    return {"metadata": {"namespace": "prod", "name": "a", "annotations": annotations}, "status": {"phase": phase}}


def test_valid_claim(claim_text: Callable[..., str]) -> None:
    claims = read_claims([pod(claim_text(345, 1200))], lease=LEASE)
    assert claims.valid == {KEY: (345, 1200)}
    assert not claims.invalid


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_claims_nothing(claim_text: Callable[..., str], phase: str) -> None:
    claims = read_claims([pod(claim_text(345, 1200), phase)], lease=LEASE)
    assert not claims.valid
    assert not claims.invalid


def test_no_claim() -> None:
    assert not read_claims([pod(None)], lease=LEASE).invalid


@pytest.mark.parametrize("text", ["", "{}", "null", "[1]", '{"version": 2}', "{"])
def test_unreadable_claims_are_told(text: str) -> None:
    claims = read_claims([pod(text)], lease=LEASE)
    assert not claims.valid
    assert claims.invalid[KEY].reason is Reason.INVALID_CLAIM


def test_claim_of_another_lease(claim_text: Callable[..., str]) -> None:
    claims = read_claims([pod(claim_text(345, 1200, lease="other/lease"))], lease=LEASE)
    assert not claims.valid
    assert "'other/lease': must be 'dynawatt-system/dynawatt-operator'" in claims.invalid[KEY].message
