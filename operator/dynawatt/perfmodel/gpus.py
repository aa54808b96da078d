"""GPU models as physics needs them: peak rates, power limits, clocks.

Peak rates, memory bandwidth, links and TDP are NVIDIA's data sheets (dense
rates, without sparsity). Memory is what the driver reports, which is less than
the sum of the chips on some products. Clocks are what ``nvidia-smi -q -d
SUPPORTED_CLOCKS`` lists; Blackwell's lists alternate steps of 7 and 8 MHz, here
every second one. Drivers snap a request to the next clock they support.

Idle power: a CUDA context lifts a GPU out of its deepest idle state, by 26 to
50 W on A100 and H100 and by 66 W on L40S, whatever it holds in memory (arXiv
2605.23918: 110 W on H100). A lower clock takes part of that back: 78 W on H100
at 800 MHz (the design's independent model; -22 % in arXiv 2604.04745). Where
nothing is published the comment at the figure says how it was set.

Voltage: NVIDIA publishes no curve of these products. All have the same form,
flat up to 80 % of the default clock at 78 % of its voltage, then linear. Of a
grid of such pairs it is among those that meet published clock sweeps of other
cards best (perfmodel/clock_shape.py), and with it Hopper saves what was measured
(perfmodel/power.py).
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dynawatt.errors import InvalidInputError

_MIB: Final = 2.0**20


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU product."""

    name: str
    """Short name, as options take it."""
    product: str
    """Name as the node label ``nvidia.com/gpu.product`` gives it: the driver's, with dashes for spaces."""
    peak_flops: float
    """Dense bf16 FLOP/s at the default clock."""
    memory_bytes: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    """Bytes per second in one direction to the other GPUs of a replica: NVLink, or PCIe where there is none."""
    tdp_w: float
    released_w: float
    """Power of a GPU that no pod requested."""
    idle_static_w: float
    idle_clocked_w: float
    """Loaded idle is idle_static_w + idle_clocked_w * (V^2 f relative to the default clock)."""
    default_clock_mhz: int
    min_clock_mhz: int
    clock_step_mhz: int
    voltage_knee_mhz: int
    """Below this clock the voltage no longer falls."""
    voltage_floor: float
    """Voltage at and below the knee relative to the default clock's."""

    @property
    def supported_clocks_mhz(self) -> tuple[int, ...]:
        """SM clocks the driver accepts, ascending."""
        return tuple(range(self.min_clock_mhz, self.default_clock_mhz + 1, self.clock_step_mhz))

    def relative_voltage(self, clock_mhz: float) -> float:
        """Core voltage relative to the default clock's: flat up to the knee, then linear in the clock."""
        above_knee = max(0.0, clock_mhz - self.voltage_knee_mhz) / (self.default_clock_mhz - self.voltage_knee_mhz)
        return self.voltage_floor + (1.0 - self.voltage_floor) * min(1.0, above_knee)

    def relative_switching(self, clock_mhz: float) -> float:
        """V^2 f relative to the default clock: what CMOS switching power scales with."""
        return self.relative_voltage(clock_mhz) ** 2 * clock_mhz / self.default_clock_mhz

    def loaded_idle_w(self, clock_mhz: float) -> float:
        """Watts with a model loaded and nothing to do."""
        return self.idle_static_w + self.idle_clocked_w * self.relative_switching(clock_mhz)


H100_SXM: Final = GpuSpec(
    name="h100-sxm",
    product="NVIDIA-H100-80GB-HBM3",
    peak_flops=989.4e12,
    memory_bytes=81559 * _MIB,
    memory_bytes_per_s=3.35e12,
    link_bytes_per_s=450e9,
    tdp_w=700.0,
    released_w=70.0,
    idle_static_w=67.6,  # with the next: 110 W at the default clock, 78 W at 800 MHz
    idle_clocked_w=42.4,
    default_clock_mhz=1980,
    min_clock_mhz=345,
    clock_step_mhz=15,
    voltage_knee_mhz=1590,
    voltage_floor=0.78,
)
H200_SXM: Final = GpuSpec(
    name="h200-sxm",
    product="NVIDIA-H200",
    peak_flops=989.4e12,
    memory_bytes=143771 * _MIB,
    memory_bytes_per_s=4.8e12,
    link_bytes_per_s=450e9,
    tdp_w=700.0,
    released_w=80.0,  # one published reading without load, 80.3 W: an H100 plus the larger HBM3e
    idle_static_w=77.6,  # H100's and the 10 W more that it draws released
    idle_clocked_w=42.4,
    default_clock_mhz=1980,
    min_clock_mhz=345,
    clock_step_mhz=15,
    voltage_knee_mhz=1590,  # the same silicon as H100
    voltage_floor=0.78,
)
A100_SXM: Final = GpuSpec(
    name="a100-sxm",
    product="NVIDIA-A100-SXM4-80GB",
    peak_flops=312e12,
    memory_bytes=81920 * _MIB,
    memory_bytes_per_s=2.039e12,
    link_bytes_per_s=300e9,
    tdp_w=400.0,
    released_w=55.0,  # 50 to 60 W
    idle_static_w=60.0,  # with the next: 26 W above released
    idle_clocked_w=21.0,
    default_clock_mhz=1410,
    min_clock_mhz=210,
    clock_step_mhz=15,
    voltage_knee_mhz=1125,
    voltage_floor=0.78,
)
L40S: Final = GpuSpec(
    name="l40s",
    product="NVIDIA-L40S",
    peak_flops=362.05e12,
    memory_bytes=46068 * _MIB,
    memory_bytes_per_s=864e9,
    link_bytes_per_s=32e9,  # PCIe 4.0 x16
    tdp_w=350.0,
    released_w=35.0,
    idle_static_w=55.0,  # with the next: 66 W above released
    idle_clocked_w=46.0,
    default_clock_mhz=2520,
    min_clock_mhz=210,
    clock_step_mhz=15,
    voltage_knee_mhz=2010,
    voltage_floor=0.78,
)
B200_SXM: Final = GpuSpec(
    name="b200-sxm",
    product="NVIDIA-B200",
    peak_flops=2250e12,
    memory_bytes=183359 * _MIB,
    memory_bytes_per_s=7.7e12,
    link_bytes_per_s=900e9,
    tdp_w=1000.0,
    released_w=140.0,  # about 140 W (PowerWeave, ISCA 2026)
    idle_static_w=140.0,
    idle_clocked_w=50.0,  # not published: the largest rise seen on an HBM product
    default_clock_mhz=1965,
    min_clock_mhz=120,
    clock_step_mhz=15,
    voltage_knee_mhz=1575,
    voltage_floor=0.78,
)

GPUS: Final[Mapping[str, GpuSpec]] = {spec.name: spec for spec in (A100_SXM, B200_SXM, H100_SXM, H200_SXM, L40S)}


def gpu_by_name(name: str) -> GpuSpec:
    """The GPU of a short name or a driver's product name, in any case. Raises InvalidInputError naming the nearest."""
    known = {alias.lower(): spec for spec in GPUS.values() for alias in (spec.name, spec.product)}
    wanted = name.strip().lower().replace(" ", "-")
    if wanted in known:
        return known[wanted]
    near = [known[alias].name for alias in difflib.get_close_matches(wanted, known, n=4, cutoff=0.4)]
    choices = f"nearest {', '.join(dict.fromkeys(near))}; " if near else ""
    raise InvalidInputError(f"GPU {name!r} is not known: {choices}must be one of {', '.join(sorted(GPUS))}")
