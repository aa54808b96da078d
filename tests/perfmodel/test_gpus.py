import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.gpus import A100_SXM, B200_SXM, GPUS, H100_SXM, H200_SXM, L40S, gpu_by_name

EACH = pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("h100-sxm", H100_SXM),
        ("NVIDIA-H100-80GB-HBM3", H100_SXM),
        ("NVIDIA H100 80GB HBM3", H100_SXM),
        ("NVIDIA-H200", H200_SXM),
        ("NVIDIA-A100-SXM4-80GB", A100_SXM),
        ("NVIDIA-L40S", L40S),
        ("NVIDIA-B200", B200_SXM),
        ("B200-SXM", B200_SXM),
    ],
)
def test_known_by_both_names(name, gpu):
    assert gpu_by_name(name) is gpu


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("b200", "nearest b200-sxm"), ("h100", "nearest h100-sxm"), ("NVIDIA-A100-SXM4-40GB", "nearest a100-sxm")],
)
def test_unknown_gpu_names_the_nearest_and_all(name, nearest):
    with pytest.raises(InvalidInputError) as raised:
        gpu_by_name(name)
    assert str(raised.value).startswith(f"GPU {name!r} is not known: {nearest}")
    assert str(raised.value).endswith("must be one of a100-sxm, b200-sxm, h100-sxm, h200-sxm, l40s")


def test_a_name_like_no_gpu_lists_all():
    with pytest.raises(InvalidInputError, match=r"^GPU 'xyz' is not known: must be one of a100-sxm, "):
        gpu_by_name("xyz")


def test_supported_clocks():
    clocks = H100_SXM.supported_clocks_mhz
    assert (clocks[0], clocks[-1], len(clocks)) == (345, 1980, 110)
    assert {after - before for before, after in itertools.pairwise(clocks)} == {15}


@EACH
def test_the_default_clock_is_a_supported_one(gpu):
    assert gpu.supported_clocks_mhz[-1] == gpu.default_clock_mhz
    assert gpu.voltage_knee_mhz in gpu.supported_clocks_mhz


@EACH
def test_voltage_is_flat_up_to_the_knee_and_then_rises_to_the_default(gpu):
    assert gpu.relative_voltage(gpu.min_clock_mhz) == gpu.relative_voltage(gpu.voltage_knee_mhz) == gpu.voltage_floor
    above = [gpu.relative_voltage(clock) for clock in gpu.supported_clocks_mhz if clock >= gpu.voltage_knee_mhz]
    assert above == sorted(set(above))
    assert above[-1] == 1
    assert gpu.relative_voltage(2 * gpu.default_clock_mhz) == 1


@given(st.sampled_from([*GPUS.values()]), st.floats(0, 1), st.floats(0, 1))
def test_switching_power_rises_with_the_clock(gpu, one, other):
    low, high = (gpu.default_clock_mhz * share for share in sorted((one, other)))
    assert 0 <= gpu.relative_switching(low) <= gpu.relative_switching(high) <= 1


@EACH
def test_idle_lies_between_released_and_a_third_of_tdp(gpu):
    lowest, default = gpu.loaded_idle_w(gpu.min_clock_mhz), gpu.loaded_idle_w(gpu.default_clock_mhz)
    assert gpu.released_w * 0.96 < lowest < default < gpu.tdp_w / 3


@pytest.mark.parametrize(
    ("gpu", "context_w"), [(H100_SXM, (26, 50)), (A100_SXM, (26, 50)), (L40S, (66, 66))], ids=["h100", "a100", "l40s"]
)
def test_a_loaded_model_costs_what_was_measured(gpu, context_w):
    least, most = context_w  # arXiv 2605.23918: +26 to 50 W on HBM products, +66 W on GDDR6
    assert least <= round(gpu.loaded_idle_w(gpu.default_clock_mhz) - gpu.released_w, 6) <= most


def test_idle_of_h100_at_the_lowest_clock_of_the_governor():
    assert H100_SXM.loaded_idle_w(800) == pytest.approx(78, abs=0.5)
    assert H100_SXM.loaded_idle_w(1980) == pytest.approx(110)
