"""The planner against an oracle that looks at everything and shares no code with it."""

from dataclasses import dataclass

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.planning.fleet import FleetPlanner
from dynawatt.planning.plan import ServiceState

RELEASED_W = 70.0
TINY = 1e-6
PLANNER = FleetPlanner(horizon_s=600.0, minimum_saving=0.03, spare_budget=0.2)


@st.composite
def rows(draw, tensor_parallel):
    rate, row, attained = 0.0, [], [1.0, 1.0]
    for _ in range(draw(st.integers(1, 5))):
        watts = tensor_parallel * draw(st.floats(RELEASED_W + 1, 700))
        row.append(SurfacePoint(rate, attained[0], attained[1], 0.1, 0.01, watts))
        rate += draw(st.floats(0.1, 5))
        attained = draw(st.lists(st.sampled_from([1.0, 1.0, 0.995, 0.98, 0.9, 0.4]), min_size=2, max_size=2))
    return row


@st.composite
def surfaces(draw):
    tensor_parallel = draw(st.sampled_from([1, 4]))
    clocks = draw(st.lists(st.integers(345, 1980), min_size=1, max_size=4, unique=True))
    sizes = draw(st.lists(st.integers(2, 5), max_size=2, unique=True))
    of_clocks = st.fixed_dictionaries({clock: rows(tensor_parallel) for clock in clocks})
    loaded_idle_w = draw(st.floats(RELEASED_W, 200))
    return Surface(
        tensor_parallel, RELEASED_W, loaded_idle_w, draw(of_clocks), {size: draw(of_clocks) for size in sorted(sizes)}
    )


@st.composite
def states(draw):
    least = draw(st.integers(1, 4))
    return ServiceState(
        surface=draw(surfaces()),
        demand_rps=draw(st.floats(0, 40)),
        present_demand_rps=draw(st.floats(0, 40)),
        ready_replicas=draw(st.integers(0, 8)),
        desired_replicas=draw(st.integers(0, 8)),
        min_replicas=least,
        max_replicas=least + draw(st.integers(0, 4)),
        attainment=draw(st.sampled_from([0.9, 0.99])),
        startup_s=draw(st.floats(0, 600)),
        may_scale=draw(st.booleans()),
        may_set_clock=draw(st.booleans()),
    )


@dataclass
class Oracle:
    state: ServiceState

    @property
    def counts(self):
        state = self.state
        return (
            range(state.min_replicas, state.max_replicas + 1) if state.may_scale else [max(1, state.desired_replicas)]
        )

    @property
    def clocks(self):
        every = list(self.state.surface.points)
        return every if self.state.may_set_clock else [max(every)]

    def rows(self, count, clock):
        """Rows of the simulated fleets around a size, with weights that fall with the distance."""
        fleets = {1: self.state.surface.points, **self.state.surface.shared_points}
        sizes = sorted(fleets)
        place = float(np.interp(count, sizes, range(len(sizes))))
        weights = {size: max(0.0, 1 - abs(place - index)) for index, size in enumerate(sizes)}
        return [(fleets[size][clock], weight) for size, weight in weights.items() if weight > 0]

    def power_w(self, count, clock, demand_rps):
        rate = demand_rps / count
        return count * sum(
            weight * float(np.interp(rate, [p.rate_rps for p in row], [p.power_w for p in row]))
            for row, weight in self.rows(count, clock)
        )

    def feasible(self, count, clock, demand_rps):
        rate = demand_rps / count
        capacity = sum(weight * self.capacity(row) for row, weight in self.rows(count, clock))
        assume(abs(rate - capacity) > TINY)
        return rate < capacity

    def capacity(self, row):
        wanted = 1 - 0.8 * (1 - self.state.attainment)
        rates, lower = [p.rate_rps for p in row], [min(p.ttft_attainment, p.tbt_attainment) for p in row]
        assume(all(abs(attained - wanted) > TINY for attained in lower))
        missed = next((index for index, attained in enumerate(lower) if attained < wanted), None)
        if missed is None:
            return rates[-1]
        if missed == 0:
            return 0.0
        pair = slice(missed - 1, missed + 1)
        return float(np.interp(wanted, lower[pair][::-1], rates[pair][::-1]))

    def cost_w(self, count, clock, demand_rps):
        state, tensor_parallel = self.state, self.state.surface.tensor_parallel
        above_released_w = self.power_w(count, clock, demand_rps) - count * tensor_parallel * RELEASED_W
        started = max(0, count - state.desired_replicas) * tensor_parallel
        return above_released_w + started * (state.surface.loaded_idle_w - RELEASED_W) * state.startup_s / 600.0

    def cheapest_w(self, counts, demand_rps):
        """The least cost among all feasible combinations; None when there is none."""
        costs = [
            self.cost_w(count, clock, demand_rps)
            for count in counts
            for clock in self.clocks
            if self.feasible(count, clock, demand_rps)
        ]
        return min(costs, default=None)


@settings(max_examples=400, deadline=None)
@given(state=states())
def test_the_choice_is_allowed_feasible_and_the_cheapest(state):
    oracle, found = Oracle(state), PLANNER.plan({"it": state})["it"].chosen
    cheapest_w = oracle.cheapest_w(oracle.counts, state.demand_rps)
    assert found.replicas in oracle.counts
    assert found.clock_mhz in oracle.clocks
    assert abs(found.power_w - oracle.power_w(found.replicas, found.clock_mhz, state.demand_rps)) < TINY
    assert found.feasible == (cheapest_w is not None)
    if cheapest_w is None:
        assert (found.replicas, found.clock_mhz) == (max(oracle.counts), max(oracle.clocks))
        return
    assert oracle.feasible(found.replicas, found.clock_mhz, state.demand_rps)
    cost_w = oracle.cost_w(found.replicas, found.clock_mhz, state.demand_rps)
    staying_w = oracle.cheapest_w([state.desired_replicas], state.demand_rps) if state.desired_replicas else None
    if staying_w is not None and state.desired_replicas in oracle.counts:
        assume(abs(1 - cheapest_w / staying_w - 0.03) > TINY)
        if 1 - cheapest_w / staying_w < 0.03:
            assume(abs(cheapest_w - staying_w) > TINY or found.replicas == state.desired_replicas)
            assert found.replicas == state.desired_replicas
            assert abs(cost_w - staying_w) < TINY
            return
    assert abs(cost_w - cheapest_w) < TINY


@settings(max_examples=300, deadline=None)
@given(state=states())
def test_the_clock_now_is_the_cheapest_that_carries_the_present_demand_on_those_who_serve(state):
    oracle, plan = Oracle(state), PLANNER.plan({"it": state})["it"]
    serving = min(state.ready_replicas, plan.chosen.replicas) or plan.chosen.replicas
    cheapest_w = oracle.cheapest_w([serving], state.present_demand_rps)
    assert plan.clock_now_mhz in oracle.clocks
    if cheapest_w is None:
        assert plan.clock_now_mhz == max(oracle.clocks)
    else:
        assert oracle.feasible(serving, plan.clock_now_mhz, state.present_demand_rps)
        assert abs(oracle.cost_w(serving, plan.clock_now_mhz, state.present_demand_rps) - cheapest_w) < TINY


@settings(max_examples=300, deadline=None)
@given(state=states())
def test_what_is_said_about_the_others_is_true(state):
    plan = PLANNER.plan({"it": state})["it"]
    oracle, chosen = Oracle(state), plan.chosen
    assert len(plan.runners_up) <= 3
    seen = {(chosen.replicas, chosen.clock_mhz)}
    for other in plan.runners_up:
        point = other.point
        assert (point.replicas, point.clock_mhz) not in seen
        seen.add((point.replicas, point.clock_mhz))
        assert point.replicas in oracle.counts
        assert point.feasible == oracle.feasible(point.replicas, point.clock_mhz, state.demand_rps)
        more_w = oracle.cost_w(point.replicas, point.clock_mhz, state.demand_rps) - oracle.cost_w(
            chosen.replicas, chosen.clock_mhz, state.demand_rps
        )
        if not point.feasible:
            assert other.why_not.startswith("would reach ")
        elif more_w < -TINY:
            assert other.why_not == f"{-more_w:.0f} W less, not worth the change"
        else:
            assert other.why_not.endswith(" W more")
    assert plan.message
    assert plan.reason in {"Steady", "GrowForLoad", "ShrinkToLoad", "SLOUnreachable"}
    assert PLANNER.plan({"it": state})["it"] == plan
