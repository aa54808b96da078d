from dataclasses import replace

import numpy as np
import pytest

from dynawatt.simulation.advice.course import governed, scaled, untouched
from dynawatt.simulation.advice.saving import cost_of, saving_of

from .models import RELEASED_W, counts, fleet, load_of

MODEL = fleet()
BAND = MODEL.shape.replica.model.power.clock_band


def test_released_gpus_idle_or_are_off():
    load = load_of([10.0, 10.0])
    cost = cost_of(untouched(MODEL, load, counts(2, load)), load, inventory_gpus=5)
    assert cost.energy_off_j == pytest.approx(600 * 1000)
    assert cost.energy_j == pytest.approx(600 * (1000 + 3 * RELEASED_W))
    assert cost.most_gpus == 2


def test_attainment_is_that_of_requests_not_of_slots():
    load = load_of([30.0, 10.0])
    cost = cost_of(untouched(MODEL, load, counts(2, load)), load, inventory_gpus=2)
    assert cost.attainment == pytest.approx((30 * 0.5 + 10) / 40)
    assert cost.worst_attainment == pytest.approx(0.5)


def test_the_clock_band_is_of_what_the_clock_saves():
    load = load_of([10.0] * 6)
    baseline = untouched(MODEL, load, counts(2, load))
    saving = saving_of(governed(MODEL, load, counts(2, load)), baseline, load, 2)
    assert saving.share == pytest.approx(0.4)
    assert (saving.low, saving.high) == pytest.approx((0.4 * (1 - BAND), 0.4 * (1 + BAND)))


def test_fewer_replicas_at_the_default_clock_have_no_clock_band():
    load = load_of([8.0] * 6)
    baseline = untouched(MODEL, load, counts(4, load))
    saving = saving_of(untouched(MODEL, load, counts(1, load)), baseline, load, 4)
    assert saving.share == pytest.approx(1 - (560 + 3 * RELEASED_W) / 1760)
    assert (saving.low, saving.high) == pytest.approx((saving.share, saving.share))


def test_a_saving_that_varies_over_the_load_has_a_wider_band():
    steady, varying = load_of([10.0] * 48), load_of([2.0, 19.0] * 24)
    widths = []
    for load in (steady, varying):
        two = counts(2, load)
        saving = saving_of(governed(MODEL, load, two), untouched(MODEL, load, two), load, 2)
        assert saving.low < saving.share < saving.high
        widths.append((saving.high - saving.low) / saving.share)
    assert widths[1] > 1.1 * widths[0]


def test_the_band_holds_the_saving_of_other_days_of_the_same_load():
    rng = np.random.default_rng(3)
    day = np.clip(8 + 6 * np.sin(np.arange(288) / 46), 0.5, None)

    def saving(seed):
        load = load_of(rng.gamma(20, day / 20))
        three = counts(3, load)
        return saving_of(governed(MODEL, load, three), untouched(MODEL, load, three), load, 3)

    first = saving(0)
    assert all(first.low <= saving(seed).share <= first.high for seed in range(1, 20))


def test_gaps_change_no_saving():
    load, gappy = load_of([10.0] * 6), load_of([10.0, np.nan, np.nan, 10.0, 10.0, np.nan])
    shares = []
    for each in (load, gappy):
        two = counts(2, each)
        shares.append(saving_of(governed(MODEL, each, two), untouched(MODEL, each, two), each, 2).share)
    assert shares[0] == pytest.approx(shares[1])


def test_starts_cost_energy():
    load = load_of([1.0] * 40 + [35.0] * 40)
    course = scaled(MODEL, load, 1, 8)
    free = replace(course, power_w=governed(MODEL, load, course.replicas).power_w)
    assert cost_of(course, load, 8).energy_j > cost_of(free, load, 8).energy_j
