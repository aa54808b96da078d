import numpy as np
import pytest

from dynawatt.perfmodel.catalog import replica_models
from dynawatt.simulation.engine import EngineSettings
from dynawatt.simulation.surfaces import build_surface, clock_grid
from dynawatt.workload.mix import LengthMix

from .conftest import objectives

MODELS = replica_models("Llama-3.1-8B", "h100-sxm", 1)
CLOCKS = (450, 900, 1980)
MIX = LengthMix(np.array([100, 300, 800, 1500]), np.array([20, 60, 30, 90]))


def build(ttft_s, tbt_s, mix=MIX, clocks=CLOCKS):
    limits = EngineSettings(2048, 64, MODELS.kv_capacity_tokens)
    return build_surface(MODELS, limits, mix, objectives(ttft_s, tbt_s), clocks, fleet_sizes=(1, 4), requests=100)


@pytest.fixture(scope="module")
def tight():
    return build(0.15, 0.03)


@pytest.fixture(scope="module")
def loose():
    return build(1.0, 0.1)


def test_capacity_falls_with_the_clock_and_rises_with_looser_objectives(tight, loose):
    for surface in (tight, loose):
        capacities = [surface.capacity_rps(clock, 0.99) for clock in CLOCKS]
        assert capacities == sorted(capacities)
        assert capacities[0] < capacities[-1]
    for clock in CLOCKS:
        assert tight.capacity_rps(clock, 0.99) <= loose.capacity_rps(clock, 0.99)
        assert loose.capacity_rps(clock, 0.99) <= loose.capacity_rps(clock, 0.97)
    assert 0 < tight.capacity_rps(1980, 0.99) < loose.capacity_rps(1980, 0.99)


def test_sharing_the_load_raises_what_each_replica_carries(tight):
    for clock in CLOCKS[1:]:
        assert tight.capacity_rps(clock, 0.99, 4) > tight.capacity_rps(clock, 0.99, 1)


def test_the_shortest_requests_have_a_surface_too():
    shortest = LengthMix(np.array([1]), np.array([1]))
    assert build(1.0, 1.0, shortest, (1980,)).capacity_rps(1980, 0.99) > 1000


def test_rows_begin_idle_and_get_worse_with_the_load(tight):
    for clock, row in tight.points.items():
        assert row[0].rate_rps == 0
        assert row[0].power_w == pytest.approx(MODELS.power.loaded_idle_w(clock))
        assert row[0].attainment == 1
        rates = [point.rate_rps for point in row]
        assert rates == sorted(set(rates))
        powers = [point.power_w for point in row]
        assert powers == sorted(powers)
    top = tight.points[1980]
    assert top[1].ttft_p99_s < top[-1].ttft_p99_s
    assert top[1].tbt_p99_s <= top[-1].tbt_p99_s


def test_a_hopeless_load_ends_its_row(tight):
    for row in tight.points.values():
        assert all(point.attains(0.95) for point in row[:-1])
    assert len(tight.points[450]) < len(tight.points[1980])


def test_a_lower_clock_needs_fewer_watts_at_a_load_both_carry(loose):
    rate_rps = 0.5 * loose.capacity_rps(450, 0.99)
    powers = [loose.at(clock, rate_rps).power_w for clock in CLOCKS]
    assert powers == sorted(powers)


def test_the_surface_knows_what_gpus_without_work_draw(tight):
    assert (tight.tensor_parallel, tight.released_w) == (1, 70.0)
    assert tight.loaded_idle_w == pytest.approx(110.0)


def test_building_twice_gives_the_same(tight):
    assert build(0.15, 0.03) == tight


@pytest.mark.parametrize(
    ("min_mhz", "step_mhz", "expected"),
    [
        (1500, 165, [1500, 1650, 1815, 1980]),
        (1485, 165, [1485, 1650, 1815, 1980]),
        (1493, 165, [1500, 1650, 1815, 1980]),
        (1950, 1, [1950, 1965, 1980]),
        (1980, 165, [1980]),
        (2500, 165, [1980]),
    ],
)
def test_clock_grid(min_mhz, step_mhz, expected):
    assert clock_grid(MODELS, min_mhz, step_mhz) == expected


def test_the_default_grid_spans_all_supported_clocks():
    grid = clock_grid(MODELS, 0)
    assert (grid[0], grid[-1]) == (345, 1980)
    assert set(grid) <= set(MODELS.gpu.supported_clocks_mhz)
