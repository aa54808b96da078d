import pytest

from dynawatt.controller.shapes.selectors import selects

LABELS = {"app": "llama", "tier": "gold"}


def expressions(*found):
    return {"matchExpressions": [dict(zip(("key", "operator", "values"), each, strict=False)) for each in found]}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "llama"}}, True),
        ({"matchLabels": {"app": "llama", "zone": "a"}}, False),
        ({"matchLabels": {"app": "other"}}, False),
        (expressions(("app", "In", ["x", "llama"])), True),
        (expressions(("app", "In", ["x"])), False),
        (expressions(("zone", "In", ["a"])), False),
        (expressions(("app", "NotIn", ["llama"])), False),
        (expressions(("zone", "NotIn", ["a"])), True),
        (expressions(("tier", "Exists")), True),
        (expressions(("zone", "Exists")), False),
        (expressions(("zone", "DoesNotExist")), True),
        (expressions(("tier", "DoesNotExist")), False),
        (expressions(("tier", "Exists"), ("app", "In", ["x"])), False),
        ({"matchLabels": {"app": "x"}} | expressions(("tier", "Exists")), False),
    ],
)
def test_selects(selector, matches):
    assert selects(selector, LABELS) == matches
