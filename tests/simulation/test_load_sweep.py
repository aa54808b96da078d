import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.perfmodel.surface import SurfacePoint
from dynawatt.simulation.load_sweep import LoadSweep


def sweep_of(attainment, saturation_rps=100.0):
    """A replica whose attainment is a function of the rate; also the list of the rates that were simulated."""
    asked = []

    def simulate(rate_rps):
        asked.append(rate_rps)
        return SurfacePoint(rate_rps, attainment(rate_rps), 1.0, 0.0, 0.0, 0.0)

    return LoadSweep(simulate, saturation_rps, SurfacePoint(0.0, 1.0, 1.0, 0.0, 0.0, 0.0)), asked


@given(limit_rps=st.floats(1.5, 99.0), grid=st.lists(st.floats(1.0, 100.0), max_size=5))
def test_the_capacity_is_found_within_two_percent_from_below(limit_rps, grid):
    sweep, asked = sweep_of(lambda rate_rps: 1.0 if rate_rps <= limit_rps else 0.5)
    for rate_rps in grid:
        sweep.at(rate_rps)
    found = sweep.bracket(0.99)
    assert 0.98 * limit_rps - 1e-9 <= found <= limit_rps
    assert len(asked) == len(set(asked)) <= len(grid) + 2 + math.log2(100 / (0.02 * limit_rps))
    assert [point.rate_rps for point in sweep.row] == [0.0, *sorted(asked)]


def test_a_load_that_is_met_by_luck_above_one_that_is_not_does_not_count():
    sweep, _ = sweep_of(lambda rate_rps: 0.9 if 40 < rate_rps < 60 or rate_rps > 80 else 1.0)
    for rate_rps in (50.0, 70.0, 90.0):
        sweep.at(rate_rps)
    assert sweep.bracket(0.99) == pytest.approx(40, rel=0.02)


def test_several_capacities_share_what_was_simulated():
    sweep, asked = sweep_of(lambda rate_rps: 1 - rate_rps / 1000)
    assert sweep.bracket(0.95) == pytest.approx(50, rel=0.02)
    before = len(asked)
    assert sweep.bracket(0.95) <= 50
    assert len(asked) == before
    assert sweep.bracket(0.945) == pytest.approx(55, rel=0.02)
    assert len(asked) <= before + 5


def test_a_load_that_never_misses_ends_at_saturation():
    sweep, asked = sweep_of(lambda rate_rps: 1.0)
    assert sweep.bracket(0.99) == 100.0
    assert asked == [100.0]


def test_a_replica_that_always_misses_carries_nothing():
    sweep, asked = sweep_of(lambda rate_rps: 0.5)
    assert sweep.bracket(0.99) == 0.0
    assert min(asked) > 0.1
