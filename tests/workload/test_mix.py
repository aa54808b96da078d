from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.workload.mix import LengthMix, mix_from_histograms

BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, inf)


def histogram(lengths, bounds=BOUNDS):
    return [(bound, float(sum(length <= bound for length in lengths))) for bound in bounds]


def mix(inputs, outputs, mean_input=None, mean_output=None, size=512):
    return mix_from_histograms(
        histogram(inputs),
        histogram(outputs),
        mean_input=np.mean(inputs) if mean_input is None else mean_input,
        mean_output=np.mean(outputs) if mean_output is None else mean_output,
        size=size,
    )


def bucket(length):
    upper = next(i for i, bound in enumerate(BOUNDS) if length <= bound)
    return (BOUNDS[upper - 1] if upper else 0.5), BOUNDS[upper]


lengths = st.lists(st.integers(1, 9000), min_size=1, max_size=40)


@given(inputs=lengths, outputs=lengths)
def test_means_are_the_observed_ones(inputs, outputs):
    found = mix(inputs, outputs)
    assert len(found.input_tokens) == len(found.output_tokens) == 512
    assert min(found.input_tokens.min(), found.output_tokens.min()) >= 1
    assert found.mean_input_tokens == pytest.approx(np.mean(inputs), abs=1 / 512)
    assert found.mean_output_tokens == pytest.approx(np.mean(outputs), abs=1 / 512)


@given(rows=lengths, fraction=st.floats(0.01, 0.99))
def test_quantiles_are_in_the_right_bucket(rows, fraction):
    raw = mix(rows, rows, mean_input=0.0)  # without a mean nothing is scaled
    position = fraction * len(rows)
    if abs(position - round(position)) < len(rows) / 512:
        return  # on the border between two requests either one is right
    low, high = bucket(sorted(rows)[int(position)])
    assert low - 0.5 <= np.sort(raw.input_tokens)[int(fraction * 512)] <= high


def test_marginals_are_independent_of_each_other():
    rows = [10] * 50 + [1000] * 50
    found = mix(rows, rows)
    assert abs(np.corrcoef(found.input_tokens, found.output_tokens)[0, 1]) < 0.15


def test_beyond_the_last_bound_lengths_go_up_to_twice_it():
    found = mix([20_000] * 10, [5], mean_input=0.0)
    assert 10_000 <= found.input_tokens.min() < 11_000
    assert 19_000 < found.input_tokens.max() <= 20_000


def test_a_histogram_of_one_infinite_bucket():
    found = mix_from_histograms([(inf, 7.0)], [(inf, 7.0)], mean_input=120.0, mean_output=30.0)
    assert (found.mean_input_tokens, found.mean_output_tokens) == pytest.approx((120, 30), abs=1 / 512)


def test_small_steps_back_in_the_counts_do_no_harm():
    """Prometheus extrapolates each bucket on its own, so cumulative counts may fall a little."""
    wobbly = [(10, 4.0), (100, 3.999999), (1000, 8.000001), (inf, 8.0)]
    found = mix_from_histograms(wobbly, wobbly, mean_input=0.0, mean_output=0.0)
    assert found.input_tokens.min() >= 1
    assert (found.input_tokens <= 10).mean() == pytest.approx(0.5, abs=0.01)
    assert (found.input_tokens > 100).mean() == pytest.approx(0.5, abs=0.01)
    assert found.input_tokens.max() <= 1000


@pytest.mark.parametrize("empty", [[], [(10, 0.0), (inf, 0.0)], [(inf, float("nan"))]])
def test_an_empty_histogram_is_refused(empty):
    full = histogram([5])
    for pair in ((empty, full), (full, empty)):
        with pytest.raises(InvalidInputError, match="length histogram is empty"):
            mix_from_histograms(*pair, mean_input=5.0, mean_output=5.0)


def test_the_same_histograms_give_the_same_mix():
    first, second = mix([3, 70, 900], [8, 9]), mix([3, 70, 900], [8, 9])
    assert first.input_tokens.tolist() == second.input_tokens.tolist()
    assert first.output_tokens.tolist() == second.output_tokens.tolist()


def test_bins_are_parts_of_an_octave():
    def at(input_tokens, output_tokens):
        return LengthMix(np.array([input_tokens]), np.array([output_tokens])).bin()

    assert at(1, 1) == (0, 0)
    assert at(1024, 256) == (30, 24)
    assert at(1050, 250) == at(1024, 256)
    assert at(1290, 256) == (31, 24)
