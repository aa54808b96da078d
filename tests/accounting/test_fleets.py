import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.accounting.fleets import Draw, RunningShape, StaticFleet, fewest_static, running_draw
from dynawatt.errors import InvalidInputError

from .curves import linear

RATE_RPS = st.floats(0.0, 100.0)


def test_a_static_fleet_shares_its_load_at_the_default_clock():
    fleet = StaticFleet(linear(), 2)
    assert fleet.draw(10.0) == Draw(2 * 1200.0, 8)
    assert fleet.draw(0.0) == Draw(2 * 400.0, 8)
    assert fleet.capacity_rps == 20.0
    assert fleet.carries(20.0)
    assert not fleet.carries(20.1)


def test_beyond_what_it_carries_it_draws_as_much_as_when_busy():
    assert StaticFleet(linear(), 2).draw(1000.0) == StaticFleet(linear(), 2).draw(20.0) == Draw(4000.0, 8)


def test_a_fleet_may_be_larger_than_the_largest_that_was_simulated():
    fleet = StaticFleet(linear(most_replicas=2), 5)
    assert fleet.capacity_rps == 50.0
    assert fleet.draw(25.0) == Draw(5 * 1200.0, 20)


def test_no_replicas_draw_nothing_and_carry_nothing():
    fleet = StaticFleet(linear(), 0)
    assert fleet.draw(5.0) == Draw(0.0, 0)
    assert fleet.carries(0.0)
    assert not fleet.carries(0.1)
    with pytest.raises(InvalidInputError, match="static fleet of -1 replicas"):
        StaticFleet(linear(), -1)


@pytest.mark.parametrize(
    ("peak_rps", "least", "most", "replicas"),
    [
        (0.0, 1, None, 1),
        (10.0, 1, None, 1),
        (10.1, 1, None, 2),
        (10.1, 4, None, 4),
        (60.0, 1, None, 6),
        (61.0, 1, None, 7),  # beyond the curve
        (100.0, 1, 3, 3),
        (1.0, 4, 3, 4),  # the least comes first
    ],
)
def test_the_fewest_that_carry_a_peak(peak_rps, least, most, replicas):
    fleet = fewest_static(linear(), peak_rps, least=least, most=most)
    assert fleet.replicas == replicas


def test_a_shape_that_never_meets_the_slo_cannot_be_tuned():
    assert fewest_static(linear(capacity_rps=0.0), 1.0) is None


@given(peak_rps=RATE_RPS)
def test_one_less_would_not_carry_it(peak_rps):
    fleet = fewest_static(linear(), peak_rps)
    assert fleet.carries(peak_rps)
    assert fleet.replicas == 1 or not StaticFleet(linear(), fleet.replicas - 1).carries(peak_rps)


def test_what_runs_at_the_default_clock_draws_what_a_static_fleet_does():
    for rate_rps in (0.0, 7.0, 25.0):
        assert running_draw([RunningShape(linear(), 2)], rate_rps) == StaticFleet(linear(), 2).draw(rate_rps)


def test_governed_replicas_run_at_the_clock_of_the_least_watts():
    assert running_draw([RunningShape(linear(), 2, governed=True)], 10.0) == Draw(2 * 900.0, 8)
    # Above what the lower clock carries only the default one is left.
    assert running_draw([RunningShape(linear(), 2, governed=True)], 11.0).power_w == pytest.approx(2 * 1280.0)
    assert running_draw([RunningShape(linear(), 2, governed=True)], 99.0) == Draw(4000.0, 8)


def test_starting_replicas_hold_their_gpus_and_draw_power():
    assert running_draw([RunningShape(linear(), 1, starting=2)], 0.0) == Draw(400.0 + 2 * 400.0, 12)


def test_shapes_share_the_load_by_what_they_carry():
    large, small = linear(), linear(gpus=2, capacity_rps=5.0, name="tp2")
    mixed = running_draw([RunningShape(large, 1), RunningShape(small, 2)], 12.0)
    assert mixed.gpus == 8
    assert mixed.power_w == StaticFleet(large, 1).draw(6.0).power_w + StaticFleet(small, 2).draw(6.0).power_w


def test_shapes_that_carry_nothing_draw_power_all_the_same():
    hopeless = linear(capacity_rps=0.0)
    assert running_draw([RunningShape(hopeless, 2)], 3.0).power_w > 0
    assert running_draw([], 3.0) == Draw(0.0, 0)


@given(rate_rps=RATE_RPS, replicas=st.integers(0, 8))
def test_governing_never_takes_more(rate_rps, replicas):
    governed, default = (
        running_draw([RunningShape(linear(), replicas, governed=governed)], rate_rps) for governed in (True, False)
    )
    assert governed.gpus == default.gpus
    assert governed.power_w <= default.power_w * (1 + 1e-12)
