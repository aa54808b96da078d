from dataclasses import replace

import pytest

from dynawatt.planning.fleet import FleetPlanner

from .conftest import make_state


def plan(surface, planner=None, **changes):
    return (planner or FleetPlanner()).plan({"it": make_state(surface, **changes)})["it"]


def chosen(found):
    return found.chosen.replicas, found.chosen.clock_mhz


# What `surface` draws at 10 req/s, beyond released GPUs: 1 x 2000 MHz 1720 W; 2 x 1000 MHz 1240 W; 3 x 1000 MHz 1280 W.
def test_two_slow_replicas_beat_one_fast_one(surface):
    found = plan(surface)
    assert chosen(found) == (2, 1000)
    assert found.feasible
    assert found.reason == "Steady"
    assert found.chosen.power_w == pytest.approx(1800)


@pytest.mark.parametrize(
    ("changes", "expected", "reason"),
    [
        ({"desired_replicas": 1, "ready_replicas": 1}, (2, 1000), "GrowForLoad"),
        ({"desired_replicas": 6, "ready_replicas": 6}, (2, 1000), "ShrinkToLoad"),
        ({"desired_replicas": 3, "ready_replicas": 3}, (2, 1000), "ShrinkToLoad"),  # 3.1 % less
        ({"desired_replicas": 1, "max_replicas": 1}, (1, 2000), "Steady"),
        ({"min_replicas": 4}, (4, 1000), "GrowForLoad"),
        ({"demand_rps": 59.0}, (6, 2000), "GrowForLoad"),
        ({"demand_rps": 61.0}, (6, 2000), "SLOUnreachable"),
        ({"demand_rps": 0.0}, (1, 1000), "ShrinkToLoad"),
        ({"may_scale": False, "desired_replicas": 1}, (1, 2000), "Steady"),
        ({"may_scale": False, "desired_replicas": 9}, (9, 1000), "Steady"),  # above the maximum, but not ours to change
        ({"may_scale": False, "desired_replicas": 0}, (1, 2000), "GrowForLoad"),
        ({"may_set_clock": False, "desired_replicas": 1}, (1, 2000), "Steady"),
        ({"may_set_clock": False, "may_scale": False, "desired_replicas": 3}, (3, 2000), "Steady"),
    ],
)
def test_choices(surface, changes, expected, reason):
    found = plan(surface, **changes)
    assert (chosen(found), found.reason) == (expected, reason)
    assert found.feasible == (reason != "SLOUnreachable")


def test_a_small_saving_does_not_move_replicas(surface):
    found = plan(surface, FleetPlanner(minimum_saving=0.05), desired_replicas=3, ready_replicas=3)
    assert (chosen(found), found.reason) == ((3, 1000), "Steady")
    assert found.message == "a change would save only 3.1% of power"
    cheaper = next(other for other in found.runners_up if other.point.replicas == 2)
    assert cheaper.why_not == "40 W less, not worth the change"


@pytest.mark.parametrize(
    ("startup_s", "horizon_s", "expected"),
    [
        (1500.0, 600.0, (2, 1000)),
        (1700.0, 600.0, (1, 2000)),  # 27 W less: not worth it
        (2000.0, 600.0, (1, 2000)),
        (300.0, 120.0, (2, 1000)),
        (400.0, 120.0, (1, 2000)),
    ],
)
def test_starting_replicas_costs_what_it_takes_to_load_them(surface, startup_s, horizon_s, expected):
    # A second replica saves 480 W; while its 4 GPUs load they draw 160 W more than released.
    planner = FleetPlanner(horizon_s=horizon_s)
    assert chosen(plan(surface, planner, desired_replicas=1, startup_s=startup_s)) == expected


@pytest.mark.parametrize(
    ("changes", "clock_mhz"),
    [
        ({}, 1000),
        ({"ready_replicas": 1}, 2000),  # the second one is still starting
        ({"ready_replicas": 0}, 1000),  # nobody serves: the clock of the plan
        ({"ready_replicas": 5, "desired_replicas": 5}, 1000),
        ({"present_demand_rps": 12.0}, 2000),
        ({"present_demand_rps": 99.0}, 2000),
        ({"ready_replicas": 1, "present_demand_rps": 4.0}, 1000),
        ({"may_set_clock": False, "present_demand_rps": 1.0}, 2000),
    ],
)
def test_the_clock_now_covers_the_replicas_that_serve(surface, changes, clock_mhz):
    assert plan(surface, **changes).clock_now_mhz == clock_mhz


def test_runners_up_say_why_they_lost(surface):
    found = plan(surface, desired_replicas=3)
    said = {(other.point.replicas, other.point.clock_mhz): other.why_not for other in found.runners_up}
    assert said == {(1, 2000): "480 W more", (3, 1000): "40 W more", (2, 2000): "640 W more"}


def test_a_runner_up_that_misses_the_slo_says_by_how_much(surface):
    found = plan(surface, demand_rps=50.0, desired_replicas=5)
    assert chosen(found) == (5, 2000)
    lost = next(other for other in found.runners_up if not other.point.feasible)
    assert lost.why_not == "would reach 40.0% of requests within the SLO, 96.8% planned"


def test_an_overload_is_not_said_to_meet_the_slo(surface):
    points = {clock: row[:2] for clock, row in surface.points.items()}  # no load that was simulated misses
    found = plan(replace(surface, points=points), demand_rps=240.0)
    assert (found.reason, found.chosen.attainment) == ("SLOUnreachable", pytest.approx(0.25))


@pytest.mark.parametrize(
    ("demand_rps", "spare_budget", "feasible"),
    [(0.7, 0.2, True), (0.9, 0.2, False), (0.9, 0.0, True), (1.1, 0.0, False)],
)
def test_part_of_the_error_budget_is_left_unplanned(surface, demand_rps, spare_budget, feasible):
    # Attainment falls by 5 % for each request a second at 2000 MHz.
    points = {clock: [row[0], row[-1]] for clock, row in surface.points.items()}
    found = plan(
        replace(surface, points=points),
        FleetPlanner(spare_budget=spare_budget),
        demand_rps=demand_rps,
        max_replicas=1,
        desired_replicas=1,
    )
    assert found.feasible == feasible


@pytest.mark.parametrize(("replicas", "power_w"), [(1, 2000), (2, 900), (3, 1060)])
def test_several_replicas_are_looked_up_among_those_that_share_the_load(surface, replicas, power_w):
    half = {
        clock: [replace(point, power_w=point.power_w / 2) for point in row] for clock, row in surface.points.items()
    }
    found = plan(replace(surface, shared_points={2: half}), may_scale=False, desired_replicas=replicas)
    assert found.chosen.power_w == pytest.approx(power_w)


def test_services_do_not_disturb_one_another(surface):
    states = {"a": make_state(surface), "b": make_state(surface, demand_rps=40.0)}
    both = FleetPlanner().plan(states)
    assert list(both) == ["a", "b"]
    assert both == {name: FleetPlanner().plan({name: state})[name] for name, state in states.items()}
    assert FleetPlanner().plan({}) == {}


def test_replicas_that_the_last_minutes_needed_are_not_taken_away_yet(surface):
    quiet = {"demand_rps": 2.0, "desired_replicas": 5}
    assert chosen(plan(surface, **quiet))[0] < chosen(plan(surface, **quiet, lasting_demand_rps=12.0))[0] <= 5
    assert chosen(plan(surface, **quiet, lasting_demand_rps=1000.0))[0] == 5
    assert chosen(plan(surface, **quiet, lasting_demand_rps=1.0)) == chosen(plan(surface, **quiet))


def test_a_runner_up_says_that_the_last_minutes_kept_it_away(surface):
    found = plan(surface, demand_rps=2.0, desired_replicas=5, lasting_demand_rps=1000.0)
    assert "the last minutes had 1000.0 req/s to be ready for" in found.runners_up[0].why_not
