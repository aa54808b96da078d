import itertools
from dataclasses import replace

import numpy as np
import pytest

from dynawatt.perfmodel.surface import ClassLatency, Surface, SurfacePoint
from dynawatt.simulation.operating_point import simulate_point
from dynawatt.simulation.slots.tables import SurfaceTable
from dynawatt.simulation.surfaces import build_surface


@pytest.fixture
def table(study, shape):
    return SurfaceTable(study.surface(shape), study.question(shape))


def test_it_says_what_the_surface_says(table):
    surface = table.surface
    for replicas in (1, 2, 3, 9):
        for clock_mhz in surface.clocks_mhz:
            last_rps = min(row[clock_mhz][-1].rate_rps for row in (surface.points, *surface.shared_points.values()))
            for rate_rps in np.linspace(0.2, 0.99, 5) * last_rps:
                found, wanted = table.at(clock_mhz, rate_rps, replicas), surface.at(clock_mhz, rate_rps, replicas)
                assert found.power_w == pytest.approx(wanted.power_w)
                assert found.ttft_mean_s == pytest.approx(wanted.ttft_mean_s)
                assert found.ttft_attainment @ shares(table) == pytest.approx(wanted.ttft_attainment, abs=2e-3)


def shares(table):
    return np.array([0.25, 0, 0, 0, 0.5, 0, 0, 0.25, 0])


def test_an_idle_replica_draws_loaded_idle_power(table):
    for clock_mhz in table.surface.clocks_mhz:
        assert table.at(clock_mhz, 0.0, 1).power_w == pytest.approx(table.idle_w(clock_mhz))


def test_between_clocks_watts_lie_between(table):
    low_mhz, high_mhz = table.surface.clocks_mhz[-2:]
    low, middle, high = (table.at(c, 2.0, 2).power_w for c in (low_mhz, (low_mhz + high_mhz) / 2, high_mhz))
    assert middle == pytest.approx((low + high) / 2)


def test_up_to_saturation_ever_fewer_first_tokens_are_in_time(table):
    clock_mhz = table.surface.clocks_mhz[-1]
    limit_rps = table.limit_rps(clock_mhz)
    loads = np.linspace(0.5, 1.0, 9) * limit_rps
    attained = [table.at(clock_mhz, load, 3).ttft_attainment @ shares(table) for load in loads]
    assert all(later <= earlier + 0.01 for earlier, later in itertools.pairwise(attained))
    assert attained[-1] < attained[0] - 0.05
    beyond, at_limit = table.at(clock_mhz, 2 * limit_rps, 3), table.at(clock_mhz, limit_rps, 3)
    # A surface may end a little beyond: it was built to a rougher estimate of saturation.
    assert beyond.power_w == pytest.approx(at_limit.power_w, rel=0.01)


def test_a_large_fleet_is_driven_beyond_its_surface_under_as_many_requests_each(study, shape):
    changes = {"clocks_mhz": (1980,), "fleet_sizes": (1, 16), "requests": 400, "attainments": (0.99,)}
    question = replace(study.question(shape), **changes)
    built = build_surface(question)
    ends_early = replace(built, shared_points={16: {1980: built.shared_points[16][1980][:4]}})
    table = SurfaceTable(ends_early, question)
    limit_rps = table.limit_rps(1980)
    found = table.at(1980, limit_rps, 16)
    wanted, short = (
        simulate_point(shape, question.objectives, load, limit_rps, replicas=16, clock_mhz=1980)
        for load in (question.load(16), question.load(8))
    )
    assert found.power_w == pytest.approx(wanted.power_w)
    assert found.ttft_mean_s == pytest.approx(wanted.ttft_mean_s)
    assert found.ttft_mean_s > 1.05 * short.ttft_mean_s  # the fleet has time to fill


def test_more_requests_are_outstanding_at_higher_loads(table):
    for clock_mhz in (*table.surface.clocks_mhz, 1500.0):
        rates, numbers = table.outstanding(clock_mhz, 2)
        assert (np.diff(rates) > 0).all()
        assert (np.diff(numbers) >= 0).all()
        assert rates[0] == numbers[0] == 0


def test_a_class_nobody_could_measure_does_as_others_with_its_input(study, shape):
    def latency(name, attainment):
        return ClassLatency(name, 1000, 1000, attainment, attainment, 0.1, 0.2, 0.01, 0.02)

    classes = (latency("SS", 0.5), latency("SM", 0.7), latency("LS", 0.9))
    points = [
        SurfacePoint(rate, 0.8, 0.8, 0.2, 0.02, 500.0, 0.1, 0.01, 10.0, classes=classes, tbt_mean_s=0.01)
        for rate in (0.0, 1.0)
    ]
    surface = Surface(1, 70.0, 100.0, {1980: points})
    attained = SurfaceTable(surface, study.question(shape)).at(1980.0, 0.5, 1).ttft_attainment
    assert attained == pytest.approx([0.5, 0.7, 0.6, 0.8, 0.8, 0.8, 0.9, 0.9, 0.9])
