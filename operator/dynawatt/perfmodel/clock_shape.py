"""The clock axis of the power model against published clock sweeps of other cards.

No sweep of a datacentre GPU under LLM load is published as data. Sweeps of
workstation and consumer cards are, and they test the model's form: given each
card's own lowest and highest point, how far are the points between from what
the form says? The form is the profile's: power that no clock changes, plus
switching that falls with V^2, one part of it in step with the clock and one in
step with the work done; time per token is a part that no clock changes and one
in proportion to 1/clock, joined by a p-norm.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.clocked import Numbers
from dynawatt.perfmodel.gpus import H100_SXM, GpuSpec

_WORK_SHARE: Final = 0.67
"""Of the switching power at the highest clock, what follows the work done: so it is in decode on H100."""
_NORMS: Final = (1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True, slots=True, eq=False)
class ClockSweep:
    """One card under one load at several locked clocks; arrays of one length, ascending in the clock."""

    name: str
    clock_mhz: Numbers
    power_w: Numbers
    tokens_per_s: Numbers

    def __post_init__(self) -> None:
        """Check that there is something between the end points."""
        if len(self.clock_mhz) < 3 or np.any(np.diff(self.clock_mhz) <= 0):
            raise InvalidInputError(f"clock sweep {self.name}: needs three or more clocks, ascending")


def modelled_power_w(sweep: ClockSweep) -> Numbers:
    """Watts at each clock by the model's form through the sweep's first and last point."""
    gpu = _with_clock(H100_SXM, sweep.clock_mhz[-1])
    voltage_squared = np.array([gpu.relative_voltage(clock) ** 2 for clock in sweep.clock_mhz])
    in_step = (1 - _WORK_SHARE) * sweep.clock_mhz / sweep.clock_mhz[-1]
    switching = voltage_squared * (in_step + _WORK_SHARE * sweep.tokens_per_s / sweep.tokens_per_s[-1])
    slope_w = (sweep.power_w[-1] - sweep.power_w[0]) / (switching[-1] - switching[0])
    return np.asarray(sweep.power_w[0] + slope_w * (switching - switching[0]))


def modelled_tokens_per_s(sweep: ClockSweep) -> Numbers:
    """Tokens per second at each clock, likewise; the norm, which a profile derives per model, is the best of a few."""
    candidates = [_tokens_per_s(sweep, norm) for norm in _NORMS]
    return min(candidates, key=lambda modelled: float(np.abs(modelled / sweep.tokens_per_s - 1).mean()))


def saving_errors(sweep: ClockSweep) -> Numbers:
    """Relative error of what each clock between saves against the highest one; clocks that save under 5 % left out."""
    between = slice(1, -1)
    measured = 1 - sweep.power_w[between] / sweep.power_w[-1]
    modelled = 1 - modelled_power_w(sweep)[between] / sweep.power_w[-1]
    counted = measured > 0.05
    return np.asarray(np.abs(modelled[counted] / measured[counted] - 1))


def _with_clock(gpu: GpuSpec, default_clock_mhz: float) -> GpuSpec:
    """The same voltage curve over another range of clocks."""
    factor = default_clock_mhz / gpu.default_clock_mhz
    return replace(
        gpu, default_clock_mhz=round(default_clock_mhz), voltage_knee_mhz=round(gpu.voltage_knee_mhz * factor)
    )


def _tokens_per_s(sweep: ClockSweep, norm: float) -> Numbers:
    slowdown = (sweep.clock_mhz[-1] / sweep.clock_mhz) ** norm
    seconds = sweep.tokens_per_s**-norm
    compute = max(0.0, (seconds[0] - seconds[-1]) / (slowdown[0] - slowdown[-1]))
    memory = max(0.0, seconds[-1] - compute)
    return np.asarray((memory + compute * slowdown) ** (-1 / norm))
