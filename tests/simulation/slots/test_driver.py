"""Both fidelities on the same load: the small replica, an hour."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.driver import SimulationSettings, simulate
from dynawatt.simulation.policies.static import clock_only
from dynawatt.simulation.policy import FleetPlan, Group
from dynawatt.simulation.slots.driver import simulate_slots
from dynawatt.simulation.slots.load import bin_load
from dynawatt.simulation.static_policies import StaticPolicy
from dynawatt.workload.classes import LengthClasses
from dynawatt.workload.trace import joined

from ..policies.small_study import OBJECTIVES, poisson

HORIZON_S = 3600.0


@dataclass
class Scripted:
    """Replicas by time."""

    shapes: tuple
    plans: dict
    name: str = "scripted"
    eligible = None
    pool_classes = (tuple(range(9)),)
    plan_interval_s: float = 300.0
    govern_interval_s: float | None = None
    asked_s: list = field(default_factory=list)

    def initial(self):
        return FleetPlan({Group(0): self.plans[0.0]})

    def plan(self, now_s, view):
        self.asked_s.append(now_s)
        return FleetPlan({Group(0): self.plans[now_s]}) if now_s in self.plans else None

    def govern(self, now_s, view):
        return {}


def load(*rates_rps):
    """Rates of equal parts of the hour."""
    width_s = HORIZON_S / len(rates_rps)
    return joined([poisson(rate, k * width_s, (k + 1) * width_s, seed=k) for k, rate in enumerate(rates_rps)])


def both(policy, trace, study, **changes):
    settings = SimulationSettings(**{"horizon_s": HORIZON_S, "servers": 1, **changes})
    slots = bin_load([trace], HORIZON_S, LengthClasses())
    return simulate(policy(), [trace], OBJECTIVES, settings), simulate_slots(policy(), slots, study, settings)


def assert_alike(events, slots, *, energy=0.03, attained=0.01):
    assert slots.requests == events.requests
    assert slots.tally.output_tokens == pytest.approx(events.tally.output_tokens, abs=2)
    assert slots.tally.input_tokens == pytest.approx(events.tally.input_tokens, abs=2)
    assert slots.energy_off_j == pytest.approx(events.energy_off_j, rel=energy)
    assert slots.energy_idling_j == pytest.approx(events.energy_idling_j, rel=energy)
    assert slots.tally.ttft_attainment() == pytest.approx(events.tally.ttft_attainment(), abs=attained)
    assert slots.tally.tbt_attainment() == pytest.approx(events.tally.tbt_attainment(), abs=attained)
    assert slots.unfinished_requests == events.unfinished_requests == 0


def test_a_static_fleet_is_alike(study, shape):
    events, slots = both(lambda: StaticPolicy("static", shape, 3, 1980.0), load(6, 24, 12), study)
    assert_alike(events, slots)
    for quantile in (0.5, 0.99):
        assert slots.ttft_quantile_s(quantile) == pytest.approx(events.ttft_quantile_s(quantile), rel=0.25)
        assert slots.tally.tbt_quantile_s(quantile) == pytest.approx(events.tally.tbt_quantile_s(quantile), rel=0.25)
    assert np.allclose(slots.series.replicas, events.series.replicas)


@pytest.mark.parametrize("order", ["fcfs", "priority", "deadline"])
def test_governed_clocks_are_alike(study, order):
    events, slots = both(lambda: clock_only(f"clock-only-{order}", study), load(6, 24, 12), study)
    assert_alike(events, slots, energy=0.05, attained=0.02)
    assert slots.series.clock_mhz.mean() == pytest.approx(events.series.clock_mhz.mean(), rel=0.05)


def test_growing_and_shrinking_is_alike(study, shape):
    plans = {0.0: 1, 900.0: 3, 2700.0: 1}
    events, slots = both(lambda: Scripted((shape,), plans), load(6, 6, 24, 6), study)
    assert_alike(events, slots)
    assert slots.reconfigurations == events.reconfigurations == 4
    assert slots.gpu_hours == pytest.approx(events.gpu_hours, rel=0.01)
    startups_j = (slots.tally.energy_j[3], events.tally.energy_j[3])
    assert startups_j[0] == pytest.approx(startups_j[1], rel=1e-6)


def test_growing_too_late_shows_as_missed_objectives(study, shape):
    trace = load(6, 36)
    late = both(lambda: Scripted((shape,), {0.0: 1, 2100.0: 4}), trace, study)
    ready = both(lambda: Scripted((shape,), {0.0: 1, 1500.0: 4}), trace, study)
    for fidelity in (0, 1):
        assert late[fidelity].tally.ttft_attainment() < ready[fidelity].tally.ttft_attainment() - 0.05
    assert late[1].energy_off_j == pytest.approx(late[0].energy_off_j, rel=0.05)
    assert late[1].tally.ttft_attainment() == pytest.approx(late[0].tally.ttft_attainment(), abs=0.1)


def test_the_series_adds_up_to_the_tally(study, shape):
    _, result = both(lambda: StaticPolicy("static", shape, 2, 1980.0), load(8, 16), study)
    series = result.series
    widths_s = np.diff(series.start_s, append=series.end_s)
    assert (series.requests_per_s * widths_s).sum() == pytest.approx(result.requests)
    assert (series.power_w * widths_s).sum() == pytest.approx(result.energy_off_j)
    assert (series.held_gpus == 2).all()


def test_a_policy_is_asked_at_most_every_minute(study, shape):
    policy = Scripted((shape,), {0.0: 1}, plan_interval_s=10.0)
    slots = bin_load([load(6)], HORIZON_S, LengthClasses())
    simulate_slots(policy, slots, study, SimulationSettings(HORIZON_S, 1))
    assert policy.asked_s == [60.0 * minute for minute in range(1, 61)]


def test_a_fleet_beyond_the_inventory_is_refused(study, shape):
    slots = bin_load([load(6)], HORIZON_S, LengthClasses())
    with pytest.raises(InvalidInputError, match="9 GPUs does not fit the inventory of 8"):
        simulate_slots(StaticPolicy("static", shape, 9, 1980.0), slots, study, SimulationSettings(HORIZON_S, 1))


def test_policies_count_what_came_and_replicas_serve_the_rates(study, shape):
    """Three quarters of an hour's requests came in its first half, by chance: they are served as if they had not."""
    counted = []

    class Counting(Scripted):
        def plan(self, now_s, view):
            counted.append(view.tally().requests.sum())

    drawn = bin_load([load(6, 2)], HORIZON_S, LengthClasses())
    even = drawn.without_bursts(np.full(len(drawn.requests), 1200.0))
    result = simulate_slots(
        Counting((shape,), {0.0: 1}, plan_interval_s=300.0), even, study, SimulationSettings(HORIZON_S, 1)
    )
    flat = simulate_slots(
        Scripted((shape,), {0.0: 1}),
        bin_load([load(4)], HORIZON_S, LengthClasses()),
        study,
        SimulationSettings(HORIZON_S, 1),
    )
    assert counted[5] == pytest.approx(drawn.requests[:6].sum(), rel=0.01)
    assert result.requests == drawn.requests.sum()
    assert result.unfinished_requests == 0
    assert result.energy_off_j == pytest.approx(flat.energy_off_j, rel=0.02)
