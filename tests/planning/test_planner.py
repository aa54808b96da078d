from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.planning.planner import UnitCommitmentPlanner
from dynawatt.planning.service import FixedClock, Fleet

from .clusters import Cluster
from .services import curve, state

EAGER = UnitCommitmentPlanner(dwell_s=0.0, minimum_saving=0.0)


def plan(what, planner=None, free=None):
    return (planner or UnitCommitmentPlanner()).plan({"it": what}, free)["it"]


def fleet(found):
    return found.shape, found.replicas


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


@st.composite
def shapes(draw):
    """Watts are convex in the load, as they are of real replicas."""
    low_rps = draw(st.floats(2, 6))
    idle_w, busy_w = draw(st.floats(75, 100)), draw(st.floats(120, 300))
    return {
        "gpus": draw(st.sampled_from([2, 4, 8])),
        "startup_s": draw(st.sampled_from([60.0, 240.0, 480.0])),
        "most_replicas": 8,
        "capacities": ((1000, low_rps), (2000, low_rps * draw(st.floats(1.2, 2)))),
        "watts": ((idle_w, busy_w), (110, busy_w * draw(st.floats(1.5, 3)))),
    }


RATES = st.lists(st.floats(0, 16), min_size=4, max_size=16)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(shapes(), min_size=1, max_size=2),
    rates=RATES,
    replicas=st.integers(1, 4),
    planner=st.builds(UnitCommitmentPlanner, packs=st.booleans(), dwell_s=st.sampled_from([0.0, 600.0, 900.0])),
)
def test_capacity_is_there_in_every_slot_and_gpus_at_every_instant(shape, rates, replicas, planner):
    curves = {f"s{index}": curve(f"s{index}", **each) for index, each in enumerate(shape)}
    if min(each.capacity_rps(8) for each in curves.values()) < max(rates) * 1.2:
        return
    cluster = Cluster(planner, curves, [8] * 20, rates)
    for _ in range(replicas):
        cluster.start("s0")
    for each in cluster.replicas:
        each.ready_s = 0.0
    cluster.run()
    settled = 1 + max(int(-(-each.startup_s // 300)) for each in curves.values())
    for slot in range(settled, len(rates)):
        assert cluster.capacities_rps[slot] >= rates[slot] * 1.2 * (1 - 1e-9), slot


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(shapes(), min_size=1, max_size=2),
    rates=RATES,
    nodes=st.lists(st.integers(0, 8), min_size=1, max_size=4),
)
def test_a_scarce_inventory_is_kept_at_every_instant(shape, rates, nodes):
    curves = {f"s{index}": curve(f"s{index}", **each) for index, each in enumerate(shape)}
    Cluster(EAGER, curves, [*nodes, 8], rates, limits={"max_gpus": 24}).run()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(shapes(), min_size=1, max_size=3),
    rate_rps=st.floats(0, 16),
    replicas=st.integers(0, 6),
    packs=st.booleans(),
    eager=st.booleans(),
)
def test_nothing_flaps_under_constant_load(shape, rate_rps, replicas, packs, eager):
    curves = {f"s{index}": curve(f"s{index}", **each) for index, each in enumerate(shape)}
    settings = {"dwell_s": 0.0, "minimum_saving": 0.0} if eager else {}
    cluster = Cluster(UnitCommitmentPlanner(packs=packs, **settings), curves, [8] * 16, [rate_rps] * 16)
    for _ in range(replicas):
        cluster.start("s0")
    for each in cluster.replicas:
        each.ready_s = 0.0
    cluster.run()
    targets = [target for target, _ in groupby(fleet(each) for each in cluster.plans)]
    assert len(targets) == len(set(targets)), targets
    assert len(targets) <= 3
    assert all(fleet(each) == targets[-1] for each in cluster.plans[10:])


@settings(max_examples=40, deadline=None)
@given(
    shape=shapes(),
    rates=st.lists(st.floats(0, 12), min_size=2, max_size=8),
    more=st.floats(1, 2),
    have=st.integers(0, 8),
)
def test_more_demand_never_gets_fewer_replicas(shape, rates, more, have):
    # At one clock: where there are several, fewer replicas at a higher one may be the cheaper way to carry more.
    one_clock = {name: shape[name][-1:] for name in ("capacities", "watts")}
    each = curve(**shape | one_clock)
    low, high = (state(each, ready={"a": have}, rates=[factor * rate for rate in rates]) for factor in (1.0, more))
    assert plan(high, EAGER).replicas >= plan(low, EAGER).replicas


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(shapes(), min_size=1, max_size=3),
    rates=st.lists(st.floats(0, 30), min_size=1, max_size=8),
    have=st.integers(0, 6),
    free=st.lists(st.integers(0, 8), max_size=4),
    rest=st.fixed_dictionaries(
        {
            "present_rps": st.floats(0, 30),
            "min_replicas": st.integers(0, 4),
            "max_replicas": st.integers(4, 9),
            "max_gpus": st.none() | st.integers(0, 40),
            "may_scale": st.booleans(),
            "may_reshape": st.booleans(),
            "fixed_clock": st.sampled_from([None, FixedClock(), FixedClock(1000)]),
            "since_change_s": st.floats(0, 2000),
            "starting": st.sampled_from([{}, {"s0": 2}]),
        }
    ),
)
def test_a_plan_is_allowed_and_says_what_is_so(shape, rates, have, free, rest):
    curves = [curve(f"s{index}", **each) for index, each in enumerate(shape)]
    what = state(*curves, ready={"s0": have}, rates=rates, **rest)
    found = plan(what, free=free)
    chosen, there = what.usable_curves[found.shape], {"s0": have + what.starting.get("s0", 0)}
    started = max(0, found.replicas - there.get(found.shape, 0))
    assert started <= sum(gpus // chosen.gpus for gpus in free)
    assert found.replicas <= max(what.max_replicas, there["s0"])
    if started and what.max_gpus is not None:
        assert curves[0].gpus * there["s0"] + started * chosen.gpus <= what.max_gpus
    if not what.may_scale:
        assert fleet(found) == ("s0", there["s0"])
    if not what.may_reshape and there["s0"]:
        assert found.shape == "s0"
    assert found.feasible == (found.carried >= 1)
    if found.feasible:
        assert chosen.capacity_rps(found.replicas) >= what.demand.high_rps[-1] or len(set(found.schedule)) > 1
    assert np.isfinite([found.power_w, found.energy_j, found.saving_to_keeping, found.saving_to_default_clock]).all()
    assert found.energy_j >= 0
    assert len(found.runners_up) <= 3
    assert all(
        (each.shape, each.replicas, each.clock_mhz) != (*fleet(found), found.clock_mhz) for each in found.runners_up
    )
    assert plan(what, free=free) == found


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
