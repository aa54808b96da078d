import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.slots.load import bin_load
from dynawatt.workload.classes import LengthClasses
from dynawatt.workload.trace import Trace

CLASSES = LengthClasses()


def trace(count=500, span_s=2000.0, seed=0):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, span_s, count))
    return Trace(times, rng.integers(1, 3000, count), rng.integers(1, 900, count))


def cut(whole, rows):
    edges = [0, *sorted(rows), len(whole)]
    return [
        Trace(whole.arrival_s[a:b], whole.input_tokens[a:b], whole.output_tokens[a:b])
        for a, b in itertools.pairwise(edges)
    ]


@given(st.lists(st.integers(0, 500), max_size=6))
def test_the_chunks_in_which_requests_come_do_not_matter(rows):
    whole, pieces = bin_load([trace()], 2000.0, CLASSES), bin_load(cut(trace(), rows), 2000.0, CLASSES)
    assert (whole.requests == pieces.requests).all()
    assert (whole.input_tokens == pieces.input_tokens).all()
    assert (whole.output_tokens == pieces.output_tokens).all()


def test_requests_and_tokens_are_counted_by_slot_and_class():
    load = bin_load(
        [Trace(np.array([0.0, 299.9, 300.0]), np.array([10, 2000, 10]), np.array([5, 400, 7]))], 600.0, CLASSES
    )
    assert load.requests[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert load.requests[1].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert load.mean_input_tokens[[0, 8]].tolist() == [10, 2000]
    assert load.mean_output_tokens[[0, 1, 8]].tolist() == [6, 1, 400]


def test_requests_from_the_horizon_on_are_left_out():
    whole = trace()
    load = bin_load([whole], 700.0, CLASSES)
    assert load.requests.sum() == np.count_nonzero(whole.arrival_s < 700.0)
    assert len(load.requests) == 3
    assert load.output_tokens.sum() == whole.output_tokens[whole.arrival_s < 700.0].sum()


@given(st.lists(st.floats(0, 2000.0), min_size=1, max_size=8))
def test_parts_of_slots_add_up_to_the_whole(times):
    load = bin_load([trace()], 2000.0, CLASSES)
    edges = [0.0, *sorted(times), 2000.0]
    parts = [load.between(a, b) for a, b in itertools.pairwise(edges)]
    assert min(part.min() for part in parts) >= 0
    assert np.allclose(sum(parts), load.requests.sum(axis=0))


def test_a_part_of_a_slot_has_its_part_of_the_requests():
    load = bin_load([trace()], 2000.0, CLASSES)
    assert np.allclose(load.between(300.0, 375.0), load.requests[1] / 4)
    # The last slot is 200 s long.
    assert np.allclose(load.between(1900.0, 2000.0), load.requests[6] / 2)


def test_without_bursts_policies_count_the_same_and_replicas_serve_the_rates():
    load = bin_load([trace()], 2000.0, CLASSES)
    expected = np.array([80.0, 0.0, 120.0, 70.0, 70.0, 70.0, 90.0])
    even = load.without_bursts(expected)
    served = np.diff([even.between(0.0, edge_s).sum() for edge_s in (0, 300, 600, 900, 1200, 1500, 1800, 2000)])
    assert served == pytest.approx(expected, rel=0.25)
    assert served[1] == 0.0
    assert even.between(0.0, 2000.0) == pytest.approx(load.requests.sum(axis=0))
    assert even.counted_between(300.0, 600.0) == pytest.approx(load.requests[1])
    assert (load.between(300.0, 600.0) == load.counted_between(300.0, 600.0)).all()


def test_a_slot_that_happened_to_be_empty_is_served_like_the_others():
    load = bin_load([cut(trace(), [40])[1]], 2000.0, CLASSES)
    load.requests[0] = 0
    even = load.without_bursts(np.full(7, 60.0))
    shares = load.requests.sum(axis=0) / load.requests.sum()
    assert even.served[0] / even.served[0].sum() == pytest.approx(shares, abs=0.05)


@pytest.mark.parametrize("horizon_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_horizon_that_is_none_is_refused(horizon_s):
    with pytest.raises(InvalidInputError, match="must be above 0"):
        bin_load([], horizon_s, CLASSES)
