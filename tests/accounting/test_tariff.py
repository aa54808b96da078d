import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.accounting.tariff import Tariff
from dynawatt.errors import InvalidInputError


def test_a_kilowatt_hour_costs_its_price_and_its_carbon():
    tariff = Tariff(price_per_kwh=0.25, carbon_g_per_kwh=400.0)
    assert tariff.energy_kwh(3.6e6) == 1.0
    assert tariff.cost(3.6e6) == 0.25
    assert tariff.carbon_g(1.8e6) == 200.0


def test_the_site_adds_to_what_its_gpus_use():
    tariff = Tariff(price_per_kwh=0.25, carbon_g_per_kwh=400.0, overhead=1.5)
    assert (tariff.energy_kwh(3.6e6), tariff.cost(3.6e6), tariff.carbon_g(3.6e6)) == (1.5, 0.375, 600.0)


@given(st.floats(-1e12, 1e12), st.floats(-1.0, 2.0), st.floats(0.0, 1500.0))
def test_spending_more_costs_what_saving_as_much_earns(energy_j, price, carbon):
    tariff = Tariff(price, carbon)
    assert tariff.cost(-energy_j) == -tariff.cost(energy_j)
    assert tariff.carbon_g(-energy_j) == -tariff.carbon_g(energy_j)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"price_per_kwh": math.nan}, "price nan EUR/kWh"),
        ({"price_per_kwh": math.inf}, "price inf EUR/kWh"),
        ({"carbon_g_per_kwh": -1.0}, "carbon intensity -1.0"),
        ({"carbon_g_per_kwh": math.nan}, "carbon intensity nan"),
        ({"overhead": 0.9}, "site overhead 0.9"),
    ],
)
def test_factors_that_are_none_are_refused(changes, said):
    with pytest.raises(InvalidInputError, match=said):
        Tariff(**{"price_per_kwh": 0.1, "carbon_g_per_kwh": 300.0, "currency": "EUR", **changes})
