from dataclasses import replace

import numpy as np
import pytest

from dynawatt.workload.builtin import built_in
from dynawatt.workload.drawn_counts import drawn_counts
from dynawatt.workload.rates import rate_curve
from dynawatt.workload.trace import ScaleMode

HOUR_EDGES_S = np.arange(0.0, 3601.0, 300.0)


def steady(cv, rps=5.0):
    return replace(built_in("alpaca", cv), curve=rate_curve([1.0], 3600.0, rps))


def test_a_metronome_comes_exactly_as_often_as_its_rate():
    counts = drawn_counts(steady(0.0), HOUR_EDGES_S, seed=1)
    assert counts.sum() == pytest.approx(18_000, abs=1)
    assert np.ptp(counts) <= 1


@pytest.mark.parametrize("mode", ["superpose", "compress"])
def test_scaling_multiplies_requests_per_second(mode):
    twice = drawn_counts(steady(1.0), HOUR_EDGES_S[:7], seed=1, rate_scale=2.0, scale_mode=ScaleMode(mode))
    assert twice.mean() == pytest.approx(2 * 5 * 300, rel=0.05)


@pytest.mark.parametrize("cv", [1.0, 6.0])
def test_counts_vary_as_those_of_drawn_requests(cv):
    workload = steady(cv)

    def from_requests(seed):
        arrivals = np.concatenate([chunk.arrival_s for chunk in workload.chunks(seed=seed)])
        return np.histogram(arrivals, HOUR_EDGES_S)[0]

    fast = np.array([drawn_counts(workload, HOUR_EDGES_S, seed=seed) for seed in range(60)])
    slow = np.array([from_requests(seed) for seed in range(60)])
    assert fast.mean() == pytest.approx(slow.mean(), rel=0.05)
    assert fast.std() == pytest.approx(slow.std(), rel=0.25)


def test_the_rate_curve_is_followed():
    workload = built_in("azure-2024-conv")
    edges_s = np.arange(0.0, 86_401.0, 3600.0)
    counts = drawn_counts(workload, edges_s, seed=3, rate_scale=0.2)
    expected = 0.2 * np.diff(workload.curve.count_by(edges_s))
    assert counts == pytest.approx(expected, rel=0.08)


def test_the_same_seed_gives_the_same_counts():
    assert (drawn_counts(steady(3.0), HOUR_EDGES_S, seed=4) == drawn_counts(steady(3.0), HOUR_EDGES_S, seed=4)).all()
    assert (drawn_counts(steady(3.0), HOUR_EDGES_S, seed=4) != drawn_counts(steady(3.0), HOUR_EDGES_S, seed=5)).any()
