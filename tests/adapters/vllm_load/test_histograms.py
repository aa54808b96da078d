from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.adapters.vllm_load.histograms import added, fraction_within, histogram_of, mix_of, slot_row
from dynawatt.ports import RangeSeries, Sample

ROWS = [(0.1, 10.0), (0.2, 30.0), (0.4, 40.0), (inf, 50.0)]


@pytest.mark.parametrize(
    ("bound_s", "expected"),
    [
        (0.0, 0.0),
        (0.05, 0.1),
        (0.1, 0.2),
        (0.15, 0.4),
        (0.2, 0.6),
        (0.3, 0.7),
        (0.4, 0.8),
        (5.0, 0.8),  # nothing is known of those beyond the last bound: none counts
        (inf, 0.8),
    ],
)
def test_fraction_within(bound_s, expected):
    assert fraction_within(ROWS, bound_s) == pytest.approx(expected)


@pytest.mark.parametrize("empty", [[], [(0.1, 0.0), (inf, 0.0)]])
def test_no_observation_no_fraction(empty):
    assert fraction_within(empty, 0.1) is None


def test_a_histogram_without_an_infinite_bucket():
    assert fraction_within([(0.1, 5.0), (0.2, 10.0)], 3.0) == 1.0


@given(
    counts=st.lists(st.integers(0, 100), min_size=1, max_size=8),
    bounds_s=st.lists(st.floats(0, 10), min_size=2, max_size=2).map(sorted),
)
def test_a_looser_bound_is_never_met_less(counts, bounds_s):
    total, rows = 0, []
    for step, count in enumerate(counts, start=1):
        total += count
        rows.append((step / 2 if step < len(counts) else inf, float(total)))
    if total:
        tight, loose = (fraction_within(rows, bound_s) for bound_s in bounds_s)
        assert 0 <= tight <= loose + 1e-12 <= 1 + 1e-9


def samples(**counts):
    return [Sample({"le": bound}, count) for bound, count in counts.items()]


def test_buckets_in_order():
    found = histogram_of([*samples(**{"+Inf": 9.0, "0.5": 4.0, "0.25": 1.0}), Sample({"other": "1"}, 3.0)])
    assert found == [(0.25, 1.0), (0.5, 4.0), (inf, 9.0)]


def test_a_bound_that_only_some_pods_have_is_left_out():
    found = histogram_of(samples(**{"0.25": 100.0, "0.4": 60.0, "0.5": 130.0, "+Inf": 140.0}))
    assert found == [(0.25, 100.0), (0.5, 130.0), (inf, 140.0)]


def test_rounding_leaves_no_bound_out():
    found = histogram_of(samples(**{"0.25": 100.00000001, "0.5": 100.0, "+Inf": 140.0}))
    assert [bound for bound, _ in found] == [0.25, 0.5, inf]
    assert found[1][1] >= found[0][1]


def test_histograms_with_other_buckets_add_up_where_both_have_bounds():
    ours, theirs = [(0.1, 1.0), (0.4, 5.0), (inf, 10.0)], [(0.1, 10.0), (0.5, 30.0), (inf, 100.0)]
    assert added([ours, theirs]) == [(0.1, 11.0), (inf, 110.0)]
    assert added([ours, [], [(0.7, 0.0), (inf, 0.0)]]) == ours
    assert added([]) == []


def test_a_mix_needs_a_request_and_keeps_known_means():
    inputs, outputs = [(100.0, 0.0), (1000.0, 40.0), (inf, 40.0)], [(10.0, 0.0), (100.0, 20.0), (inf, 20.0)]
    mix = mix_of(inputs, outputs, 12000.0, 1000.0)
    assert (mix.mean_input_tokens, mix.mean_output_tokens) == pytest.approx((300, 50), abs=0.01)
    assert mix_of(inputs, outputs, nan, nan).input_tokens.min() >= 100
    assert mix_of([], outputs, 1.0, 1.0) is None
    assert mix_of(inputs, [(inf, 0.4)], 1.0, 1.0) is None


def test_slots():
    series = [RangeSeries({}, [(1200, 30.0), (1500, nan), (2100, 12.5), (99_000, 7.0), (1800, -1.0)])]
    assert slot_row(series, 600.0, 5, 300).tolist() == pytest.approx([nan, 30.0, nan, nan, 12.5], nan_ok=True)
