"""The compiled fleet simulator against the plain engine, on random small cases."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynawatt.perfmodel.models import Batch
from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.tally import HISTOGRAM_EDGES_S
from dynawatt.workload.classes import CLASS_NAMES, LengthClasses
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

from .core.reference_fleet import ReferenceFleet
from .core.replicas import HandReplica

CLOCKS_MHZ = (2000.0, 1400.0, 800.0)
CLASSES = LengthClasses(input_cuts=(20, 60), output_cuts=(4, 20))
# Not round, so that no latency equals an objective up to rounding.
OBJECTIVES = LatencyObjectives(((20, 0.0251357), (60, 0.041733), (None, 0.20377)), 0.0098713)
SNAPSHOT_COLUMNS = (
    "state",
    "clock_mhz",
    "running",
    "waiting",
    "decode_requests",
    "decode_context_tokens",
    "queued_prefill_tokens",
    "kv_usage",
    "open",
    "arrived",
)
REPLICAS = (
    HandReplica(),
    # Runs of iterations that begin below TDP and end above it, and the other way round; the latter's steps also grow
    # fast enough to pass the objective and several bins of the histogram.
    HandReplica(tensor_parallel=2, tdp_w=282.5, context_j=2e-4),
    HandReplica(tensor_parallel=4, tdp_w=279.5, context_s=1e-6, context_j=1e-7),
)


ELIGIBLE = (
    np.ones((1, len(CLASS_NAMES)), bool),
    np.array([[True] * 6 + [False] * 3, [False] * 3 + [True] * 6]),
    np.array([[True] * 9, [False] * 8 + [True], [False, True] * 4 + [False]]),
)


@dataclass
class Case:
    """What is done to a fleet: per interval its length, requests that arrive in it, and changes after it."""

    shapes: list
    eligible: np.ndarray
    clock_delay_s: float
    replicas: list  # (shape, clock, ready after, pool)
    intervals: list = field(default_factory=list)  # (seconds, [(share of it, input, output)], [change])
    predictor: LengthPredictor | None = None


@st.composite
def engine_settings(draw):
    max_seqs = draw(st.sampled_from([1, 2, 3, 8, 40]))
    block_tokens = draw(st.sampled_from([1, 4, 16]))
    return EngineSettings(
        max_num_batched_tokens=max_seqs + draw(st.integers(0, 60)),
        max_num_seqs=max_seqs,
        kv_capacity_tokens=draw(st.integers(4, 40)) * 16,
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 7, 30])),
        queue_order=draw(st.sampled_from(QueueOrder)),
        prefix_hit_ratio=draw(st.sampled_from([0.0, 0.0, 0.37, 1.0])),
        block_tokens=block_tokens,
    )


change = st.one_of(
    st.tuples(st.just("clock"), st.integers(0, 4), st.sampled_from(CLOCKS_MHZ)),
    st.tuples(st.just("drain"), st.integers(0, 4), st.none()),
    st.tuples(st.just("add"), st.integers(0, 1), st.sampled_from([None, 0.0713, 0.3191])),
    st.tuples(st.just("open"), st.integers(0, 4), st.booleans()),
    st.tuples(st.just("shares"), st.integers(0, 99), st.booleans()),
    st.tuples(st.just("reroute"), st.integers(0, 4), st.none()),
)
request = st.tuples(st.floats(0.0, 0.999), st.integers(1, 120), st.one_of(st.integers(1, 8), st.integers(1, 90)))
interval = st.tuples(st.floats(0.01, 0.7), st.lists(request, max_size=12), st.lists(change, max_size=2))


@st.composite
def cases(draw):
    shapes = [
        ReplicaShape(draw(st.sampled_from(REPLICAS)), draw(engine_settings())) for _ in range(draw(st.integers(1, 2)))
    ]
    eligible = draw(st.sampled_from(ELIGIBLE))
    last = len(shapes) - 1
    replica = st.tuples(
        st.integers(0, last), st.sampled_from(CLOCKS_MHZ), st.sampled_from([None, 0.0937]), st.integers(0, 9)
    )
    return Case(
        shapes,
        eligible,
        draw(st.sampled_from([0.0, 0.0171, 0.2113])),
        draw(st.lists(replica, min_size=1, max_size=3)),
        draw(st.lists(interval, min_size=1, max_size=5)),
        draw(st.sampled_from([None, LengthPredictor(0.6)])),
    )


def play(fleet, case, observe):
    """Do to a fleet what the case says; returns what was observed after each interval."""
    count = 0
    observed = []
    for shape, clock_mhz, ready_s, pool in case.replicas:
        fleet.add_replica(shape, clock_mhz=clock_mhz, ready_s=ready_s, pool=pool % len(case.eligible))
        count += 1
    for number, (seconds, requests, changes) in enumerate(case.intervals):
        until_s = fleet.now_s + seconds
        rows = sorted((fleet.now_s + share * seconds, i, o) for share, i, o in requests)
        arrivals = Trace(*(np.array(column) for column in zip(*rows, strict=True))) if rows else None
        fleet.advance(until_s, arrivals)
        observed.append(observe())
        for kind, which, value in changes:
            if kind == "clock":
                fleet.set_clock(which % count, value)
            elif kind == "drain":
                fleet.drain(which % count)
            elif kind == "open":
                fleet.set_open(which % count, value)
            elif kind == "reroute":
                observed.append(fleet.reroute_waiting(which % count))
            elif kind == "shares":
                fleet.set_shares(shares(case.eligible, which) if value else None)
            else:
                ready_s = None if value is None else fleet.now_s + value
                pool = number % len(case.eligible)
                fleet.add_replica(which % len(case.shapes), clock_mhz=CLOCKS_MHZ[0], ready_s=ready_s, pool=pool)
                count += 1
    fleet.finish(fleet.now_s + 1000.0)
    return observed


def shares(eligible, seed):
    """Any, of which some are 0."""
    rng = np.random.default_rng(seed)
    parts = rng.uniform(0.05, 1, eligible.shape) * eligible
    last_wins = rng.random(eligible.shape[1]) < 0.3
    parts[:-1, last_wins & eligible[-1]] = 0
    return parts / parts.sum(axis=0)


def check(case, seen=None):
    core = FleetCore(
        case.shapes,
        OBJECTIVES,
        classes=CLASSES,
        eligible=case.eligible,
        predictor=case.predictor,
        clock_delay_s=case.clock_delay_s,
        keep_requests=True,
    )
    reference = ReferenceFleet(case.shapes, OBJECTIVES, case.eligible, case.clock_delay_s, CLASSES, case.predictor)
    seen = [] if seen is None else seen
    seen += play(core, case, lambda: (core.snapshot(), core.tally()))
    for mine, expected in zip(seen, play(reference, case, reference.observe), strict=True):
        if isinstance(expected, int):
            assert mine == expected
            continue
        (snapshot, tally), (rows, energy_j, gpu_s) = mine, expected
        columns = (getattr(snapshot, name) for name in SNAPSHOT_COLUMNS)
        np.testing.assert_allclose(np.column_stack(list(columns)), rows, rtol=0, atol=1e-12)
        np.testing.assert_allclose(tally.energy_j, energy_j, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(tally.gpu_s, gpu_s, rtol=1e-9, atol=1e-9)
    compare(core, reference)
    return core.tally()


def compare(core, reference):
    tally, records = core.tally(), core.requests()
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(core.now_s, reference.now_s, **close)
    np.testing.assert_allclose(records.ttft_s, reference.ttft_s, equal_nan=True, **close)
    np.testing.assert_allclose(records.end_s, reference.end_s, equal_nan=True, **close)
    assert tally.preemptions == reference.preemptions
    assert tally.rejected == reference.rejected
    assert tally.iterations == reference.iterations
    classes = np.array([row[3] for row in reference.rows], dtype=int)
    ttft_s = np.array(reference.ttft_s)
    met = ttft_s <= [OBJECTIVES.ttft_s(row[1]) for row in reference.rows]
    served = np.isfinite(ttft_s)
    for length_class, gaps_s in enumerate(reference.gaps):
        mine = classes == length_class
        assert tally.requests[length_class] == mine.sum()
        assert tally.finished[length_class] == np.isfinite(np.array(reference.end_s)[mine]).sum()
        assert tally.ttft_met[length_class] == met[mine].sum()
        assert tally.gaps[length_class] == len(gaps_s)
        assert tally.gaps_met[length_class] == (np.array(gaps_s) <= OBJECTIVES.tbt_s).sum()
        np.testing.assert_array_equal(tally.ttft_histogram[length_class], histogram(ttft_s[mine & served]))
        np.testing.assert_array_equal(tally.gap_histogram[length_class], histogram(gaps_s))
        np.testing.assert_allclose(tally.ttft_sum_s[length_class], ttft_s[mine & served].sum(), **close)
        np.testing.assert_allclose(tally.gap_sum_s[length_class], sum(gaps_s), **close)
    np.testing.assert_allclose(tally.energy_j, reference.energy_j, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(tally.gpu_s, reference.gpu_s, **close)
    np.testing.assert_allclose(tally.busy_gpu_s, reference.busy_gpu_s, **close)
    assert tally.input_tokens == sum(row[1] for row, got in zip(reference.rows, served, strict=True) if got)
    assert tally.output_tokens == served.sum() + sum(map(len, reference.gaps))


def histogram(values):
    return np.histogram(np.clip(values, HISTOGRAM_EDGES_S[0], HISTOGRAM_EDGES_S[-1]), HISTOGRAM_EDGES_S)[0]


@given(cases())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_agrees_with_the_plain_engine(case):
    check(case)


@pytest.mark.parametrize("order", QueueOrder)
@pytest.mark.parametrize("kv_blocks", [11, 24, 400])
@pytest.mark.parametrize("threshold", [0, 24])
def test_agrees_under_load(order, kv_blocks, threshold):
    """Longer than what hypothesis draws: long runs, full batches, many preemptions where the cache is small."""
    rng = np.random.default_rng(kv_blocks)
    shape = ReplicaShape(
        REPLICAS[1],
        EngineSettings(96, 32, 16 * kv_blocks, threshold, queue_order=order, prefix_hit_ratio=0.2),
    )
    case = Case([shape], np.ones((1, 9), bool), 0.01, [(0, 2000.0, None, 0), (0, 1400.0, None, 0)])
    for _ in range(6):
        count = int(rng.integers(10, 80))
        requests = zip(
            rng.uniform(0, 0.99, count),
            rng.integers(1, 150, count),
            rng.geometric(0.05, count).clip(1, 25),
            strict=True,
        )
        case.intervals.append((rng.uniform(0.5, 1), list(requests), [("clock", int(rng.integers(2)), 800.0)]))
    tally = check(case)
    assert tally.finished.sum() == tally.requests.sum() > 100
    assert (tally.preemptions > 5) == (kv_blocks < 100)


@pytest.mark.parametrize("order", QueueOrder)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_when_pools_share_a_load(order, seed):
    """Queues from which much is rerouted, shares that change while pools are behind them, wrong predictions."""
    rng = np.random.default_rng(seed)
    small = ReplicaShape(REPLICAS[1], EngineSettings(96, 32, 16 * 15, queue_order=order))
    large = ReplicaShape(REPLICAS[0], EngineSettings(64, 8, 16 * 200, queue_order=order))
    replicas = [
        (0, 2000.0, None, 0),
        (0, 2000.0, None, 2),
        (1, 2000.0, None, 1),
        (1, 800.0, 1.3, 0),
        (1, 800.0, None, 0),
    ]
    case = Case([small, large], ELIGIBLE[2], 0.01, replicas, predictor=LengthPredictor(0.6))
    for number in range(8):
        count = int(rng.integers(20, 90))
        requests = zip(
            rng.uniform(0, 0.99, count), rng.integers(1, 150, count), rng.integers(1, 90, count), strict=True
        )
        changes = [("open", replica, bool(rng.integers(2))) for replica in range(5)]
        changes += [("reroute", replica, None) for replica in rng.permutation(5)]
        changes.append(("shares", number, number % 4 != 3))
        case.intervals.append((rng.uniform(0.2, 0.6), list(requests), changes))
    seen = []
    tally = check(case, seen)
    assert sum(each for each in seen if isinstance(each, int)) > 30
    assert tally.preemptions > 5
    assert tally.finished.sum() == tally.requests.sum() > 300


@pytest.mark.parametrize(("replica", "above_at_first"), [(REPLICAS[1], False), (REPLICAS[2], True)])
def test_runs_may_cross_tdp_objective_and_bins(replica, above_at_first):
    """A few long answers: most iterations are in runs, whose energy and gaps are sums in closed form."""
    clocked = replica.at_clock(2000.0)

    def above_tdp(context):
        batch = Batch(1, context, 0, 0.0)
        return clocked.energy_j(batch) >= clocked.tdp_w * clocked.step_s(batch)

    assert (above_tdp(21), above_tdp(700)) == (above_at_first, not above_at_first)
    shape = ReplicaShape(replica, EngineSettings(2048, 8, 1 << 20))
    case = Case([shape], np.ones((1, 9), bool), 0.0, [(0, 2000.0, None, 0)])
    case.intervals.append((0.5, [(0.1, 20, 3000), (0.2, 30, 1000), (0.7, 10, 500)], []))
    tally = check(case)
    if replica.context_s > 1e-7:
        assert 0 < tally.gaps_met.sum() < tally.gaps.sum()
        assert np.count_nonzero(tally.gap_histogram) > 20
