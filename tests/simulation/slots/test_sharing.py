import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.simulation.slots.sharing import Taker, pool_parts, taken_parts

RATES = np.linspace(0, 10, 11)


def taker(count=1, limit_rps=10.0, queued_rps=0.0, seconds=2.0):
    """Each request stays for so many seconds, whatever the load."""
    rates = RATES * limit_rps / 10
    return Taker(count, limit_rps, queued_rps, rates, rates * seconds)


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.floats(1, 20), st.floats(0, 30), st.floats(0.5, 9)), min_size=1, max_size=4
    ),
    st.floats(0, 200),
)
def test_all_new_requests_go_somewhere(kinds, demand_rps):
    takers = [taker(*kind) for kind in kinds]
    parts = taken_parts(takers, [demand_rps] * len(takers), 60.0)
    assert min(parts) >= 0
    assert sum(each.count * part for each, part in zip(takers, parts, strict=True)) == pytest.approx(1)


def test_equal_replicas_get_equal_parts():
    assert taken_parts([taker(3)], [12.0], 60.0) == pytest.approx([1 / 3])
    assert taken_parts([], [], 60.0) == []
    assert taken_parts([taker(3), taker(1)], [12.0, 12.0], 60.0) == pytest.approx([1 / 4, 1 / 4], rel=1e-6)


def test_replicas_have_as_many_outstanding_requests():
    fast, slow = taken_parts([taker(seconds=1.0), taker(seconds=3.0)], [8.0, 8.0], 60.0)
    assert fast * 1.0 == pytest.approx(slow * 3.0, rel=1e-6)


def test_new_requests_go_past_a_queue():
    queued, free = taken_parts([taker(queued_rps=9.0), taker()], [5.0, 5.0], 60.0)
    assert queued == pytest.approx(0, abs=1e-6)
    assert free == pytest.approx(1)


def test_what_nobody_can_serve_in_time_queues_where_the_queue_is_shortest():
    long, short = taken_parts([taker(queued_rps=16.0), taker(queued_rps=12.0)], [6.0, 6.0], 60.0)
    # After a minute 360 and 120 are left, and 360 come: both have 420.
    assert 360 + 360 * long == pytest.approx(120 + 360 * short, rel=1e-6)


@given(st.integers(0, 3), st.floats(0.1, 5))
def test_without_shares_pools_get_their_part_by_capacity(missing, ratio):
    capacity = np.array([1.0, ratio, 2.0])
    eligible = np.ones((3, 9), np.bool_)
    if missing < 3:
        eligible[missing, 4] = False
    parts = pool_parts(None, eligible, capacity)
    assert parts.sum(axis=0) == pytest.approx(1)
    able = capacity * eligible[:, 4]
    assert parts[:, 4] == pytest.approx(able / able.sum())


def test_a_pool_that_serves_nobody_passes_its_share_on_to_eligible_pools():
    shares = np.zeros((3, 9))
    shares[0] = 1.0
    eligible = np.ones((3, 9), np.bool_)
    eligible[2, 0] = False
    parts = pool_parts(shares, eligible, np.array([0.0, 1.0, 3.0]))
    assert parts[:, 0].tolist() == [0, 1, 0]
    assert parts[:, 1] == pytest.approx([0, 0.25, 0.75])
    assert pool_parts(shares, eligible, np.array([2.0, 1.0, 3.0])).tolist() == shares.tolist()


def test_nobody_takes_what_nobody_may():
    assert pool_parts(None, np.zeros((2, 9), np.bool_), np.ones(2)).sum() == 0
    assert pool_parts(np.full((2, 9), 0.5), np.ones((2, 9), np.bool_), np.zeros(2)).sum() == 0
