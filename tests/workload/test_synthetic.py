import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.workload.synthetic import (
    CONVERSATION_INPUT,
    CONVERSATION_OUTPUT,
    LengthStatistics,
    conversations,
    rising_and_falling,
)

STATISTICS = [CONVERSATION_INPUT, CONVERSATION_OUTPUT]


@pytest.mark.parametrize("statistics", STATISTICS)
def test_distribution_meets_what_is_published(statistics: LengthStatistics):
    middles = (np.arange(200_000) + 0.5) / 200_000
    lengths = statistics.quantile(middles)
    assert lengths.mean() == pytest.approx(statistics.mean, rel=1e-6)
    assert (np.diff(lengths) >= 0).all()
    assert statistics.quantile(np.array([0, 0.5, 0.9, 0.99])).tolist() == [
        1,
        statistics.p50,
        statistics.p90,
        statistics.p99,
    ]


@pytest.mark.parametrize("statistics", STATISTICS)
def test_samples_follow_the_distribution(statistics: LengthStatistics):
    lengths = statistics.sample(50_000, np.random.default_rng(7))
    assert lengths.min() >= 1
    assert lengths.mean() == pytest.approx(statistics.mean, rel=0.02)
    assert np.quantile(lengths, [0.5, 0.9, 0.99]) == pytest.approx(
        [statistics.p50, statistics.p90, statistics.p99], rel=0.04
    )


def test_rate_rises_and_falls():
    trace = rising_and_falling(300, 10, 50, seed=4)
    per_minute = np.histogram(trace.arrival_s, bins=5, range=(0, 300))[0] / 60
    way = np.linspace(0, np.pi, 5 * 1000 + 1)
    expected = (10 + 40 * np.sin((way[1:] + way[:-1]) / 2) ** 2).reshape(5, -1).mean(axis=1)
    assert per_minute == pytest.approx(expected, rel=0.12)


def test_mix_has_the_published_means():
    trace = conversations(np.arange(20_000.0), np.random.default_rng(3))
    assert (trace.input_tokens.mean(), trace.output_tokens.mean()) == (
        pytest.approx(1155, rel=0.03),
        pytest.approx(211, rel=0.03),
    )


def test_lengths_are_independent():
    trace = rising_and_falling(1000, 10, 10, seed=1)
    assert abs(np.corrcoef(trace.input_tokens, trace.output_tokens)[0, 1]) < 0.05


def test_only_the_seed_decides():
    same, again, other = (rising_and_falling(60, 1, 5, seed).arrival_s.tolist() for seed in (1, 1, 2))
    assert same == again != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 2), "duration 0 s"),
        ((np.inf, 1, 2), "duration inf s"),
        ((10, 3, 2), "trough 3 and peak 2"),
        ((10, -1, 2), "trough -1"),
        ((10, 0, 0), "peak 0"),
        ((10, 0, np.nan), "peak nan"),
        ((1e6, 0, 1e6), "at most 50000000"),
    ],
)
def test_impossible_loads(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        rising_and_falling(*arguments, seed=0)
