"""What one GPU does now: clock, power, energy, temperature and what holds its clock down. For one thread."""

import time
from collections.abc import Callable
from typing import Final

from dynawatt.adapters.nvml.handle import Handle
from dynawatt.ports import EnergySource, GpuError, GpuLostError, GpuNotSupportedError, GpuReading, GpuTimeoutError

_MAX_GAP_S: Final = 5.0
"""Power further apart than this is not joined by a line: no energy is better than an invented one."""

_SM_CLOCK: Final = 1
_GPU_SENSOR: Final = 0

# Older drivers have only the second names, which NVIDIA will remove with CUDA 14.
_THROTTLING: Final = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
_TEMPERATURE: Final = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")

_HOLDS_NOTHING_DOWN: Final = 0x1 | 0x2
"""An idle GPU, and the clock that was asked for."""
_REASONS: Final = {
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
_OTHER: Final = "other"


class IntegratedEnergy:
    """Power times time, by the trapezoid rule."""

    def __init__(self) -> None:
        self._energy_j = 0.0
        self._last: tuple[float, float] | None = None

    def add(self, now_s: float, power_w: float) -> float:
        """Energy in J up to now, since the first call. ``now_s`` is monotonic."""
        if self._last is not None:
            last_s, last_w = self._last
            if now_s - last_s <= _MAX_GAP_S:
                self._energy_j += (power_w + last_w) / 2 * (now_s - last_s)
        self._last = now_s, power_w
        return self._energy_j


class Readings:
    """Reads one GPU. ``clock_s`` is monotonic time in seconds."""

    def __init__(self, handle: Handle, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.energy_source = EnergySource.COUNTER
        """May be looked at by other threads."""
        self._handle = handle
        self._clock_s = clock_s
        self._counted = False
        self._integrated = IntegratedEnergy()

    def read(self) -> GpuReading:
        """All at once. Raises GpuError when the GPU, or all of its values, cannot be read."""
        self._handle.refused = None
        ask = self._handle.ask
        clock_mhz = ask("nvmlDeviceGetClockInfo", _SM_CLOCK)
        power_mw = ask("nvmlDeviceGetPowerUsage")
        power_w = None if power_mw is None else power_mw / 1000
        energy_j = self._energy_j(power_w)
        temperature_c = self._handle.ask_any(_TEMPERATURE, _GPU_SENSOR)
        reasons = self._handle.ask_any(_THROTTLING)
        if clock_mhz is power_mw is energy_j is temperature_c is reasons is None:
            raise self._handle.refused or GpuError(f"{self._handle.uuid}: it gives no value at all")
        return GpuReading(clock_mhz, power_w, energy_j, temperature_c, None if reasons is None else throttling(reasons))

    def _energy_j(self, power_w: float | None) -> float | None:
        if self.energy_source is EnergySource.COUNTER:
            try:
                energy_j = float(self._handle.call("nvmlDeviceGetTotalEnergyConsumption") / 1000)
            except (GpuLostError, GpuTimeoutError):
                raise
            except GpuNotSupportedError:
                if self._counted:  # what once counted has only failed, and another source would begin at another zero
                    return None
                self.energy_source = EnergySource.INTEGRATED
            except GpuError:
                return None
            else:
                self._counted = True
                return energy_j
        return None if power_w is None else self._integrated.add(self._clock_s(), power_w)


def throttling(reasons: int) -> frozenset[str]:
    """Names of the bits of NVML's clocks event reasons that keep a clock below what was asked for."""
    names = {name for bit, name in _REASONS.items() if reasons & bit}
    if reasons & ~(_HOLDS_NOTHING_DOWN | sum(_REASONS)):
        names.add(_OTHER)
    return frozenset(names)
