import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.forecast.conformal import TAIL, Bands
from dynawatt.forecast.slots import HORIZON_SLOTS

LEADS = np.arange(HORIZON_SLOTS)
ENDS = np.array([TAIL, 1 - TAIL])
MEAN = np.full(HORIZON_SLOTS, 1000.0)


def run(bands, requests):
    """Whether each count lay in the band, at the first lead; every lead is told the same."""
    inside = []
    for count in requests:
        scale = bands.scale(MEAN, LEADS)
        lower, upper = bands.quantiles(MEAN, scale, ENDS, LEADS)
        inside.append(lower[0] <= count <= upper[0])
        bands.learn(count, MEAN, scale, lower, upper)
    return np.array(inside)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.gamma(1000 / 50, 50, 3000),
        lambda rng: rng.gamma(1000 / 1000, 1000, 3000),
        lambda rng: 1000 * np.exp(0.3 * rng.standard_t(3, 3000)),
        lambda rng: 1300 + 50 * rng.standard_normal(3000),
    ],
    ids=["bursty", "very bursty", "heavy tails", "biased"],
)
def test_coverage_whatever_the_distribution(draw):
    inside = run(Bands(), draw(np.random.default_rng(0)))
    assert 0.93 < inside[300:].mean() < 0.99


def test_coverage_after_the_noise_has_grown():
    rng = np.random.default_rng(1)
    bands = Bands()
    run(bands, 1000 + 20 * rng.standard_normal(1000))
    inside = run(bands, 1000 + 80 * rng.standard_normal(400))
    assert inside[:10].mean() < 0.8  # four times as wide at once
    assert inside[24:].mean() > 0.9


def test_misses_widen_their_side_and_it_wears_off():
    bands = Bands()
    run(bands, np.random.default_rng(0).gamma(1000 / 50, 50, 500))
    bands.tilt[:] = 0
    scale = bands.scale(MEAN, LEADS)
    lower, upper = bands.quantiles(MEAN, scale, ENDS, LEADS)
    for _ in range(5):
        bands.learn(float(upper[0] + 1), MEAN, scale, lower, upper)
    assert (bands.tilt[1] > 0.4).all()
    assert (bands.tilt[0] < 0).all()
    bands.scores[:] = np.nan
    straight = Bands().quantiles(MEAN, scale, ENDS, LEADS)
    tilted = bands.quantiles(MEAN, scale, ENDS, LEADS)
    assert (tilted[1] > straight[1]).all()
    for _ in range(500):
        bands.learn(1000.0, MEAN, scale, lower, upper)
    assert (bands.tilt[1] < 0).all()


def test_noise_is_what_neither_level_nor_slope_explains():
    rng = np.random.default_rng(0)
    ramp = np.linspace(5000, 50000, 500)
    for dispersion in (1.0, 100.0):
        bands = Bands()
        bands.learn_noise(rng.gamma(ramp / dispersion, dispersion))
        assert bands.dispersion[0] == pytest.approx(dispersion, rel=0.25)
    bands.learn_noise(np.full(500, np.nan))
    assert bands.dispersion[0] == 1


def test_nothing_is_learnt_from_what_was_not_forecast():
    bands, none = Bands(), np.full(HORIZON_SLOTS, np.nan)
    before = {name: getattr(bands, name).copy() for name in ("scores", "scored", "tilt", "relative_variance")}
    bands.learn(5.0, none, none, none, none)
    for name, array in before.items():
        assert np.array_equal(getattr(bands, name), array, equal_nan=True)


@settings(max_examples=30, deadline=None)
@given(
    requests=st.lists(st.floats(0, 1e7), max_size=40),
    tilts=st.tuples(st.floats(-1, 3), st.floats(-1, 3)),
    q=st.lists(st.floats(1e-4, 1 - 1e-4), min_size=2, max_size=9),
)
def test_quantiles_are_monotone_at_any_tilt(requests, tilts, q):
    bands = Bands()
    run(bands, requests)
    bands.tilt[:] = np.array(tilts)[:, None]
    found = bands.quantiles(MEAN, bands.scale(MEAN, LEADS), np.sort(q), LEADS)
    assert np.isfinite(found).all()
    assert (np.diff(found, axis=0) >= 0).all()
