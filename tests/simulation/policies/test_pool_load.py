from types import SimpleNamespace

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.forecast.slots import HORIZON_SLOTS
from dynawatt.simulation.policies.pool_load import PoolLoad
from dynawatt.simulation.study import Foresight, History, Knobs, Study
from dynawatt.workload.classes import ALL_CLASSES

from .hand_surfaces import day_before, hand_study

SHORT, LONG = (0, 1, 2, 3, 4, 5), (6, 7, 8)


@pytest.fixture(autouse=True)
def works(monkeypatch):
    """By class; even unless a test changes it."""
    works_s = np.ones(9)
    monkeypatch.setattr(Study, "work", lambda self, shape: works_s)
    return works_s


def watched(load, *rates_rps, step_s=10.0):
    """One rate per step, a quarter of it in class LM; what arrived before counts on."""
    seen = np.zeros(9)
    for number, rate_rps in enumerate(rates_rps, start=1):
        seen[[0, 7]] += np.array([0.75, 0.25]) * rate_rps * step_s
        load.observe(number * step_s, SimpleNamespace(requests=seen.copy()))
    return load


def test_nothing_is_known_at_first():
    load = PoolLoad(hand_study(), ALL_CLASSES)
    assert load.demand(0.0) is None
    assert load.present_rps() == 0.0


@pytest.mark.parametrize(("after", "expected"), [(0, 40.0), (3, 22.0), (6, 4.0), (30, 4.0)])
def test_the_present_rate_is_that_of_the_last_minute(after, expected):
    load = watched(PoolLoad(hand_study(), ALL_CLASSES), *[40.0] * 30, *[4.0] * after)
    assert load.present_rps() == pytest.approx(expected)


@pytest.mark.parametrize("step_s", [1.0, 10.0, 60.0, 300.0])
def test_the_present_rate_is_right_at_any_interval(step_s):
    load = watched(PoolLoad(hand_study(), ALL_CLASSES), *[8.0] * 100, step_s=step_s)
    assert load.present_rps() == pytest.approx(8.0)


def test_a_pool_sees_its_own_classes_alone():
    study = hand_study()
    study.history = day_before(study, 40.0)
    short, long = (watched(PoolLoad(study, classes), *[40.0] * 30) for classes in (SHORT, LONG))
    assert short.present_rps() == pytest.approx(30.0)
    assert long.present_rps() == pytest.approx(10.0)
    assert short.demand(300.0).expected_rps == pytest.approx(30.0, rel=0.1)
    assert long.demand(300.0).expected_rps == pytest.approx(10.0, rel=0.1)


def test_the_week_before_is_known_beforehand_unless_the_start_is_cold():
    study = hand_study()
    study.history = day_before(study, 20.0)
    demand = PoolLoad(study, ALL_CLASSES).demand(0.0)
    assert demand.expected_rps[0] == pytest.approx(20.0, rel=0.3)
    assert (demand.high_rps >= demand.expected_rps).all()
    study.knobs = Knobs(foresight=Foresight.COLD)
    cold = PoolLoad(study, ALL_CLASSES)
    assert cold.demand(0.0) is None
    assert watched(cold, *[12.0] * 30).demand(300.0).expected_rps[0] == pytest.approx(12.0, rel=0.2)


def test_requests_count_by_their_work(works):
    works[7] = 5.0
    study = hand_study()
    mean_s = float(study.class_shares @ works)
    study.history = day_before(study, 40.0)
    load = watched(PoolLoad(study, ALL_CLASSES), *[8.0] * 30)
    assert load.present_rps() == pytest.approx(8.0 * (0.75 + 0.25 * 5.0) / mean_s)
    # The history has the study's own mix, whose requests are mean ones.
    assert PoolLoad(study, ALL_CLASSES).demand(0.0).expected_rps[0] == pytest.approx(40.0, rel=0.1)


def test_what_is_there_now_must_be_carried_though_the_slot_will_be_quiet():
    study = hand_study()
    study.history = day_before(study, 4.0)
    load = watched(PoolLoad(study, ALL_CLASSES), *[4.0] * 600, *[60.0] * 6)
    assert load.demand(6060.0).high_rps[0] >= load.sustained_rps() == pytest.approx(60.0, rel=0.05)


@pytest.mark.parametrize("cv", [0.5, 1.0, 13.0])
def test_a_minute_of_many_requests_may_be_a_burst(cv):
    """Two standard deviations of what a renewal process brings in a minute."""
    load = PoolLoad(hand_study(cv=cv), ALL_CLASSES)
    assert load.sustained_rps() == 0.0
    burst_rps = 10.0 + 2 * cv * np.sqrt(600.0) / 60
    assert watched(load, *[burst_rps] * 6).sustained_rps() == pytest.approx(10.0)


def test_lengths_that_vary_make_minutes_vary_as_well(works):
    even = watched(PoolLoad(hand_study(), ALL_CLASSES), *[10.0] * 6).sustained_rps()
    works[7] = 5.0
    varied = watched(PoolLoad(hand_study(), ALL_CLASSES), *[10.0] * 6)
    assert varied.sustained_rps() / varied.present_rps() < even / 10.0


def test_replicas_need_not_be_ready_for_bursts_that_their_surfaces_know():
    def high_rps(cv):
        study = hand_study(cv=cv)
        counts = np.random.default_rng(1).gamma(1 / 0.16, 0.16 * 1200, 3 * 288)
        study.history = History(-3 * 86400.0, np.outer(counts, study.class_shares))
        return PoolLoad(study, ALL_CLASSES).demand(0.0).high_rps.mean()

    # 1200 requests in a slot, with a variance of 0.16 x 1200^2: a CV of 13.9.
    assert high_rps(14.0) < 0.8 * high_rps(1.0)


def test_gaps_in_the_week_before_are_passed_over():
    study = hand_study()
    study.history = day_before(study, 20.0)
    study.history.requests[100:150, 4] = np.nan
    assert PoolLoad(study, ALL_CLASSES).demand(0.0).expected_rps[0] == pytest.approx(20.0, rel=0.2)


def test_perfect_foresight_is_the_load_itself():
    study = hand_study(knobs=Knobs(foresight=Foresight.PERFECT))
    rates_rps = np.arange(1.0, 31.0)
    study.future = History(0.0, np.outer(300.0 * rates_rps, study.class_shares))
    load = PoolLoad(study, LONG)
    for now_s, first in ((0.0, 0), (299.0, 0), (300.0, 1), (8950.0, 29), (1e6, 29)):
        demand = load.demand(now_s)
        coming = rates_rps[np.minimum(first + np.arange(HORIZON_SLOTS), 29)]
        assert demand.expected_rps == pytest.approx(0.25 * coming)
        assert (demand.high_rps == demand.expected_rps).all()


def test_perfect_foresight_needs_the_load():
    with pytest.raises(InvalidInputError, match="the study holds no future load"):
        PoolLoad(hand_study(knobs=Knobs(foresight=Foresight.PERFECT)), ALL_CLASSES)


def test_a_load_that_stops_is_forecast_to_be_little():
    load = watched(PoolLoad(hand_study(), ALL_CLASSES), *[20.0] * 30, *[0.0] * 60, step_s=60.0)
    assert load.present_rps() == 0.0
    assert load.demand(5400.0).expected_rps.max() < 0.5


def test_the_same_time_twice_changes_nothing():
    load = watched(PoolLoad(hand_study(), ALL_CLASSES), *[8.0] * 30)
    before = load.demand(300.0).high_rps
    load.observe(300.0, SimpleNamespace(requests=np.array([1800, 0, 0, 0, 0, 0, 0, 600, 0])))
    assert (load.demand(300.0).high_rps == before).all()
    assert load.present_rps() == pytest.approx(8.0)
