"""What our policies ask for, on surfaces by hand and a fleet that does it at once."""

from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.simulation.fleet_core import ReplicaState
from dynawatt.simulation.policies.dynawatt import DYNAWATT, PLAN_INTERVAL_S, ROUTE_INTERVAL_S, dynawatt
from dynawatt.simulation.policies.pool_load import PoolLoad
from dynawatt.simulation.policy import Group
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import Foresight, History, Knobs

from .hand_surfaces import FAST_MHZ, SLOW_MHZ, day_before, hand_study, hand_surface, two_degrees

POOR = hand_surface(slow=(1.0, 100.0, 250.0), fast=(2.0, 130.0, 630.0))
SPLITS = {"both": POOR, "short": hand_surface(), "long": hand_surface()}
GPUS = 8


@dataclass
class View:
    """A fleet that is as its plans say, at once, and the requests so far."""

    replicas: dict
    seen: np.ndarray
    now_s: float = 0.0
    in_transition: bool = False

    @property
    def free_gpus(self):
        return [GPUS - sum(self.replicas.values())]

    def snapshot(self):
        groups = list(Counter(self.replicas).elements())
        return SimpleNamespace(
            shape=np.array([group.shape for group in groups]),
            pool=np.array([group.pool for group in groups]),
            state=np.full(len(groups), ReplicaState.SERVING),
            waiting=np.zeros(len(groups), np.int64),
        )

    def tally(self):
        return SimpleNamespace(requests=self.seen.copy())


def plans_of(policy, *rates_rps, step_s=ROUTE_INTERVAL_S):
    """By time, when so many requests/s of the mix come in each step; the first fleet at time 0."""
    first = policy.initial()
    found, view = {0.0: first}, View(dict(first.replicas), np.zeros(9))
    for number, rate_rps in enumerate(rates_rps, start=1):
        view.seen += rate_rps * step_s * policy.study.class_shares
        plan = policy.plan(number * step_s, view)
        if plan is not None:
            found[number * step_s] = plan
            view.replicas = dict(view.replicas if plan.replicas is None else plan.replicas)
    return found


def replicas(plans):
    return {time_s: sum(plan.replicas.values()) for time_s, plan in plans.items() if plan.replicas is not None}


def minutes(rate_rps, count):
    return [rate_rps] * round(count * 60 / ROUTE_INTERVAL_S)


def known(answers=None, *, rate_rps=8.0, **changes):
    """A study with a steady day before."""
    study = hand_study(answers, **changes)
    study.history = day_before(study, rate_rps)
    return study


@pytest.mark.parametrize("name", DYNAWATT)
def test_policies_differ_in_the_order_in_which_requests_wait(name):
    policy = dynawatt(name, hand_study())
    assert policy.name == name
    assert [shape.settings.queue_order for shape in policy.shapes] == [DYNAWATT[name]]
    assert sorted(DYNAWATT.values()) == sorted(QueueOrder)


def test_one_pool_takes_everything():
    policy = dynawatt("dynawatt", hand_study())
    assert policy.eligible is None
    assert policy.pool_classes == [tuple(range(9))]
    assert policy.initial().shares is None


def test_of_two_pools_the_one_for_long_inputs_may_serve_all():
    policy = dynawatt("dynawatt", hand_study(SPLITS))
    assert policy.pool_classes == [(0, 1, 2, 3, 4, 5), (6, 7, 8)]
    assert policy.eligible.tolist() == [[True] * 6 + [False] * 3, [True] * 9]
    assert policy.initial().shares.tolist() == [[1.0] * 6 + [0.0] * 3, [0.0] * 6 + [1.0] * 3]
    assert len(policy.shapes) == 2


def test_groups_are_shapes_of_a_pool():
    answers = {"both": POOR, "short": hand_surface(), "long": hand_surface()}
    policy = dynawatt("dynawatt", known(answers, rate_rps=40.0, peak_rps=60.0))
    assert policy.initial().replicas == {Group(0, 0): 6, Group(1, 1): 2}


def test_it_plans_every_five_minutes_and_routes_in_between():
    policy = dynawatt("dynawatt", known())
    assert policy.plan_interval_s == ROUTE_INTERVAL_S
    plans = plans_of(policy, *minutes(8.0, 31))
    assert [time_s for time_s, plan in plans.items() if plan.replicas is not None] == [
        PLAN_INTERVAL_S * number for number in range(7)
    ]


def test_it_is_ready_for_what_the_day_before_had():
    for rate_rps, count in ((3.0, 1), (17.0, 4)):
        assert replicas(plans_of(dynawatt("dynawatt", known(rate_rps=rate_rps)))) == {0.0: count}


def test_a_load_that_outgrows_its_forecast_is_planned_for_at_once():
    counts = replicas(plans_of(dynawatt("dynawatt", known()), *minutes(8.0, 6), *minutes(30.0, 24)))
    assert counts[300.0] == 2
    assert any(360.0 < time_s < 400.0 for time_s in counts)
    assert next(time_s for time_s, count in counts.items() if count >= 3) < 480.0  # which carry it at the fast clock
    assert counts[max(counts)] >= 6  # and these at the slow one


def test_while_nothing_is_known_everything_stays(monkeypatch):
    monkeypatch.setattr(PoolLoad, "demand", lambda load, now_s: None)
    plans = plans_of(dynawatt("dynawatt", hand_study()), *minutes(8.0, 11))
    assert set(replicas(plans).values()) == {GPUS}


def test_it_keeps_serving_when_the_load_stops():
    plans = plans_of(dynawatt("dynawatt", known(rate_rps=30.0)), *minutes(30.0, 10), *minutes(0.0, 200))
    counts = replicas(plans)
    assert counts[0.0] >= 6
    assert counts[max(counts)] == 1


def test_it_survives_a_load_that_never_comes_and_holes_in_the_day_before():
    study = known(rate_rps=0.0)
    study.history.requests[50:] = np.nan
    counts = replicas(plans_of(dynawatt("dynawatt", study), *minutes(0.0, 40)))
    assert set(counts.values()) == {1}


def test_pools_start_within_the_inventory_when_nothing_is_known():
    """Each would take all of it."""
    first = dynawatt("dynawatt", hand_study(SPLITS)).initial()
    assert first.replicas == {Group(0, 0): 7, Group(1, 1): 1}


@given(st.lists(st.floats(0, 60), min_size=1, max_size=6), st.booleans(), st.sampled_from([SPLITS, None]))
@settings(max_examples=10, deadline=None)
def test_no_plan_exceeds_the_inventory(rates_rps, is_known, answers):
    study = hand_study(answers, peak_rps=40.0)
    if is_known:
        study.history = day_before(study, *rates_rps)
    plans = plans_of(dynawatt("dynawatt", study), *rates_rps, step_s=PLAN_INTERVAL_S)
    assert all(1 <= count <= GPUS for count in replicas(plans).values())
    for plan in plans.values():
        assert all(1 <= count <= GPUS for count in plan.open_replicas.values())


UP_AND_DOWN = (*minutes(8.0, 30), *minutes(36.0, 60), *minutes(3.0, 90))


def test_with_all_knobs_governors_set_clocks_and_the_router_packs():
    plans = plans_of(dynawatt("dynawatt", known()), *UP_AND_DOWN)
    assert len(set(replicas(plans).values())) > 2
    assert all(plan.governed and not plan.clocks_mhz for plan in plans.values())
    assert any(plan.open_replicas for plan in plans.values())


def without(**knobs):
    return plans_of(dynawatt("dynawatt", known(knobs=Knobs(settings=False, **knobs))), *UP_AND_DOWN)


def test_without_the_clock_nobody_sets_one():
    plans = without(clock=False)
    assert not any(plan.governed or plan.clocks_mhz for plan in plans.values())


def test_without_the_governor_clocks_hold_until_the_next_plan():
    plans = without(governor=False)
    assert not any(plan.governed for plan in plans.values())
    clocks_mhz = [set(plan.clocks_mhz.values()) for plan in plans.values()]
    assert set.union(*clocks_mhz) == {SLOW_MHZ, FAST_MHZ}
    assert all(len(found) == 1 for found in clocks_mhz)


def test_without_the_replicas_there_are_those_for_the_peak():
    assert set(replicas(without(replicas=False)).values()) == {2}


def test_without_packing_no_replica_is_closed():
    assert not any(plan.open_replicas for plan in without(packing=False).values())


def test_without_the_shape_there_is_one_degree():
    answers = {1: hand_surface(), 2: hand_surface(2, slow=(9.0, 200.0, 300.0), fast=(16.0, 260.0, 1060.0))}
    both = known(answers, profiles=two_degrees())
    assert [plan.replicas for plan in plans_of(dynawatt("dynawatt", both)).values()] == [{Group(1): 1}]
    fixed = replace(both, knobs=Knobs(settings=False, shape=False))
    assert [plan.replicas for plan in plans_of(dynawatt("dynawatt", fixed)).values()] == [{Group(0): 2}]


def test_foresight_is_learnt_cold_or_perfect():
    study = known(rate_rps=17.0)
    study.future = History(0.0, np.outer([600.0, 600.0, 600.0, 12_000.0], study.class_shares))
    first = {}
    for foresight in Foresight:
        study.knobs = Knobs(settings=False, foresight=foresight)
        first[foresight] = plans_of(dynawatt("dynawatt", study), *minutes(2.0, 10))
    learnt, cold, perfect = (replicas(first[foresight]) for foresight in Foresight)
    assert learnt[0.0] == 4
    assert cold[0.0] == GPUS
    assert perfect[0.0] == 1
    # A start-up takes a minute: it is ready when the load comes at 900 s.
    assert perfect[600.0] >= 8
