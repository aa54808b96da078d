import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.planning.calibration.factor import BAND, LEAST, MOST, STEP, Factor

LONG = 6
GOOD = {"factor": 1.0, "below": 0, "least": 0.7}
"""Verdicts that lower a factor by a step."""


def judged(ratio, verdicts=1, factor=1.0, half_width=0.005):
    found = Factor.from_dict({**GOOD, "factor": factor})
    for _ in range(verdicts):
        found.judge(ratio, half_width)
    return found.value


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [(1.0, 1.0), (1.012, 1.0), (1.013, 1.025), (1.2, 1.2), (1.212, 1.2), (1.213, 1.225), (1.49, 1.5), (2.5, MOST)],
)
def test_too_optimistic_counts_at_once(ratio, factor):
    assert judged(ratio) == factor


@pytest.mark.parametrize(("ratio", "factor"), [(0.984, 1.0), (0.98, 0.975), (0.8, 0.8), (0.807, 0.8), (0.5, LEAST)])
def test_too_careful_counts_slowly_and_by_a_tenth_at_most(ratio, factor):
    assert judged(ratio, LONG - 1) == 1.0
    assert judged(ratio, LONG) == max(factor, 0.9)
    assert judged(ratio, 10 * LONG) == factor


def test_of_many_verdicts_the_least_favourable_decides():
    factor = Factor()
    for ratio in (0.8, 0.81, 0.955, 0.8, 0.82, 0.8):
        factor.judge(ratio, 0.005)
    assert factor.value == 0.95


def test_one_verdict_that_disagrees_starts_anew():
    factor = Factor()
    for _ in range(LONG - 1):
        assert not factor.judge(0.8, 0.01)
    factor.judge(1.0, 0.01)
    for _ in range(LONG - 1):
        assert not factor.judge(0.8, 0.01)
    assert factor.judge(0.8, 0.01)
    assert factor.value == 0.9


def test_what_predictions_fall_short_by_is_no_reason_to_raise():
    factor = Factor(above=1.2)
    assert not factor.judge(1.029, 0.005)
    assert factor.judge(1.031, 0.005)
    assert factor.value == 1.025


def test_what_may_be_chance_moves_nothing():
    assert judged(1.04, half_width=0.05) == 1.0
    assert judged(0.95, 2 * LONG, half_width=0.06) == 1.0


@given(st.floats(0.01, 5.0), st.lists(st.floats(-0.01, 0.01), min_size=30 * LONG, max_size=30 * LONG))
def test_it_gets_near_any_steady_ratio(ratio, noise):
    factor = Factor()
    for each in noise:
        factor.judge(ratio + each, 0.005)
    assert LEAST <= factor.value <= MOST
    inside = min(max(ratio, LEAST), MOST)
    assert inside - STEP - 0.01 <= factor.value <= inside + STEP


@given(st.floats(0.01, 5.0), st.lists(st.floats(-0.0024, 0.0024), min_size=30 * LONG, max_size=30 * LONG))
def test_it_stays_where_it_settled_under_noise_of_half_its_margin(ratio, noise):
    factor = Factor()
    changes = [factor.judge(ratio + each, 0.005) for each in noise]
    assert not any(changes[15 * LONG :])


@given(st.lists(st.floats(0.0, 5.0), max_size=50))
def test_it_never_moves_down_by_more_than_a_tenth(ratios):
    factor = Factor()
    for ratio in ratios:
        before = factor.value
        factor.judge(ratio, 0.0)
        assert factor.value >= before - 0.1 - 1e-9
        assert LEAST <= factor.value <= MOST


@pytest.mark.parametrize(
    ("factor", "drifted"), [(1.0, False), (1.25, False), (1.3, True), (0.8, False), (0.75, True), (0.7, True)]
)
def test_a_factor_out_of_its_band_has_drifted(factor, drifted):
    found = Factor.from_dict({**GOOD, "factor": factor})
    assert found.drifted is drifted
    assert found.drifted is not (1 / BAND <= factor <= BAND)


@given(st.integers(-12, 20), st.integers(0, LONG - 1), st.integers(-12, 20))
def test_it_survives_a_restart(steps, below, least):
    factor = Factor(steps=steps, below=below, least=least)
    assert Factor.from_dict(json.loads(json.dumps(factor.to_dict()))) == factor


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"factor": 1.0},
        {**GOOD, "more": 1},
        *({**GOOD, "factor": bad} for bad in (1.6, 0.6, float("nan"), "1.0", True, None)),
        *({**GOOD, "least": bad} for bad in (1.6, 0.6, float("nan"), "1.0", True, None)),
        *({**GOOD, "below": bad} for bad in (LONG, -1, 1.5, True, "1")),
        [],
        None,
    ],
)
def test_an_unknown_state_is_refused(values):
    with pytest.raises(InvalidInputError, match="must"):
        Factor.from_dict(values)
