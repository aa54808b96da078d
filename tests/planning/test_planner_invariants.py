"""What holds of plans whatever the load, the shapes and the nodes."""

from itertools import groupby

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.planning.planner import UnitCommitmentPlanner
from dynawatt.planning.service import FixedClock

from .clusters import Cluster
from .plans import EAGER, fleet, plan
from .services import curve, state


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
