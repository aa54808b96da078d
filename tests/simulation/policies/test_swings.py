import numpy as np
import pytest

from dynawatt.simulation.policies.swings import swing_within_slots
from dynawatt.workload.arrivals import renewal_arrivals


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_a_renewal_process_does_not_swing_beyond_itself(cv):
    arrival_s = renewal_arrivals(20.0, cv, 72_000, np.random.default_rng(1))
    assert swing_within_slots(arrival_s, cv, np.ones(len(arrival_s))) == pytest.approx(1.0, abs=0.06)


def test_minutes_that_are_busier_than_their_slot_count():
    rng = np.random.default_rng(2)
    # Of every five minutes one has twice the rate of the others: 2 / 1.2 of the mean.
    counts = rng.poisson(1200 * np.tile([1.0, 1.0, 2.0, 1.0, 1.0], 12))
    arrival_s = np.concatenate([60 * minute + np.sort(rng.uniform(0, 60, n)) for minute, n in enumerate(counts)])
    assert swing_within_slots(arrival_s, 1.0, np.ones(len(arrival_s))) == pytest.approx(
        2 / 1.2 / (1 + 2.326 / np.sqrt(1440)), rel=0.05
    )


def test_a_rate_that_moves_from_slot_to_slot_is_no_swing():
    rng = np.random.default_rng(3)
    counts = rng.poisson(np.repeat(np.linspace(600, 3000, 12), 5))
    arrival_s = np.concatenate([60 * minute + np.sort(rng.uniform(0, 60, n)) for minute, n in enumerate(counts)])
    assert swing_within_slots(arrival_s, 1.0, np.ones(len(arrival_s))) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("arrival_s", [[], [5.0], np.linspace(0, 500, 900)])
def test_too_little_tells_nothing(arrival_s):
    assert swing_within_slots(np.array(arrival_s, dtype=np.float64), 1.0, np.ones(len(arrival_s))) == 1.0


def test_minutes_of_longer_requests_count_and_lengths_that_vary_by_chance_do_not():
    rng = np.random.default_rng(4)
    arrival_s = np.sort(rng.uniform(0, 3600, 72_000))
    lengths = rng.lognormal(0, 1, 72_000)
    assert swing_within_slots(arrival_s, 1.0, lengths) == pytest.approx(1.0, abs=0.06)
    minutes = (arrival_s // 60).astype(int)
    longer = np.where(minutes % 5 == 2, 2.0, 1.0)
    assert swing_within_slots(arrival_s, 1.0, longer) == pytest.approx(2 / 1.2, rel=0.12)
