import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.accounting.saving import Saving, measured_saving, modelled_saving, total
from dynawatt.errors import InvalidInputError

ENERGY_J = st.floats(0.0, 1e12)
BAND = st.floats(0.0, 2.0)
SAVINGS = st.lists(st.builds(modelled_saving, ENERGY_J, ENERGY_J, BAND))


def test_a_saving_is_a_part_of_the_counterfactual():
    saving = modelled_saving(60.0, 100.0, clock_band=0.25)
    assert (saving.saved_j, saving.fraction) == (40.0, 0.4)
    assert saving.interval_j == (30.0, 50.0)
    assert saving.interval_fraction == (0.3, 0.5)
    assert saving.is_certain


def test_spending_more_shows_as_a_saving_below_zero():
    saving = modelled_saving(120.0, 100.0, clock_band=0.5)
    assert (saving.saved_j, saving.fraction) == (-20.0, -0.2)
    assert saving.interval_j == (-30.0, -10.0)
    assert not saving.is_certain


def test_against_a_measurement_the_level_of_the_model_matters():
    saving = measured_saving(80.0, 100.0, level_band=0.3)
    assert saving.interval_j == (-10.0, 50.0)
    assert not saving.is_certain


def test_nothing_to_save_from_is_no_fraction():
    saving = modelled_saving(5.0, 0.0, clock_band=0.1)
    assert saving.saved_j == -5.0
    assert saving.fraction is None
    assert saving.interval_fraction is None


def test_losses_count_against_savings():
    both = total([modelled_saving(60.0, 100.0, 0.25), modelled_saving(150.0, 100.0, 0.25)])
    assert both == Saving(210.0, 200.0, 22.5)
    assert both.saved_j == -10.0


@given(ENERGY_J, ENERGY_J, BAND)
def test_the_band_holds_the_saving(energy_j, counterfactual_j, band):
    for saving in (
        modelled_saving(energy_j, counterfactual_j, band),
        measured_saving(energy_j, counterfactual_j, band),
    ):
        low_j, high_j = saving.interval_j
        assert low_j <= saving.saved_j <= high_j
        assert (saving.saved_j < 0) == (energy_j > counterfactual_j)


@given(SAVINGS)
def test_sums_hide_nothing(savings):
    whole = total(savings)
    assert whole.saved_j == pytest.approx(sum(part.saved_j for part in savings), abs=1.0)
    # Errors in the same direction: a sum is as uncertain as its parts together.
    assert whole.interval_j[0] == pytest.approx(sum(part.interval_j[0] for part in savings), abs=1.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: modelled_saving(-1.0, 1.0, 0.1), "energy of a saving, -1.0 J"),
        (lambda: modelled_saving(1.0, math.nan, 0.1), "counterfactual of a saving, nan J"),
        (lambda: modelled_saving(1.0, 1.0, -0.1), "uncertainty -0.1"),
        (lambda: measured_saving(1.0, 1.0, math.inf), "uncertainty inf"),
        (lambda: Saving(1.0, 1.0, math.nan), "band of a saving, nan J"),
    ],
)
def test_what_is_no_energy_is_refused(make, said):
    with pytest.raises(InvalidInputError, match=said):
        make()
