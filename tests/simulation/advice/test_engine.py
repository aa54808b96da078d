from dataclasses import replace
from math import inf

import pytest

from dynawatt.simulation.advice import engine
from dynawatt.simulation.advice.engine import engine_findings
from dynawatt.simulation.energy_tuning import EnergyTuned
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.operating_point import simulate_point
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.sizing import Demand
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.workload.objectives import LatencyObjectives

from ..policies.small_study import MIX, OBJECTIVES
from ..small_replica import small_replica

REPLICA = small_replica()
KNEE_MHZ, DEFAULT_MHZ = 1590, 1980
PRESENT = EngineSettings(8192, 512, 60_000)
QUESTION = SurfaceQuestion(
    replica=REPLICA,
    settings=PRESENT,
    mix=MIX,
    cv=1.0,
    objectives=OBJECTIVES,
    attainments=(0.99,),
    clocks_mhz=(1200, KNEE_MHZ, DEFAULT_MHZ),
)
FCFS, PRIORITY, DEADLINE = QueueOrder


class OnPaper:
    """Stands for the simulator: joules of a request by chunk, threshold and order; 2 requests/s where they are finite.

    Another load, which is what is measured under, makes some settings cost less or more.
    """

    def __init__(self, monkeypatch, costs_j, *, measured_j=None, chunks=(1024, 2048), thresholds=(256,)):
        self.costs_j, self.measured_j = costs_j, measured_j or {}
        self.clocks_mhz = set()
        monkeypatch.setattr(engine, "CHUNKS", chunks)
        monkeypatch.setattr(engine, "THRESHOLDS", thresholds)
        monkeypatch.setattr(engine, "judged", self.judged)
        monkeypatch.setattr(engine, "tune_for_energy", self.tuned)

    def judged(self, replica, settings, demand, clock_mhz):
        self.clocks_mhz.add(clock_mhz)
        key = (settings.max_num_batched_tokens, settings.long_prefill_token_threshold, settings.queue_order)
        cost_j = self.costs_j.get(key, inf)
        if demand.seed != QUESTION.seed:
            cost_j = self.measured_j.get(key, cost_j)
        if isinstance(cost_j, dict):
            cost_j = cost_j.get(clock_mhz, inf)
        return EnergyTuned(settings, cost_j, 2.0 if cost_j < inf else 0.0)

    def tuned(self, replica, base, demand, *, chunks, thresholds, clock_mhz):
        assert demand.seed == QUESTION.seed
        pairs = [(chunk, threshold) for chunk in chunks for threshold in (0, *thresholds)]
        tried = [
            replace(base, max_num_batched_tokens=chunk, long_prefill_token_threshold=threshold)
            for chunk, threshold in pairs
        ]
        return min((self.judged(replica, each, demand, clock_mhz) for each in tried), key=lambda each: each.request_j)


def settings(chunk, threshold=0, order=FCFS):
    return replace(PRESENT, max_num_batched_tokens=chunk, long_prefill_token_threshold=threshold, queue_order=order)


def found(monkeypatch, costs_j, **options):
    OnPaper(monkeypatch, costs_j, **options)
    return engine_findings(QUESTION)


def test_what_is_saved_counts_all_gpus_of_the_larger_fleet(monkeypatch):
    told = found(monkeypatch, {(8192, 0, FCFS): 100.0, (1024, 0, FCFS): 60.0})
    assert told.flags.tuned.settings == settings(1024)
    # For 2 requests/s a replica at 100 J or at 60 J beyond what it draws idle, either way the same GPU.
    watts = [2 * request_j + REPLICA.released_w for request_j in (100.0, 60.0)]
    assert told.flags.saving == pytest.approx(1 - watts[1] / watts[0])
    assert (told.present.request_j, told.orders) == (100.0, ())


@pytest.mark.parametrize(("gain_j", "threshold"), [(2.0, 0), (6.0, 256)])
def test_a_threshold_is_advised_only_if_it_saves_enough_by_itself(monkeypatch, gain_j, threshold):
    told = found(monkeypatch, {(8192, 0, FCFS): 100.0, (1024, 0, FCFS): 60.0, (2048, 256, FCFS): 60.0 - gain_j})
    assert told.flags.tuned.settings == settings(2048 if threshold else 1024, threshold)


def test_luck_in_the_load_it_was_tuned_under_is_no_saving(monkeypatch):
    costs_j = {(8192, 0, FCFS): 100.0, (1024, 0, FCFS): 80.0}
    assert found(monkeypatch, costs_j).flags is not None
    assert found(monkeypatch, costs_j, measured_j={(1024, 0, FCFS): 99.0}).flags is None


def test_settings_are_compared_at_the_clock_where_each_costs_least(monkeypatch):
    present = {KNEE_MHZ: 100.0, DEFAULT_MHZ: 61.0}  # hardly meets the SLO where clocks are low
    told = found(monkeypatch, {(8192, 0, FCFS): present, (1024, 0, FCFS): 60.0})
    assert (told.present.request_j, told.flags) == (61.0, None)


def test_clocks_that_save_nothing_are_not_looked_at(monkeypatch):
    paper = OnPaper(monkeypatch, {(8192, 0, FCFS): 100.0})
    engine_findings(QUESTION)
    assert paper.clocks_mhz == {KNEE_MHZ, DEFAULT_MHZ}
    paper.clocks_mhz.clear()
    engine_findings(replace(QUESTION, clocks_mhz=(1800, DEFAULT_MHZ)))  # the user allows no lower one
    assert paper.clocks_mhz == {1800, DEFAULT_MHZ}


def test_flags_that_meet_the_slo_at_the_default_clock_alone_are_found(monkeypatch):
    told = found(monkeypatch, {(8192, 0, FCFS): 100.0, (2048, 0, FCFS): {DEFAULT_MHZ: 70.0}})
    assert told.flags.tuned.settings == settings(2048)


def test_where_the_present_flags_miss_the_slo_nothing_is_called_a_saving(monkeypatch):
    told = found(monkeypatch, {(1024, 0, FCFS): 60.0, (1024, 0, PRIORITY): 40.0})
    assert (told.flags.tuned.settings, told.flags.saving) == (settings(1024), None)
    assert [order.saving for order in told.orders] == [None]
    assert told.orders[0].added_saving == pytest.approx(20.0 / (60.0 + REPLICA.released_w / 2))


@pytest.mark.parametrize(
    ("priority_j", "deadline_j", "orders"),
    [(59.0, 59.0, []), (50.0, 49.0, [PRIORITY]), (59.0, 50.0, [DEADLINE]), (50.0, 40.0, [PRIORITY, DEADLINE])],
)
def test_an_order_has_to_save_enough_beyond_the_simpler_ones(monkeypatch, priority_j, deadline_j, orders):
    costs_j = {(8192, 0, FCFS): 100.0, (1024, 0, FCFS): 60.0}
    told = found(monkeypatch, costs_j | {(1024, 0, PRIORITY): priority_j, (2048, 0, DEADLINE): deadline_j})
    assert [order.tuned.settings.queue_order for order in told.orders] == orders
    for order in told.orders:
        added_j = 60.0 - order.tuned.request_j
        assert order.added_saving == pytest.approx(added_j / (60.0 + REPLICA.released_w / 2))
        assert order.saving == pytest.approx((40.0 + added_j) / (100.0 + REPLICA.released_w / 2))


@pytest.fixture
def few_flags(monkeypatch):
    monkeypatch.setattr(engine, "CHUNKS", (1024, 2048))
    monkeypatch.setattr(engine, "THRESHOLDS", (256,))


def test_on_the_simulator_the_saving_is_that_of_the_two_fleets(few_flags):
    told = engine_findings(QUESTION)
    before, after = told.present, told.flags.tuned
    load = Demand(MIX, 1.0, OBJECTIVES, 0.99, seed=QUESTION.seed + 1).load(1)

    def watts(tuned):
        points = [
            simulate_point(
                ReplicaShape(REPLICA, tuned.settings), OBJECTIVES, load, tuned.capacity_rps, replicas=4, clock_mhz=mhz
            )
            for mhz in (KNEE_MHZ, DEFAULT_MHZ)
        ]
        return min(point.power_w for point in points if point.attains(0.99))

    # 1 request/s on as many GPUs as are needed now, of which the better fleet leaves some idle.
    needed, left = 1 / before.capacity_rps, 1 / after.capacity_rps
    after_w = left * watts(after) + (needed - left) * REPLICA.released_w
    assert told.flags.saving == pytest.approx(1 - after_w / (needed * watts(before)), abs=1e-6)
    assert told.flags.saving > engine.WORTHWHILE
    assert after.settings.max_num_batched_tokens < PRESENT.max_num_batched_tokens
    again = engine_findings(replace(QUESTION, settings=after.settings))
    assert again.flags is None
    assert again.orders == tuple(replace(order, saving=order.added_saving) for order in told.orders)


def test_where_no_flags_meet_the_slo_none_are_advised(few_flags):
    hopeless = LatencyObjectives(((None, 0.001),), 0.001)
    told = engine_findings(replace(QUESTION, objectives=hopeless))
    assert (told.present.capacity_rps, told.present.request_j) == (0.0, inf)
    assert (told.flags, told.orders) == (None, ())
