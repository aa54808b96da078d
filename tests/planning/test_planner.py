from dataclasses import replace

import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.planning.planner import UnitCommitmentPlanner
from dynawatt.planning.service import FixedClock

from .plans import fleet, plan
from .services import curve, state


# A replica of `curve()` carries 5 req/s at 1000 MHz for 320 to 900 W, and 10 at 2000 MHz for 440 to 2000 W.
@pytest.mark.parametrize(
    ("changes", "expected", "reason"),
    [
        ({"ready": {"a": 2}}, 2, "Steady"),
        ({"ready": {"a": 1}, "rates": (9.0,) * 6}, 2, "GrowForLoad"),
        ({"ready": {"a": 6}}, 2, "ShrinkToLoad"),
        ({"ready": {}}, 2, "GrowForLoad"),
        ({"ready": {"a": 2}, "min_replicas": 4}, 4, "GrowForLoad"),
        ({"ready": {"a": 6}, "max_replicas": 3, "since_change_s": 0.0}, 2, "ShrinkToLoad"),
        ({"ready": {"a": 1}, "max_replicas": 1, "rates": (8.0,)}, 1, "Steady"),
        ({"ready": {"a": 1}, "max_replicas": 1, "rates": (9.0,)}, 1, "SLOUnreachable"),
        ({"ready": {"a": 3}, "rates": (60.0,) * 6}, 6, "SLOUnreachable"),
        ({"ready": {"a": 3}, "rates": (0.0,) * 6}, 1, "ShrinkToLoad"),
        ({"ready": {"a": 3}, "rates": (0.0,) * 6, "min_replicas": 0}, 0, "ShrinkToLoad"),
        ({"ready": {"a": 5}, "may_scale": False}, 5, "Steady"),
        ({"ready": {"a": 1}, "may_scale": False, "rates": (20.0,)}, 1, "SLOUnreachable"),
        ({"ready": {"a": 2}, "max_gpus": 4}, 1, "ShrinkToLoad"),
        ({"ready": {"a": 2}, "max_gpus": 3}, 2, "Steady"),  # no replica fits: better to keep what is there
        ({"ready": {}, "max_gpus": 3}, 0, "MinimumUnreachable"),
        ({"ready": {"a": 6}, "present_rps": 55.0}, 6, "Steady"),
    ],
)
def test_choices(changes, expected, reason):
    found = plan(state(**changes))
    assert (fleet(found), found.reason) == (("a", expected), reason)
    assert found.feasible == (reason not in {"SLOUnreachable", "MinimumUnreachable"})
    assert len(found.schedule) == len(changes.get("rates", (0,) * 6))
    assert found.message


def test_replicas_are_started_one_start_up_before_they_are_needed_and_not_sooner():
    rising = (8.0, 8.0, 8.0, 40.0, 40.0, 40.0)
    for startup_s, slots in ((240.0, 1), (300.0, 1), (480.0, 2), (900.0, 3)):
        what = state(curve(startup_s=startup_s, most_replicas=8), ready={"a": 2}, rates=rising)
        started = next(slot for slot, each in enumerate(plan(what).schedule) if each.replicas >= 5)
        assert started == 3 - slots, startup_s


@pytest.mark.parametrize(("startup_s", "replicas"), [(60.0, 4), (3000.0, 2)])
def test_start_up_energy_is_weighed(startup_s, replicas):
    # 2 carry it at 2000 MHz; 4 would draw 900 W less, and take 160 W each to start.
    cheap = curve(startup_s=startup_s, most_replicas=4)
    assert plan(state(cheap, ready={"a": 2}, rates=(16.0,) * 12)).replicas == replicas


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ready": {"a": 6}, "since_change_s": 899.0}, 6),
        ({"ready": {"a": 6}, "since_change_s": 901.0}, 2),
        ({"ready": {"a": 2}, "rates": (25.0,) * 6, "since_change_s": 1.0}, 3),
        ({"ready": {"a": 2}, "rates": (8.0, 8.0, 8.0, 8.0, 25.0, 25.0), "since_change_s": 1.0}, 2),
    ],
)
def test_soon_after_a_change_only_a_shortage_brings_another(changes, expected):
    found = plan(state(**changes))
    assert found.replicas >= expected if expected == 3 else found.replicas == expected


def test_a_small_saving_moves_nothing():
    what = state(ready={"a": 3}, rates=(8.0,) * 6)
    saved = 1 - 1240 / 1280  # beyond 280 W released per replica: 2 draw 920 W at 8 req/s, 3 draw 930
    assert saved > 0.03
    assert plan(what, UnitCommitmentPlanner(minimum_saving=0.0)).replicas == 2
    found = plan(what, UnitCommitmentPlanner(minimum_saving=0.1))
    assert (found.replicas, found.reason) == (3, "Steady")
    assert any("not worth the change" in other.why_not for other in found.runners_up)


def test_the_clock_now_is_for_those_who_serve():
    assert plan(state(ready={"a": 2}, present_rps=8.0)).clock_now_mhz == {"a": 1000}
    assert plan(state(ready={"a": 1}, starting={"a": 1}, present_rps=8.0)).clock_now_mhz == {"a": 2000}
    assert plan(state(ready={"a": 6}, present_rps=9.0)).clock_now_mhz == {"a": 1000}
    assert plan(state(ready={"a": 1}, present_rps=99.0)).clock_now_mhz == {"a": 2000}
    assert plan(state(ready={}, present_rps=8.0)).clock_now_mhz == {}
    assert plan(state(ready={"a": 2}, present_rps=8.0, fixed_clock=FixedClock())).clock_now_mhz == {"a": 2000}


def test_runners_up_are_another_count_another_shape_and_the_default_clock():
    what = state(curve("a"), curve("b", gpus=8), ready={"a": 2})
    found = plan(what)
    count, shape, clock = found.runners_up
    assert (count.shape, shape.shape, clock.shape) == ("a", "b", "a")
    assert count.replicas != 2
    assert (clock.replicas, clock.clock_mhz) == (2, 2000)
    assert all("W more" in each.why_not for each in found.runners_up)
    assert clock.power_w > found.power_w
    assert 0 < found.saving_to_default_clock < 1


def test_energy_is_what_the_schedule_draws():
    found = plan(state(curve(most_replicas=2), ready={"a": 2}, rates=(8.0,) * 6))
    assert found.energy_j == pytest.approx(1800 * found.power_w)
    assert found.saving_to_keeping == pytest.approx(0)


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"curves": {}}, "no shape has a latency model"),
        ({"present_rps": NAN}, "present load of nan req/s"),
        ({"present_rps": -1.0}, "present load of -1.0 req/s"),
        ({"ready": {"a": -1}}, "-1 replicas"),
        ({"ready": {"other": 1}}, "replicas of other are there"),
        ({"min_replicas": 3, "max_replicas": 2}, "3 to 2 replicas"),
        ({"min_replicas": -1}, "-1 to"),
        ({"max_gpus": -8}, "at most -8 GPUs"),
        ({"since_change_s": NAN}, "since the last change is NaN"),
    ],
)
def test_a_state_that_makes_no_sense_keeps_what_is_there_and_harms_no_other(changes, said):
    good = state(ready={"a": 2})
    both = UnitCommitmentPlanner().plan({"bad": replace(good, **changes), "good": good}, [8])
    bad = both["bad"]
    assert (bad.reason, bad.feasible) == ("CannotPlan", False)
    assert said in bad.message
    assert "\n" not in bad.message
    if "curves" not in changes and "ready" not in changes:
        assert (fleet(bad), bad.clock_now_mhz) == (("a", 2), {"a": 2000})
    assert both["good"].reason == "Steady"


def test_a_forecast_of_other_slots_than_the_others_is_refused():
    both = UnitCommitmentPlanner().plan({"a": state(rates=(1.0,) * 4), "b": state(rates=(1.0,) * 5)}, None)
    assert [each.reason == "CannotPlan" for each in both.values()] == [False, True]
    assert both["b"].message.startswith("forecast of 5 slots of 300 s: 4 of 300 s are planned")


def test_shapes_without_capacity_are_never_chosen():
    dead = curve("dead", gpus=1, capacities=((1000, 0.0), (2000, 0.0)))
    assert plan(state(dead, curve("a"), ready={}, rates=(0.0,) * 4)).shape == "a"
    only = plan(state(dead, ready={"dead": 2}))
    assert (fleet(only), only.reason, only.feasible) == (("dead", 2), "SLOUnreachable", False)


@pytest.mark.parametrize("changes", [{"dwell_s": -1.0}, {"dwell_s": NAN}, {"minimum_saving": -0.1}])
def test_senseless_settings_are_refused(changes):
    with pytest.raises(InvalidInputError, match="must be 0 or more"):
        UnitCommitmentPlanner(**changes)


def test_no_service_no_plan():
    assert UnitCommitmentPlanner().plan({}, [8]) == {}


def test_parked_replicas_are_counted_on_where_it_packs():
    what = state(curve(most_replicas=6), ready={"a": 6}, rates=(4.0,) * 4, min_replicas=6)
    spread, packed = (plan(what, UnitCommitmentPlanner(packs=packs)) for packs in (False, True))
    assert spread.open_replicas == 6
    assert packed.open_replicas < 6
    assert packed.power_w <= spread.power_w


def test_a_plan_at_the_default_clock_tells_why():
    what = state(ready={"a": 2}, present_rps=8.0, fixed_clock=FixedClock(because="no agent is there"))
    found = plan(what)
    assert (found.clock_mhz, found.clock_now_mhz) == (2000, {"a": 2000})
    for told in (found.message, found.clock_message):
        assert told.endswith("; at the default clock, because no agent is there")


def test_a_plan_at_a_clock_that_nobody_can_raise_has_the_replicas_that_it_takes():
    cheap_when_fast = curve(watts=((80, 225), (110, 230)))
    able = plan(state(cheap_when_fast, ready={"a": 1}, rates=(9.0,) * 6, high=1.0))
    stuck = FixedClock(1000, "that one is locked")
    found = plan(state(cheap_when_fast, ready={"a": 1}, rates=(9.0,) * 6, high=1.0, fixed_clock=stuck))
    assert (able.replicas, able.clock_mhz) == (1, 2000)
    assert (found.replicas, found.clock_mhz, found.clock_now_mhz) == (2, 1000, {"a": 1000})
    assert found.feasible
    for told in (found.message, found.clock_message):
        assert told.endswith("; at 1000 MHz, because that one is locked")


def test_a_clock_that_carries_nothing_is_not_what_replicas_are_counted_by():
    what = state(
        curve(capacities=((500, 0.0), (1000, 5.0), (2000, 10.0)), watts=((70, 100), (80, 225), (110, 500))),
        ready={"a": 2},
        rates=(9.0,) * 6,
        high=1.0,
        fixed_clock=FixedClock(500, "it is locked"),
    )
    found = plan(what)
    assert (found.replicas, found.clock_mhz, found.feasible) == (2, 1000, True)
    assert "at 1000 MHz, because it is locked" in found.message
