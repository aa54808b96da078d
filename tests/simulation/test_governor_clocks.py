from dataclasses import replace

import numpy as np
import pytest

from dynawatt.perfmodel.gpus import GPUS
from dynawatt.simulation.governor_clocks import FLOOR_MHZ, governor_clocks


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_clocks_lie_close_above_the_knee_and_apart_below(gpu):
    clocks_mhz = np.array(governor_clocks(gpu))
    supported = set(gpu.supported_clocks_mhz)
    assert set(clocks_mhz.tolist()) <= supported
    assert (np.diff(clocks_mhz) > 0).all()
    assert clocks_mhz[-1] == gpu.default_clock_mhz
    assert clocks_mhz[0] == min(clock for clock in supported if clock >= FLOOR_MHZ)
    # The highest clock at the lowest voltage is the one that most replicas run at.
    assert max(clock for clock in supported if clock <= gpu.voltage_knee_mhz) in clocks_mhz
    above, below = (
        np.diff(clocks_mhz[side]) for side in (clocks_mhz >= gpu.voltage_knee_mhz, clocks_mhz <= gpu.voltage_knee_mhz)
    )
    assert above.max() <= 45
    assert below.max() <= 195
    assert len(clocks_mhz) < len([clock for clock in supported if clock >= FLOOR_MHZ]) / 2


def test_a_gpu_that_is_slower_than_the_floor_keeps_its_default_clock():
    slow = replace(next(iter(GPUS.values())), default_clock_mhz=705, min_clock_mhz=300, voltage_knee_mhz=600)
    assert governor_clocks(slow) == (705,)
