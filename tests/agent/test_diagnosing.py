from typing import Any

import pytest

from dynawatt.agent.diagnosing import Diagnosis, diagnose
from dynawatt.ports import GpuHealth

from .views import HEALTH, gpu_view


def diagnosed(**changes: Any) -> Diagnosis:
    return diagnose(gpu_view(health=HEALTH._replace(**changes)))


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, ()),
        ({"ecc_corrected": 10_000, "rows_remapped": 3, "mig": True}, ()),
        ({"xids": {13: 1, 31: 4, 43: 1, 45: 9, 68: 1, 109: 2}}, ()),
        ({"ecc_uncorrected": 1}, ("uncorrected ECC errors",)),
        ({"row_remap_failed": True}, ("a memory row could not be remapped",)),
        ({"xids": {94: 1, 31: 1, 79: 2}}, ("XID 79", "XID 94")),
        ({"ecc_uncorrected": 2, "xids": {48: 1}}, ("uncorrected ECC errors", "XID 48")),
    ],
)
def test_what_calls_for_a_reset_or_a_replacement(changes: dict[str, Any], problems: tuple[str, ...]) -> None:
    assert diagnosed(**changes) == Diagnosis(not problems, problems)


def test_what_works_but_should_be_seen_to() -> None:
    assert diagnosed(row_remap_pending=True, persistence=False) == Diagnosis(
        True, row_remap_pending=True, persistence_off=True
    )


def test_what_a_gpu_does_not_tell_is_held_against_it_only_when_it_tells_nothing() -> None:
    assert diagnose(gpu_view(health=GpuHealth())) == Diagnosis(True)
    assert diagnose(gpu_view(health=None)) == Diagnosis(None)
    assert diagnose(gpu_view(health=None, reading=None)) == Diagnosis(False, ("it does not answer",))
