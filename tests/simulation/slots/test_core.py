import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.fleet_core import ReplicaState
from dynawatt.simulation.policy import Governed
from dynawatt.simulation.slots.core import SurfaceCore
from dynawatt.simulation.slots.load import SlotLoad
from dynawatt.simulation.tally import Cause

MIX = np.array([0.25, 0, 0, 0, 0.5, 0, 0, 0.25, 0])
"""Of the small study, by class."""
EVERYTHING = (tuple(range(9)),)
TOP_MHZ = 1980.0


def load():
    counts = np.full((1, 9), 100)
    return SlotLoad(300.0, counts, counts[0] * 500, counts[0] * 120)


@pytest.fixture
def fleet(study, shape):
    """A core with so many replicas."""

    def fleet(replicas=1, **changes):
        core = SurfaceCore([shape], study, load(), **{"pool_classes": EVERYTHING, **changes})
        for _ in range(replicas):
            core.add_replica(0, clock_mhz=TOP_MHZ)
        return core

    return fleet


@pytest.fixture
def limit_rps(fleet):
    """What a replica can serve."""
    core = fleet()
    core.advance(1.0, MIX)
    return core._models.of(0, 0).table.limit_rps(TOP_MHZ)


def test_a_calm_fleet_serves_all_and_in_time(fleet, study, shape):
    core = fleet(2)
    core.advance(300.0, 600 * MIX)
    tally = core.tally()
    assert tally.requests.sum() == tally.finished.sum() == 600
    assert tally.requests.tolist() == (600 * MIX).tolist()
    assert tally.ttft_attainment() > 0.99
    assert tally.gaps.sum() == 600 * 119
    assert tally.input_tokens == 600 * 500
    assert tally.output_tokens == pytest.approx(600 * 120, abs=1)
    assert tally.gpu_s == 600.0
    point = study.surface(shape).at(1980, 1.0, 2)
    assert tally.energy_j.sum() == pytest.approx(600 * point.power_w, rel=1e-6)


def test_more_than_can_be_served_waits_and_is_late(fleet, limit_rps):
    core = fleet()
    core.advance(60.0, 60 * 1.5 * limit_rps * MIX)
    tally = core.tally()
    assert tally.finished.sum() == pytest.approx(60 * limit_rps, rel=0.01)
    assert tally.ttft_met.sum() == 0
    core.advance(180.0)
    after = core.tally()
    assert after.finished.sum() == after.requests.sum()
    assert after.ttft_met.sum() == 0
    assert after.ttft_quantile_s(0.99) > 5


def test_requests_that_wait_are_served_first_and_those_after_them_in_time_again(fleet, limit_rps):
    core = fleet()
    core.advance(60.0, 60 * 1.2 * limit_rps * MIX)
    late = core.tally()
    core.advance(120.0, 60 * 0.4 * limit_rps * MIX)
    mended = core.tally() - late
    # The queue of 12 s is worked off within 20 s.
    assert 0.6 < mended.ttft_met.sum() / mended.requests.sum() < 0.7
    core.advance(180.0, 60 * 0.4 * limit_rps * MIX)
    assert (core.tally() - late - mended).ttft_attainment() > 0.99


def test_a_queue_stays_with_its_replica_and_new_requests_go_past_it(fleet, limit_rps):
    core = fleet()
    core.advance(60.0, 60 * 3 * limit_rps * MIX)
    core.add_replica(0, clock_mhz=TOP_MHZ)
    before = core.tally()
    core.advance(90.0, 30 * 0.4 * limit_rps * MIX)
    new = core.tally() - before
    assert new.ttft_met.sum() == pytest.approx(new.requests.sum(), rel=0.01)
    assert core.snapshot().waiting[0] > 0
    assert core.snapshot().waiting[1] == 0


def test_without_a_serving_replica_requests_wait_for_one(fleet):
    core = fleet(0)
    core.add_replica(0, clock_mhz=TOP_MHZ, ready_s=100.0)
    core.advance(50.0, 52 * MIX)
    assert core.tally().finished.sum() == 0
    core.advance(200.0, 100 * MIX)
    tally = core.tally()
    assert tally.finished.sum() == tally.requests.sum() == 152
    assert tally.ttft_met.sum() < 70


def test_who_never_got_a_replica_is_unfinished(fleet):
    core = fleet(0)
    core.advance(50.0, 52 * MIX)
    core.finish(100.0)
    assert core.now_s == 100.0
    assert core.tally().requests.sum() == 52
    assert core.tally().finished.sum() == 0


def test_the_end_waits_for_the_last_requests_but_not_for_ever(fleet, limit_rps):
    core = fleet()
    core.advance(60.0, 60 * 2 * limit_rps * MIX)
    core.finish(80.0)
    assert core.now_s == 80.0
    assert core.tally().finished.sum() < core.tally().requests.sum()
    core.finish(1000.0)
    assert 110 < core.now_s < 140
    assert core.tally().finished.sum() == core.tally().requests.sum()


def test_starting_closed_and_draining_replicas_draw_loaded_idle_power(fleet, shape):
    idle_w = shape.replica.loaded_idle_w(TOP_MHZ)
    core = fleet(2)
    core.set_open(1, False)
    core.advance(100.0, 100 * MIX)
    alone = fleet(1)
    alone.advance(100.0, 100 * MIX)
    extra_j = core.tally().energy_j - alone.tally().energy_j
    assert extra_j[Cause.IDLE] == pytest.approx(100 * idle_w)
    assert extra_j.sum() == pytest.approx(100 * idle_w)
    core.add_replica(0, clock_mhz=TOP_MHZ, ready_s=160.0)
    before = core.tally()
    core.advance(200.0, 100 * MIX)
    assert (core.tally() - before).energy_j[Cause.STARTUP] == pytest.approx(60 * idle_w)


def test_a_draining_replica_is_gone_after_its_last_request(fleet):
    core = fleet(2)
    core.drain(0)
    assert core.snapshot().state.tolist() == [ReplicaState.GONE, ReplicaState.SERVING]
    core.advance(60.0, 120 * MIX)
    core.drain(1)
    assert core.snapshot().state[1] == ReplicaState.DRAINING
    core.advance(90.0)
    assert core.snapshot().state[1] == ReplicaState.GONE
    assert 60 < core.tally().gpu_s < 75


def test_a_draining_replica_serves_its_queue(fleet, limit_rps):
    core = fleet()
    core.advance(60.0, 60 * 2 * limit_rps * MIX)
    core.drain(0)
    core.advance(100.0)
    assert core.snapshot().state[0] == ReplicaState.DRAINING
    core.advance(200.0)
    assert core.snapshot().state[0] == ReplicaState.GONE
    assert core.tally().finished.sum() == core.tally().requests.sum()


def test_closed_replicas_serve_where_no_open_one_does(fleet):
    core = fleet(1)
    core.set_open(0, False)
    core.advance(60.0, 60 * MIX)
    assert core.tally().ttft_attainment() > 0.99


def test_long_requests_weigh_more(fleet):
    short, long = np.eye(9)[0], np.eye(9)[7]
    powers_w = []
    for kind in (short, long):
        core = fleet()
        core.advance(100.0, 200 * kind)
        powers_w.append(core.tally().energy_j.sum() / 100)
    assert powers_w[1] > 1.2 * powers_w[0]


def test_classes_go_to_the_pools_of_their_predictions(fleet, study):
    pools = ((0, 1, 2), (3, 4, 5, 6, 7, 8))
    eligible = np.zeros((2, 9), np.bool_)
    eligible[0, :3] = eligible[1, 3:] = True
    core = fleet(1, pool_classes=pools, eligible=eligible)
    core.add_replica(0, clock_mhz=TOP_MHZ, pool=1)
    core.advance(100.0, 100 * MIX)
    assert core.snapshot().arrived.tolist() == [25, 75]


def test_wrong_predictions_lead_to_other_pools(fleet):
    pools = ((0,), (4, 7))
    eligible = np.ones((2, 9), np.bool_)
    shares = np.zeros((2, 9))
    shares[0, [0, 3, 6]] = 1.0
    shares[1, [1, 2, 4, 5, 7, 8]] = 1.0
    predictor = LengthPredictor(0.8)
    core = fleet(1, pool_classes=pools, eligible=eligible, predictor=predictor)
    core.add_replica(0, clock_mhz=TOP_MHZ, pool=1)
    core.set_shares(shares)
    core.advance(100.0, 100 * MIX)
    # A quarter has short outputs, and a tenth of the others is taken for it.
    short = 25 * predictor.confusion[0, 0] + 75 * predictor.confusion[4, 3]
    assert core.snapshot().arrived == pytest.approx([short, 100 - short], abs=1)
    assert core.tally().requests.tolist() == (100 * MIX).tolist()


CLAIM = Governed(
    GovernorTable(
        0.99, 0.05, 1.0, 500.0, 100.0, True, tuple(ClockRow(810 + 195 * k, 1.0 + k, 1e5, 60) for k in range(6))
    ),
    810,
    1980,
)


def test_governed_replicas_run_at_the_clock_of_their_load(fleet, limit_rps):
    core = fleet(2)
    claims = {0: CLAIM, 1: CLAIM}
    calm, busy = (core.settled_clocks(claims, 60 * rps * MIX, 60.0) for rps in (0.5, 7.0))
    assert calm == {0: 810.0, 1: 810.0}
    assert calm[0] < busy[0] == busy[1] < 1980
    core.advance(60.0, 60 * 3 * 2 * limit_rps * MIX)
    assert core.settled_clocks(claims, 0 * MIX, 60.0) == {0: 1980.0, 1: 1980.0}


def test_governed_clocks_are_clocks_of_the_gpu(fleet, shape):
    core = fleet()
    for floor_mhz, rate_rps in ((803, 0.0), (803, 3.1), (803, 4.4), (803, 99.0)):
        claim = Governed(CLAIM.table, floor_mhz, 1899)
        core.set_clock(0, core.settled_clocks({0: claim}, 60 * rate_rps * MIX, 60.0)[0])
        assert 795 <= core.snapshot().clock_mhz[0] <= 1905


def test_closed_replicas_settle_at_the_floor_and_starting_ones_are_left_alone(fleet):
    core = fleet(2)
    core.add_replica(0, clock_mhz=TOP_MHZ, ready_s=99.0)
    core.set_open(1, False)
    clocks_mhz = core.settled_clocks(dict.fromkeys(range(3), CLAIM), 200 * MIX, 60.0)
    assert set(clocks_mhz) == {0, 1}
    assert clocks_mhz[1] == 810.0 < clocks_mhz[0]


def test_clocks_and_times_that_cannot_be_are_refused(fleet):
    core = fleet()
    with pytest.raises(InvalidInputError, match="clock 1001"):
        core.set_clock(0, 1001.0)
    with pytest.raises(InvalidInputError, match="pool 1"):
        core.add_replica(0, clock_mhz=TOP_MHZ, pool=1)
    core.advance(10.0)
    with pytest.raises(InvalidInputError, match="it is 10"):
        core.advance(5.0)


steps = st.tuples(
    st.floats(1, 400),
    st.floats(0, 60),
    st.sampled_from(["add", "start", "drain", "close", "open", "slow", "fast", "nothing"]),
    st.integers(0, 5),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(steps, min_size=1, max_size=12))
def test_nothing_is_lost_and_nobody_is_credited_twice(study_once, steps):
    study, shape = study_once
    core = SurfaceCore([shape], study, load(), pool_classes=EVERYTHING)
    core.add_replica(0, clock_mhz=TOP_MHZ)
    arrived = 0.0
    for seconds, rate_rps, what, which in steps:
        ids = core.snapshot().id
        replica = int(ids[which % len(ids)])
        living = core.snapshot().state[replica] != ReplicaState.GONE
        if what == "add":
            core.add_replica(0, clock_mhz=TOP_MHZ)
        elif what == "start":
            core.add_replica(0, clock_mhz=810.0, ready_s=core.now_s + 70)
        elif what == "drain":
            core.drain(replica)
        elif what in {"close", "open"}:
            core.set_open(replica, what == "open")
        elif what in {"slow", "fast"} and living:
            core.set_clock(replica, 810.0 if what == "slow" else TOP_MHZ)
        before = core.tally()
        core.advance(core.now_s + seconds, seconds * rate_rps * MIX)
        arrived += seconds * rate_rps
        tally = core.tally()
        assert tally.requests.sum() == pytest.approx(arrived, abs=3)
        assert tally.finished.sum() + core._unserved == pytest.approx(arrived, abs=3)
        assert (tally.ttft_met <= tally.finished + 1).all()
        assert (tally.gaps_met <= tally.gaps).all()
        assert tally.ttft_histogram.sum() == pytest.approx(tally.finished.sum(), abs=3)
        assert (tally.energy_j >= before.energy_j).all()
        states = core.snapshot().state
        assert (tally - before).gpu_s <= seconds * np.count_nonzero(states != ReplicaState.GONE) + seconds * len(ids)
    core.advance(core.now_s)
