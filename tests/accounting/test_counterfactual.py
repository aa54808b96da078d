import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.accounting.counterfactual import Counterfactual, Moment, moment_of, static_fleets
from dynawatt.accounting.fleets import Draw, RunningShape, running_draw

from .curves import RELEASED_W, linear

AS_FOUND, TUNED = Counterfactual.AS_FOUND, Counterfactual.TUNED_STATIC


def test_both_are_of_the_users_shape():
    template = linear()
    fleets = static_fleets(template, adopted=5, peak_rps=22.0, least=1, most=40)
    assert {name: fleet.replicas for name, fleet in fleets.items()} == {AS_FOUND: 5, TUNED: 3}
    assert all(fleet.curve is template for fleet in fleets.values())


def test_what_cannot_be_told_is_left_out():
    assert static_fleets(linear(), adopted=None, peak_rps=1.0).keys() == {TUNED}
    assert static_fleets(linear(capacity_rps=0.0), adopted=2, peak_rps=1.0).keys() == {AS_FOUND}


def test_all_are_charged_for_the_same_gpus():
    fleets = static_fleets(linear(), adopted=3, peak_rps=10.0)
    now = moment_of(running_draw([RunningShape(linear(), 2)], 4.0), fleets, 4.0, RELEASED_W)
    assert now.gpus == 12
    assert now.charged_w(now.used) == now.used.power_w + 4 * RELEASED_W
    assert now.charged_w(now.instead[AS_FOUND]) == now.instead[AS_FOUND].power_w
    assert now.charged_w(now.instead[TUNED]) == now.instead[TUNED].power_w + 8 * RELEASED_W


def test_a_fleet_that_grew_beyond_what_was_found_charges_its_gpus_to_that_as_well():
    now = Moment(Draw(5000.0, 16), {AS_FOUND: Draw(900.0, 4)}, frozenset(), RELEASED_W)
    assert now.charged_w(now.used) == 5000.0
    assert now.charged_w(now.instead[AS_FOUND]) == 900.0 + 12 * RELEASED_W


def test_nothing_to_compare_with_is_no_error():
    assert Moment(Draw(10.0, 2), {}, frozenset(), RELEASED_W).gpus == 2


def test_one_that_would_miss_the_slo_is_named():
    fleets = static_fleets(linear(), adopted=1, peak_rps=30.0)
    assert moment_of(Draw(0.0, 0), fleets, 10.0, RELEASED_W).overloaded == frozenset()
    assert moment_of(Draw(0.0, 0), fleets, 11.0, RELEASED_W).overloaded == {AS_FOUND}
    assert moment_of(Draw(0.0, 0), fleets, 31.0, RELEASED_W).overloaded == {AS_FOUND, TUNED}


@given(
    found=st.integers(0, 6),
    running=st.integers(0, 6),
    rate_rps=st.floats(0.0, 60.0),
    more=st.integers(0, 50),
)
def test_the_size_of_the_inventory_changes_no_difference(found, running, rate_rps, more):
    used = running_draw([RunningShape(linear(), running)], rate_rps)
    now = moment_of(used, static_fleets(linear(), adopted=found, peak_rps=rate_rps), rate_rps, RELEASED_W)
    larger = Moment(used, {**now.instead, "other": Draw(0.0, now.gpus + more)}, now.overloaded, RELEASED_W)
    for draw in now.instead.values():
        difference_w = now.charged_w(draw) - now.charged_w(now.used)
        assert larger.charged_w(draw) - larger.charged_w(used) == pytest.approx(difference_w, abs=1e-6)


def test_an_idle_fleet_of_half_the_replicas_saves_what_loaded_gpus_draw_beyond_released_ones():
    fleets = static_fleets(linear(), adopted=2, peak_rps=0.0)
    now = moment_of(running_draw([RunningShape(linear(), 1)], 0.0), fleets, 0.0, RELEASED_W)
    assert now.charged_w(now.instead[AS_FOUND]) - now.charged_w(now.used) == 400.0 - 4 * RELEASED_W
