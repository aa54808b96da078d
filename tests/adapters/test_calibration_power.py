"""The shipped power coefficients and their errors against the measurements they come from, where these are at hand."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from dynawatt.adapters.calibration.clock_sweeps import read_clock_sweeps
from dynawatt.adapters.calibration.ml_energy import read_ml_energy
from dynawatt.adapters.calibration.splitwise_power import read_splitwise_power
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.clock_shape import saving_errors
from dynawatt.perfmodel.power import POWER
from dynawatt.perfmodel.power_refit import refit
from dynawatt.perfmodel.power_rows import closed_loop_power, two_phase_power

DATA = Path(__file__).parents[2].parent / "shared" / "data"
HEADER = (
    "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,prompt_time,token_time,e2e_time,"
    "tensor_parallel\n"
)
ROW = "llama2-70b,a100-80gb,512,1,128,1.0,0.736,196.25,54.88,7169.0,2\n"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the measurements are not beside the repository")


@pytest.fixture(scope="module")
def sets():
    dense = closed_loop_power(read_ml_energy(DATA / "ml-energy" / "ml_energy_flat.csv"))
    return dense + two_phase_power(read_splitwise_power(DATA / "splitwise-sim" / "perf_model.csv"))


def test_measured_rows_only(tmp_path):
    path = tmp_path / "perf_model.csv"
    path.write_text(HEADER + ROW + ROW.replace("a100", "h100") + ROW.replace("1.0,0.736", "0.0,0.0"))
    [row] = read_splitwise_power(path)
    assert (row.model, row.gpu, row.tensor_parallel, row.requests, row.prompt_tokens) == (
        "llama2-70b", "a100-sxm", 2, 1, 512,
    )  # fmt: skip
    assert (row.prompt_s, row.token_s) == pytest.approx((0.19625, 0.05488))
    assert (row.prompt_power_w, row.token_power_w) == pytest.approx((400, 294.4))


@pytest.mark.parametrize("bad", ["nan", "x", "-1", ""])
def test_a_row_that_is_none(tmp_path, bad):
    path = tmp_path / "perf_model.csv"
    path.write_text(HEADER + ROW + ROW.replace("54.88", bad))
    with pytest.raises(InvalidInputError, match=rf"perf_model.csv:3: token_time '{bad}': must be a number, 0 or more"):
        read_splitwise_power(path)


@needs_data
def test_shipped_coefficients_are_those_of_the_fit(sets):
    fitted = refit(sets)
    assert len(fitted) == 7
    for key, coefficients in fitted.items():
        assert astuple(coefficients) == pytest.approx(astuple(POWER[key].coefficients), rel=0.01), key


@needs_data
@pytest.mark.parametrize("gpu", ["a100-sxm", "h100-sxm", "b200-sxm"])
def test_held_out_power_is_within_a_tenth(gpu):
    [held_out] = [
        each
        for each in POWER[gpu, "bf16"].residuals
        if each.quantity == "power" and each.held_out and "experts" not in each.dataset
    ]
    assert held_out.points >= 40
    assert held_out.median_abs_error < 0.10


@needs_data
def test_the_clock_band_covers_the_sweeps_and_the_known_end_point():
    errors = [saving_errors(sweep) for sweep in read_clock_sweeps(DATA)]
    shape = float(np.mean([np.median(each) for each in errors]))
    assert shape == pytest.approx(0.16, abs=0.01)  # as the account in perfmodel/power.py says
    assert np.quantile(np.concatenate(errors), 0.9) == pytest.approx(0.41, abs=0.01)
    end_point = (90 - 47) / (90 + 47)
    hopper = POWER["h100-sxm", "bf16"].coefficients.clock_band
    assert hopper == pytest.approx(np.hypot(shape, end_point), abs=0.01)
    assert POWER["a100-sxm", "bf16"].coefficients.clock_band > np.quantile(np.concatenate(errors), 0.9)
