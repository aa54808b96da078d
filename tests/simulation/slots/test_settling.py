import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.governing.governor import ClockGovernor
from dynawatt.governing.reading import PodReading
from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.simulation.policy import Governed
from dynawatt.simulation.slots.settling import Settling

ROWS = tuple(ClockRow(800 + 50 * row, 1.0 + 0.25 * row, 2500 + 250 * row, 10_000) for row in range(16))
CLAIM = Governed(GovernorTable(0.99, 0.1, 1.0, 500.0, 1000.0, True, ROWS), 800, 1600)
TOP_RPS = ROWS[-1].load_rps
PROMPTS = np.array([100, 400, 1000])

SMOOTH, BURSTY = Settling(PROMPTS, 1.0), Settling(PROMPTS, 4.0)


def governed_mhz(rate_rps, seed, minutes=60):
    """The mean clock of a governor whose pod answers at once, and gets every request that comes."""
    governor, counts = ClockGovernor(CLAIM.table, CLAIM.floor_mhz, CLAIM.ceiling_mhz), 0
    clocks_mhz = []
    for second, count in enumerate(np.random.default_rng(seed).poisson(rate_rps, 60 * minutes)):
        counts += count
        reading = PodReading(0, 0, 0.0, counts, counts, counts, counts, counts, 500 * counts, counts)
        clocks_mhz.append(governor.step(float(second), reading))
    return np.mean(clocks_mhz[300:])


@pytest.mark.parametrize("rate_rps", [0.3, 1.3, 2.9, 4.4])
def test_without_a_queue_it_settles_where_any_governor_of_random_arrivals_does(rate_rps):
    measured_mhz = np.mean([governed_mhz(rate_rps, seed) for seed in range(2)])
    quick = Governed(GovernorTable(0.99, 0.1, 1e6, 500.0, 1000.0, True, ROWS), 800, 1600)
    assert SMOOTH.at(quick, rate_rps, 1).mhz == pytest.approx(measured_mhz, rel=0.03)


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 10), st.integers(1, 8), st.sampled_from([SMOOTH, BURSTY]))
def test_it_stays_within_the_claim_and_works_at_least_as_fast_as_it_idles(rate_rps, replicas, settling):
    settled = settling.at(CLAIM, rate_rps, replicas)
    assert 800 <= settled.mhz <= 1600
    assert 800 <= settled.working_mhz <= 1600
    assert settled.working_mhz >= settled.mhz - 25


@pytest.mark.parametrize("settling", [SMOOTH, BURSTY])
def test_the_clock_rises_with_the_load_and_carries_it(settling):
    loads = np.linspace(0.2, 0.98, 7) * TOP_RPS
    clocks_mhz = np.array([settling.at(CLAIM, load, 4).mhz for load in loads])
    assert (np.diff(clocks_mhz) > -25).all()
    assert clocks_mhz[-1] > clocks_mhz[0] + 200
    lowest_mhz = np.array([next(row.clock_mhz for row in ROWS if row.load_rps >= load) for load in loads])
    # A burst passes and leaves the clock at its own: only a steady load is carried at every moment.
    assert settling is BURSTY or (clocks_mhz >= lowest_mhz - 10).all()


def test_replicas_that_share_a_load_see_less_of_its_bursts():
    assert BURSTY.at(CLAIM, 1.2, 1).working_mhz > SMOOTH.at(CLAIM, 1.2, 1).working_mhz + 25
    loads = np.linspace(0.5, 4.5, 9)
    alone, together = (np.mean([SMOOTH.at(CLAIM, load, replicas).mhz for load in loads]) for replicas in (1, 8))
    assert together < alone


def test_a_load_beyond_the_table_and_a_queue_get_the_ceiling():
    for offered_rps in (TOP_RPS + 0.01, 99.0, float("inf")):
        assert SMOOTH.at(CLAIM, offered_rps, 2) == (1600, 1600)


def test_a_replica_without_requests_is_at_the_floor():
    assert SMOOTH.at(CLAIM, 0.0, 2) == (800, 800)


def test_a_claim_of_one_clock_leaves_no_choice():
    assert SMOOTH.at(Governed(CLAIM.table, 1200, 1200), 3.0, 2) == (1200, 1200)


def test_the_same_question_has_the_same_answer():
    assert Settling(PROMPTS, 2.0).at(CLAIM, 1.7, 3) == Settling(PROMPTS, 2.0).at(CLAIM, 1.7, 3)


def test_small_queues_raise_the_clock_where_they_must_be_worked_off_at_once():
    hurried = Governed(GovernorTable(0.99, 0.1, 0.1, 500.0, 1000.0, True, ROWS), 800, 1600)
    assert SMOOTH.at(hurried, 3.0, 1).mhz > SMOOTH.at(CLAIM, 3.0, 1).mhz + 50
