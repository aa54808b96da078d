"""A simulated GPU: a clock that can be locked, and an energy counter that integrates its power exactly.

Power is constant between events (an iteration starts or ends, the clock changes,
a pod comes or goes), so the counter is advanced only then or when it is read.
Times are seconds of one monotonic clock, passed in; those before the last one
seen count as the last one.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from dynawatt.perfmodel.gpus import GpuSpec

CLOCK_CHANGE_DELAY_S: Final = 0.05  # DynamoLLM (HPCA 2025) measures 50 to 80 ms per change

IdlePower: TypeAlias = Callable[[float], float]
"""Watts of a loaded GPU without work, from its clock in MHz."""


class UnsupportedClockError(ValueError):
    """The GPU refuses the clock range; the message says what it accepts."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the driver would report now."""

    clock_mhz: int
    power_w: float
    energy_j: float


def loaded_idle(spec: GpuSpec) -> IdlePower:
    """Idle power of a GPU whose model has no profile of its own."""
    return lambda clock_mhz: spec.idle_static_w + spec.idle_clocked_w * spec.relative_switching(clock_mhz)


class SimulatedGpu:
    """One GPU. It is released (no pod), or held and idle, or held and running an iteration."""

    def __init__(self, *, uuid: str, spec: GpuSpec, now_s: float) -> None:
        self.uuid: Final = uuid
        self.spec: Final = spec
        self.locked_mhz: tuple[int, int] | None = None
        self._clock_mhz = spec.default_clock_mhz
        self._coming_clocks: deque[tuple[float, int]] = deque()
        self._idle_power: IdlePower | None = None
        self._running_w: float | None = None
        self._energy_j = 0.0
        self._since_s = now_s

    @property
    def is_running(self) -> bool:
        """Whether an iteration runs."""
        return self._running_w is not None

    def add_energy(self, energy_j: float) -> None:
        """Go on counting from an earlier value."""
        self._energy_j += energy_j

    def read(self, now_s: float) -> Reading:
        """Clock, power and energy at ``now_s``."""
        self._advance(now_s)
        return Reading(self._clock_mhz, self._power_w(), self._energy_j)

    def clock_mhz(self, now_s: float) -> int:
        """The SM clock at ``now_s``: the top of the locked range once a lock has taken effect."""
        self._advance(now_s)
        return self._clock_mhz

    def lock(self, now_s: float, min_mhz: int, max_mhz: int) -> None:
        """Keep the clock within a range from 50 ms later on. Raises UnsupportedClockError."""
        clocks = self.spec.supported_clocks_mhz
        if not clocks[0] <= min_mhz <= max_mhz <= clocks[-1]:
            raise UnsupportedClockError(
                f"clock range {min_mhz}..{max_mhz} MHz is not supported: "
                f"must be ascending and within {clocks[0]}..{clocks[-1]} MHz"
            )
        self.locked_mhz = (min_mhz, max_mhz)
        self._change_clock(now_s, max(clock for clock in clocks if clock <= max_mhz))

    def reset(self, now_s: float) -> None:
        """Return to the default clock 50 ms later."""
        self.locked_mhz = None
        self._change_clock(now_s, self.spec.default_clock_mhz)

    def hold(self, now_s: float, idle_power: IdlePower) -> None:
        """A pod holds the GPU from now on and leaves it idle."""
        self._advance(now_s)
        self._idle_power = idle_power
        self._running_w = None

    def release(self, now_s: float) -> None:
        """No pod holds the GPU from now on; a lock stays, as it does on real GPUs."""
        self._advance(now_s)
        self._idle_power = self._running_w = None

    def run(self, now_s: float, power_w: float | None) -> None:
        """Run an iteration at ``power_w`` from now on, or rest when None."""
        self._advance(now_s)
        self._running_w = power_w

    def _power_w(self) -> float:
        if self._idle_power is None:
            return self.spec.released_w
        return self._idle_power(self._clock_mhz) if self._running_w is None else self._running_w

    def _change_clock(self, now_s: float, clock_mhz: int) -> None:
        self._advance(now_s)
        self._coming_clocks.append((self._since_s + CLOCK_CHANGE_DELAY_S, clock_mhz))

    def _advance(self, now_s: float) -> None:
        while self._coming_clocks and self._coming_clocks[0][0] <= now_s:
            at_s, clock_mhz = self._coming_clocks.popleft()
            self._integrate(at_s)
            self._clock_mhz = clock_mhz
        self._integrate(now_s)

    def _integrate(self, until_s: float) -> None:
        if until_s > self._since_s:
            self._energy_j += self._power_w() * (until_s - self._since_s)
            self._since_s = until_s
