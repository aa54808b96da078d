from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.perfmodel.power import POWER
from dynawatt.perfmodel.power_fit import PowerPoints, fit_power, predicted_w, residual

H100 = POWER["h100-sxm", "bf16"].coefficients
UNKNOWN = ("j_per_byte", "j_per_context_byte", "j_per_flop", "j_per_logit")
energies = st.floats(20e-12, 100e-12)


def points(count=40, power_w=None):
    random = np.random.default_rng(1)
    return PowerPoints(
        power_w=np.zeros(count) if power_w is None else power_w,
        bytes_per_s=random.uniform(0.2e12, 2.4e12, count),
        context_bytes_per_s=random.uniform(0, 1e12, count),
        flops_per_s=random.uniform(10e12, 200e12, count),
        link_bytes_per_s=random.uniform(0, 40e9, count),
        logits_per_s=random.uniform(0, 1e9, count),
    )


def measured(truth):
    return points(power_w=predicted_w(points(), truth, H100_SXM))


@settings(max_examples=20, deadline=None)
@given(st.tuples(energies, energies, st.floats(0.1e-12, 0.5e-12), st.floats(10e-9, 80e-9)))
def test_the_coefficients_that_made_the_power_are_found(truths):
    truth = replace(H100, **dict(zip(UNKNOWN, truths, strict=True)))
    found = fit_power(measured(truth), H100_SXM, H100, *UNKNOWN)
    for name in UNKNOWN:
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=1e-6)


def test_what_is_not_unknown_stays():
    truth = replace(H100, j_per_flop=0.3e-12)
    found = fit_power(measured(truth), H100_SXM, H100, "j_per_flop")
    assert found == replace(H100, j_per_flop=pytest.approx(0.3e-12))


def test_no_energy_is_negative():
    low = points(power_w=np.full(40, 100.0))  # less than idle
    found = fit_power(low, H100_SXM, H100, *UNKNOWN)
    assert [getattr(found, name) for name in UNKNOWN] == [0, 0, 0, 0]


def test_points_at_the_power_limit_do_not_count():
    truth = replace(H100, j_per_byte=60e-12, j_per_context_byte=60e-12, j_per_flop=0.4e-12)
    good = measured(truth)
    throttled = good.power_w.copy()
    throttled[:5] = 0.99 * H100_SXM.tdp_w
    found = fit_power(points(power_w=throttled), H100_SXM, H100, *UNKNOWN)
    assert found.j_per_flop == pytest.approx(truth.j_per_flop, rel=1e-6)
    with pytest.raises(InvalidInputError, match="power of h100-sxm: 0 points below the power limit: 4 unknowns"):
        fit_power(points(power_w=np.full(40, 690.0)), H100_SXM, H100, *UNKNOWN)


def test_power_is_idle_and_work_and_at_most_tdp():
    one = PowerPoints(*(np.array([each]) for each in (0.0, 1e12, 0.5e12, 100e12, 10e9, 1e8)))
    work_w = 1e12 * H100.j_per_byte + 0.5e12 * H100.j_per_context_byte + 100e12 * H100.j_per_flop
    work_w += 10e9 * H100.j_per_link_byte + 1e8 * H100.j_per_logit
    expected = 110 + H100.active_static_w + H100.active_clocked_w + work_w
    assert predicted_w(one, H100, H100_SXM) == pytest.approx([expected])
    assert expected < H100_SXM.tdp_w
    heavy = replace(one, flops_per_s=np.array([2e15]))
    assert predicted_w(heavy, H100, H100_SXM) == pytest.approx([H100_SXM.tdp_w])


def test_residual_sums_up_relative_errors():
    found = residual("set", "power", np.array([110.0, 80.0, 100.0]), np.full(3, 100.0), held_out=True)
    assert (found.dataset, found.quantity, found.points, found.held_out) == ("set", "power", 3, True)
    assert found.median_abs_error == pytest.approx(0.1)
    assert found.mean_abs_error == pytest.approx(0.1)
    assert found.p90_abs_error == pytest.approx(0.18)
    with pytest.raises(InvalidInputError, match="set: no points of power"):
        residual("set", "power", np.array([]), np.array([]), held_out=True)
