import json
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.planning.calibration.startup import StartupTimes

starts = st.lists(st.floats(1.0, 5000.0), max_size=30)


def learnt(*starts_s, prior_s=100.0):
    found = StartupTimes(prior_s)
    for each in starts_s:
        found.observe(each)
    return found


def test_the_profile_speaks_until_there_are_starts():
    assert learnt().expected_s == 100.0
    assert 100.0 <= learnt(300.0).expected_s < 300.0
    assert learnt(300.0, 300.0, 300.0).expected_s == 300.0


def test_one_slow_start_of_many_is_not_planned_with():
    assert learnt(*[60.0] * 9, 3000.0).expected_s == 60.0


def test_where_every_second_start_is_slow_it_is():
    assert learnt(*[60.0, 200.0] * 5).expected_s == 200.0


def test_old_starts_are_forgotten():
    assert learnt(*[500.0] * 20, *[80.0] * 12).expected_s == 80.0


@given(starts)
def test_it_is_within_what_was_seen_and_survives_a_restart(starts_s):
    found = learnt(*[round(each, 1) for each in starts_s])
    known = [*found.starts_s, 100.0]
    assert min(known) <= found.expected_s <= max(known)
    assert StartupTimes.from_dict(json.loads(json.dumps(found.to_dict())), 100.0) == found


@pytest.mark.parametrize("bad", [-1.0, inf, nan, 1e6, "60", None, True])
def test_what_is_no_time_is_refused(bad):
    with pytest.raises(InvalidInputError, match="start-up time"):
        learnt(bad)
    with pytest.raises(InvalidInputError, match="start-up time"):
        StartupTimes.from_dict({"starts": [bad]}, 100.0)


@pytest.mark.parametrize("values", [{}, {"starts": "60"}, {"starts": None}, {"starts": [], "more": 1}, [], None])
def test_an_unknown_state_is_refused(values):
    with pytest.raises(InvalidInputError, match="starts"):
        StartupTimes.from_dict(values, 100.0)
