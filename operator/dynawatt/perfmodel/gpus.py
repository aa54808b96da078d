"""GPU models as physics needs them: peak rates, power limits, clocks.

Sources: NVIDIA's H100 SXM5 data sheet (FLOP/s, HBM, NVLink, TDP). Idle watts:
70 W released and 78 W with a model loaded at 800 MHz (design, independent
model), about 110 W with a model loaded at the default clock (arXiv 2605.23918).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dynawatt.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU product."""

    name: str
    """Short name, as options take it."""
    product: str
    """Name as the driver and the node label ``nvidia.com/gpu.product`` give it."""
    peak_flops: float
    """Dense bf16 FLOP/s at the default clock."""
    memory_bytes: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    """NVLink bytes per second in one direction."""
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


H100_SXM: Final = GpuSpec(
    name="h100-sxm",
    product="NVIDIA-H100-80GB-HBM3",
    peak_flops=989.4e12,
    memory_bytes=80e9,
    memory_bytes_per_s=3.35e12,
    link_bytes_per_s=450e9,
    tdp_w=700.0,
    released_w=70.0,
    idle_static_w=71.0,
    idle_clocked_w=39.0,
    default_clock_mhz=1980,
    min_clock_mhz=345,
    clock_step_mhz=15,
    voltage_knee_mhz=800,
    voltage_floor=0.667,
)

GPUS: Final[Mapping[str, GpuSpec]] = {H100_SXM.name: H100_SXM}


def gpu_by_name(name: str) -> GpuSpec:
    """The GPU of a short name or a driver's product name. Raises InvalidInputError."""
    for spec in GPUS.values():
        if name in (spec.name, spec.product):
            return spec
    raise InvalidInputError(f"GPU {name!r} is not known: must be one of {', '.join(sorted(GPUS))}")
