import pytest

from dynawatt.api.switch import switched_off


@pytest.mark.parametrize("config_map", [None, {}, {"data": None}, {"data": {}}, {"data": {"enabled": " True\n"}}])
def test_it_is_on_unless_somebody_says_otherwise(config_map):
    assert switched_off(config_map) == ""


@pytest.mark.parametrize("value", ["false", "False", "off", "", "flase", "0", None, False])
def test_whatever_is_not_true_is_off(value):
    assert switched_off({"data": {"enabled": value}}) == f"ConfigMap dynawatt-switch has enabled: {str(value)!r}"


def test_a_long_value_is_cut():
    assert len(switched_off({"data": {"enabled": "x" * 10_000}})) < 100
