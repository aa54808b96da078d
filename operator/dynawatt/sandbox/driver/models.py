"""GPU products as a driver describes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dynawatt.perfmodel.gpus import GpuSpec


class _Silicon(NamedTuple):
    architecture: int
    """NVML_DEVICE_ARCH_*."""
    memory_clock_mhz: int
    """The highest."""


_SILICON: Final = {
    "a100-sxm": _Silicon(7, 1593),
    "b200-sxm": _Silicon(10, 3996),
    "h100-sxm": _Silicon(9, 2619),
    "h200-sxm": _Silicon(9, 3201),
    "l40s": _Silicon(8, 9001),
}
_LOW_MEMORY_CLOCK_MHZ: Final = 405
"""A second memory clock, which goes with the lowest SM clock only: clients must choose the right one."""


@dataclass(frozen=True, slots=True)
class GpuModel:
    """One GPU to simulate."""

    uuid: str
    product: str
    architecture: int
    clocks_mhz: Sequence[int]
    """Supported SM clocks, ascending."""
    default_clock_mhz: int
    memory_clocks_mhz: Sequence[int]
    """Descending."""
    idle_w: float
    full_load_w: Sequence[float]
    """By clock."""

    @classmethod
    def of(cls, spec: GpuSpec, uuid: str) -> "GpuModel":
        """A GPU of a known product, with a context loaded: full load draws its TDP at the default clock."""
        silicon = _SILICON[spec.name]
        clocks_mhz = spec.supported_clocks_mhz
        idle_w = spec.idle_static_w
        return cls(
            uuid=uuid,
            product=spec.product.replace("-", " "),  # the dashes are the node label's
            architecture=silicon.architecture,
            clocks_mhz=clocks_mhz,
            default_clock_mhz=spec.default_clock_mhz,
            memory_clocks_mhz=(silicon.memory_clock_mhz, _LOW_MEMORY_CLOCK_MHZ),
            idle_w=idle_w,
            full_load_w=[idle_w + (spec.tdp_w - idle_w) * spec.relative_switching(clock) for clock in clocks_mhz],
        )
