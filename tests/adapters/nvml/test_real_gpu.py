"""What a real driver tells, read-only: a process of its own looks, in which no function that changes a GPU works."""

import pytest

pytestmark = pytest.mark.gpu

LOOK = """
import time
import pynvml
from dynawatt.adapters.nvml.node import open_gpus
from dynawatt.errors import OperationError

def forbidden(*args):
    raise AssertionError("it must not change a real GPU")

for name in dir(pynvml):
    if name.startswith(("nvmlDeviceSet", "nvmlDeviceReset", "nvmlDeviceClear")):
        setattr(pynvml, name, forbidden)

def look(gpu):
    begin_s = time.monotonic()
    first = gpu.read()
    time.sleep(2)
    powers_w = [gpu.read().power_w for _ in range(5)]
    last, elapsed_s = gpu.read(), time.monotonic() - begin_s
    return {
        "uuid": gpu.uuid,
        "product": gpu.product,
        "clock_method": gpu.clock_method,
        "energy_source": gpu.energy_source,
        "clocks_mhz": gpu.supported_clocks_mhz(),
        "clock_mhz": last.clock_mhz,
        "temperature_c": last.temperature_c,
        "throttling": sorted(last.throttling or ()),
        "powers_w": [first.power_w, *powers_w],
        "energy_j": last.energy_j - first.energy_j,
        "elapsed_s": elapsed_s,
        "health": gpu.health()._asdict(),
    }

try:
    with open_gpus() as node:
        answer = [look(gpu) for gpu in node.gpus]
except OperationError as error:
    answer = str(error)
"""


@pytest.fixture(scope="module")
def gpus(in_fresh_process):
    found = in_fresh_process(LOOK, {})
    if isinstance(found, str):
        pytest.skip(found)
    for gpu in found:
        print(gpu)  # -rP shows what was seen
    return found


def test_the_inventory_names_every_gpu(gpus):
    assert all(gpu["uuid"].startswith("GPU-") and gpu["product"] for gpu in gpus)
    assert len({gpu["uuid"] for gpu in gpus}) == len(gpus)


def test_supported_clocks_ascend_and_the_clock_is_among_those_possible(gpus):
    for gpu in gpus:
        clocks_mhz = gpu["clocks_mhz"]
        assert clocks_mhz == sorted(set(clocks_mhz))
        assert (clocks_mhz == []) == (gpu["clock_method"] == "None" or gpu["health"]["mig"])
        assert 0 < gpu["clock_mhz"] <= max(clocks_mhz, default=10_000)


def test_energy_is_power_times_time(gpus):
    for gpu in gpus:
        powers_w = gpu["powers_w"]
        # The load is whatever it is, so power may swing between readings; a wrong unit would be far off.
        assert min(powers_w) / 3 < gpu["energy_j"] / gpu["elapsed_s"] < max(powers_w) * 3


def test_temperature_and_modes_are_plausible(gpus):
    for gpu in gpus:
        assert 0 < gpu["temperature_c"] < 120
        assert gpu["health"]["compute_mode"] in {"Default", "ExclusiveProcess", "Prohibited"}
