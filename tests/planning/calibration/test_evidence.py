import json
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.planning.calibration.evidence import Evidence

windows = st.lists(st.tuples(st.floats(0.5, 2.0), st.floats(0.1, 100.0)), min_size=2, max_size=40)


def evidence(rows, count=1000.0, window_s=60.0):
    found = Evidence()
    for observed, predicted in rows:
        found.add(observed, predicted, count, window_s)
    return found


def test_nothing_says_nothing():
    found = Evidence()
    assert (found.ratio, found.half_width) == (1.0, inf)
    assert found.thin(2000, "gaps") == "0 gaps, 2,000 are needed"


def test_the_ratio_is_that_of_the_sums():
    found = evidence([(2.0, 1.0), (10.0, 10.0)])
    assert found.ratio == pytest.approx(12 / 11)


@given(windows)
def test_its_error_is_that_of_the_windows_about_it(rows):
    rows = [(share * predicted, predicted) for share, predicted in rows]
    found = evidence(rows)
    observed, predicted = np.array(rows).T
    residuals = observed - found.ratio * predicted
    expected = 2 * sqrt((residuals**2).sum() * len(rows) / (len(rows) - 1)) / predicted.sum()
    assert found.half_width == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_the_interval_covers_the_truth_nearly_always():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        predicted = rng.uniform(5, 15, 20)
        found = evidence(zip(predicted * rng.normal(1.2, 0.05, 20), predicted, strict=True))
        inside += abs(found.ratio - 1.2) <= found.half_width
    assert 0.92 <= inside / 400 <= 0.98


def test_a_burst_is_too_short_to_judge_by():
    assert evidence([(1.2, 1.0)] * 9, window_s=30.0).thin(2000, "gaps") == "270 s, 300 are needed"
    assert evidence([(1.2, 1.0)] * 10, window_s=30.0).thin(2000, "gaps") == ""


@pytest.mark.parametrize(
    ("rows", "count", "reason"),
    [
        ([(1.2, 1.0)] * 8, 100, "800 gaps, 2,000 are needed"),
        ([(1.2, 1.0)] * 7, 1000, "7 windows, 8 are needed"),
        ([(1.0, 1.0), (1.4, 1.0)] * 4, 1000, "observed over predicted is 1.200 ± 0.151: must be known to ± 2.5%"),
        ([(1.19, 1.0), (1.21, 1.0)] * 4, 1000, ""),
    ],
)
def test_thin_evidence_says_what_is_missing(rows, count, reason):
    assert evidence(rows, count).thin(2000, "gaps") == reason


def test_one_stall_does_not_speak_for_all():
    calm = [(1.0, 1.0)] * 19
    found = evidence([*calm, (500.0, 1.0)])
    assert found.ratio == pytest.approx(22 / 20)
    assert "must be known" in found.thin(2000, "gaps")


def test_what_never_gets_clear_forgets_slowly():
    found = evidence([(1.0, 1.0)] * 200)
    for _ in range(200):
        found.add(1.3, 1.0, 1000.0, 30.0)
    assert found.windows <= 65
    assert found.ratio > 1.28


def test_windows_without_a_prediction_do_not_count():
    assert evidence([(0.0, 0.0), (1.0, 0.0)]) == Evidence()


@given(windows)
def test_it_survives_a_restart(rows):
    found = evidence(rows)
    assert Evidence.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("change", [{"o": -1.0}, {"o": None}, {"p": inf}, {"windows": True}, {"more": 1.0}])
def test_an_unknown_state_is_refused(change):
    with pytest.raises(InvalidInputError, match="must"):
        Evidence.from_dict({**Evidence().to_dict(), **change})
    with pytest.raises(InvalidInputError, match="must"):
        Evidence.from_dict([])
