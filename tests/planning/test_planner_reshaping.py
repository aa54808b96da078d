"""Which shape a service gets, and when it changes."""

from dataclasses import replace

import pytest

from dynawatt.planning.service import Fleet

from .plans import EAGER, fleet, plan
from .services import curve, state


def test_another_shape_takes_over_when_it_pays_and_fits_beside():
    large = curve("large", gpus=8)
    small = curve("small", gpus=2, capacities=((1000, 4.0), (2000, 9.0)))
    what = state(large, small, ready={"large": 2}, rates=(8.0,) * 12)
    found = plan(what, free=[4, 4])
    assert (found.shape, found.reason) == ("small", "ReshapeForEnergy")
    assert found.saving_to_keeping > 0.3
    assert fleet(plan(what, free=[1, 1, 1, 1])) == ("large", 2)
    assert plan(replace(what, max_gpus=17), free=[8]).shape == "large"
    assert fleet(plan(replace(what, may_reshape=False), free=[8])) == ("large", 2)
    assert any(other.shape == "small" and "do not fit" in other.why_not for other in plan(what, free=[1]).runners_up)


def test_four_free_gpus_on_each_of_two_nodes_are_not_eight():
    what = state(curve(gpus=8), ready={"a": 1}, rates=(20.0,) * 4)
    assert plan(what, free=[4, 4]).replicas == 1
    assert plan(what, free=[8]).replicas == 2
    assert plan(what, free=[4, 4]).reason == "SLOUnreachable"


def test_what_only_has_no_room_is_named():
    large = curve("large", gpus=8)
    small = curve("small", gpus=2, capacities=((1000, 4.0), (2000, 9.0)))
    what = state(large, small, ready={"large": 2}, rates=(8.0,) * 12)
    assert plan(what, free=[1, 1, 1, 1]).wanted == Fleet("small", plan(what, free=[4, 4]).replicas)
    assert plan(what, free=[4, 4]).wanted is None
    assert plan(replace(what, may_reshape=False), free=[1, 1, 1, 1]).wanted is None


@pytest.mark.parametrize("rates", [(1.0,) * 6, (8.0,) * 6, (30.0,) * 6])
def test_while_something_starts_only_more_of_it_may_be_added(rates):
    large, small = curve("large", gpus=8), curve("small", gpus=2)
    what = state(large, small, ready={"large": 2}, starting={"small": 2}, rates=rates)
    found = plan(what)
    assert found.shape == "small"
    assert found.replicas >= 2


def test_what_starts_is_waited_for_though_the_load_has_gone():
    cheap = curve("cheap", gpus=1)
    for ready, starting, expected in (({"a": 2}, {"a": 3}, ("a", 5)), ({}, {"a": 1}, ("a", 1))):
        what = state(curve(), cheap, ready=ready, starting=starting, rates=(1.0,) * 6)
        assert fleet(plan(what, EAGER)) == expected
        settled = replace(what, ready={"a": expected[1]}, starting={})
        assert fleet(plan(settled, EAGER)) == ("cheap", 1)


def test_a_shape_that_is_left_over_is_drained():
    large, small = curve("large", gpus=8), curve("small", gpus=2)
    found = plan(state(large, small, ready={"large": 1, "small": 2}, rates=(8.0,) * 6, since_change_s=10.0))
    assert fleet(found) == ("small", 2)
