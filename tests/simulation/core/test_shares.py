"""Turns of pools, as compiled, against what they are for."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.core.routing import pool_in_turn, take_turn
from dynawatt.simulation.core.shares import no_turns, turns_with
from dynawatt.simulation.core.state import CLASSES, NONE

CLASS = 4
weights = st.lists(st.just(0) | st.integers(1, 100), min_size=1, max_size=7).filter(any)


def columns(parts):
    """The same shares for all classes."""
    return np.repeat(np.array(parts, float)[:, None], CLASSES, axis=1)


def given_to(turns, requests):
    """Which pool each of the next requests of the class goes to."""
    pools = []
    for _ in range(requests):
        pools.append(pool_in_turn.py_func(turns, CLASS))
        take_turn.py_func(turns, CLASS, pools[-1])
    return pools


def turns_of(parts, before=None):
    shares = columns(parts) / np.sum(parts)
    return turns_with(shares, np.ones(shares.shape, bool), before or no_turns())


@given(weights, st.integers(1, 300))
def test_every_pool_has_its_share_to_less_than_one_request_at_any_time(parts, requests):
    pools = given_to(turns_of(parts), requests)
    for number in range(1, requests + 1):
        for pool, part in enumerate(parts):
            due = Fraction(part * number, sum(parts))
            assert abs(pools[:number].count(pool) - due) < 1


@given(weights, st.integers(1, 50))
def test_whole_rounds_come_out_even(parts, rounds):
    pools = given_to(turns_of(parts), sum(parts) * rounds if sum(parts) < 50 else sum(parts))
    counts = np.bincount(pools, minlength=len(parts))
    assert (counts * sum(parts) == np.array(parts) * len(pools)).all()


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any), min_size=1, max_size=30))
def test_shares_that_change_all_the_time_come_out_even_too(changes):
    """One request for each: what it brings a pool beyond its share is made up for later."""
    turns, due, counts = no_turns(), np.zeros(4), np.zeros(4)
    for parts in changes:
        turns = turns_of(parts, turns)
        np.testing.assert_allclose(turns.owed.sum(axis=0), 0.0, atol=1e-9)
        assert not turns.owed[np.array(parts) == 0].any()
        (pool,) = given_to(turns, 1)
        assert parts[pool] > 0
        due += np.array(parts) / sum(parts)
        counts[pool] += 1
    if all(all(parts) for parts in changes):
        np.testing.assert_allclose(turns.owed[:, CLASS], due - counts, atol=1e-9)


def test_what_a_pool_was_owed_goes_to_those_that_follow_it():
    turns = turns_of([1, 1, 2])
    assert given_to(turns, 3) == [2, 0, 1]
    assert turns.owed[:, CLASS].tolist() == [-0.25, -0.25, 0.5]
    turns = turns_of([1, 1, 0], turns)
    assert turns.owed[:, CLASS].tolist() == [0.0, 0.0, 0.0]
    turns.owed[:, CLASS] = [-0.5, 0.25, 0.25]
    turns = turns_of([0, 1, 3], turns)
    assert turns.owed[:, CLASS].tolist() == [0.0, 0.125, -0.125]


def test_classes_take_turns_of_their_own():
    turns = turns_of([1, 1])
    before = turns.owed.copy()
    given_to(turns, 1)
    changed = np.flatnonzero((turns.owed != before).any(axis=0))
    assert changed.tolist() == [CLASS]


def test_nobody_is_in_turn_without_shares():
    assert pool_in_turn.py_func(no_turns(), CLASS) == NONE


def test_sums_that_are_almost_one_are_made_one():
    turns = turns_with(columns([0.3333333, 0.3333333, 0.3333333]), np.ones((3, CLASSES), bool), no_turns())
    np.testing.assert_allclose(turns.shares.sum(axis=0), 1.0, rtol=1e-15)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (columns([0.5, 0.4]), "class SS sum to 0.9"),
        (columns([0.0, 0.0]), "class SS sum to 0"),
        (columns([1.5, -0.5]), "shares hold -0.5"),
        (columns([np.nan, 1.0]), "shares hold nan"),
        (columns([0.5, 0.5]), "pool 1 has a share of 0.5 of class SL"),
        (columns([1.0]), "shape"),
        (np.ones(CLASSES), "shape"),
    ],
)
def test_refuses_shares_that_make_no_sense(shares, message):
    eligible = np.ones((2, CLASSES), bool)
    eligible[1, 2] = False
    with pytest.raises(InvalidInputError, match=message):
        turns_with(shares, eligible, no_turns())
