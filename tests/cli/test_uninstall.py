"""What counts as given back; that it happens is shown by the chart's tests on a real cluster."""

import pytest

from dynawatt.api.switch import GIVE_BACK_DATA, gives_back, switched_off
from dynawatt.cli.uninstall.installed import _holds


def ready(status, reason, **others):
    return {"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "why"}], **others}


@pytest.mark.parametrize(
    ("status", "holds"),
    [
        ({}, ""),
        (ready("True", "SwitchedOff"), ""),
        (ready("False", "DeploymentNotFound"), ""),
        (ready("True", "Recommending"), "the operator has not seen the switch yet"),
        (ready("True", "Reconciled"), "the operator has not seen the switch yet"),
        (ready("False", "GivingBack"), "why"),
        (ready("True", "SwitchedOff", adopted={"replicas": 2}), "its replicas are not given back"),
        (ready("False", "MetricsMissing", adopted={"replicas": 2}), "its replicas are not given back"),
    ],
)
def test_whether_the_operator_has_let_go(status, holds):
    assert _holds(status) == holds


@pytest.mark.parametrize(
    ("config_map", "back"),
    [
        (None, False),
        ({}, False),
        ({"data": {"enabled": "true"}}, False),
        ({"data": {"giveBack": "True "}}, True),
        ({"data": {"giveBack": "yes"}}, False),
    ],
)
def test_the_switch_that_gives_back(config_map, back):
    assert gives_back(config_map) is back


def test_the_operator_stays_on_to_give_back():
    config_map = {"data": dict(GIVE_BACK_DATA)}
    assert gives_back(config_map)
    assert not switched_off(config_map)
