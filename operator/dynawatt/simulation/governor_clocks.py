"""Clocks at which a governor's table has a row."""

from collections.abc import Sequence
from typing import Final

from dynawatt.perfmodel.gpus import GpuSpec

FLOOR_MHZ: Final = 800
"""The lowest clock that an LLMService allows by default."""
_FINE_MHZ: Final = 45
"""Between clocks of a table above the voltage's knee, where a few MHz save watts."""
_COARSE_MHZ: Final = 195


def governor_clocks(gpu: GpuSpec) -> tuple[int, ...]:
    """Clocks for a table, from the lowest allowed to the default: few below the voltage's knee, many above it."""
    allowed = [clock for clock in gpu.supported_clocks_mhz if clock >= FLOOR_MHZ] or [gpu.default_clock_mhz]
    low = [clock for clock in allowed if clock <= gpu.voltage_knee_mhz]
    high = [clock for clock in allowed if clock > gpu.voltage_knee_mhz]
    chosen = (
        set(low[:1]) | _every(low, _COARSE_MHZ // gpu.clock_step_mhz) | _every(high, _FINE_MHZ // gpu.clock_step_mhz)
    )
    return tuple(sorted(chosen))


def _every(clocks_mhz: Sequence[int], stride: int) -> set[int]:
    """One in ``stride``, the last among them."""
    return set(clocks_mhz[::-1][:: max(1, stride)])
