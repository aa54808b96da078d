import itertools

import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.gpus import H100_SXM, gpu_by_name


@pytest.mark.parametrize("name", ["h100-sxm", "NVIDIA-H100-80GB-HBM3"])
def test_known_by_both_names(name):
    assert gpu_by_name(name) is H100_SXM


def test_unknown_gpu():
    with pytest.raises(InvalidInputError, match="GPU 'b200' is not known: must be one of h100-sxm"):
        gpu_by_name("b200")


def test_supported_clocks():
    clocks = H100_SXM.supported_clocks_mhz
    assert (clocks[0], clocks[-1], len(clocks)) == (345, 1980, 110)
    assert {after - before for before, after in itertools.pairwise(clocks)} == {15}


def test_voltage_is_flat_up_to_the_knee_and_then_rises_to_the_default():
    below = {H100_SXM.relative_voltage(clock) for clock in (345, 600, 800)}
    assert below == {0.667}
    above = [H100_SXM.relative_voltage(clock) for clock in range(800, 1981, 59)]
    assert above == sorted(set(above))
    assert H100_SXM.relative_voltage(1980) == 1
    assert H100_SXM.relative_voltage(2500) == 1


def test_switching_power_is_relative_to_the_default_clock():
    assert H100_SXM.relative_switching(1980) == 1
    assert H100_SXM.relative_switching(400) == pytest.approx(0.667**2 * 400 / 1980)
