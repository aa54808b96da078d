"""One NVIDIA GPU as the ports want it, every call within its bound whatever the driver does."""

import contextlib
from collections.abc import Sequence
from typing import Final

from dynawatt.adapters.nvml.bounding import BoundedThread
from dynawatt.adapters.nvml.clocks import Clocks
from dynawatt.adapters.nvml.handle import Handle
from dynawatt.adapters.nvml.health import Health
from dynawatt.adapters.nvml.readings import Readings
from dynawatt.ports import ClockMethod, EnergySource, GpuError, GpuHealth, GpuReading

READ_WITHIN_S: Final = 0.5
"""For a reading, its health, or its supported clocks: each takes a healthy driver a millisecond or so."""
SET_WITHIN_S: Final = 2.0
"""For setting or resetting clocks, which a healthy driver does in some ten milliseconds."""


class NvmlGpu:
    """A GPU; implements GpuDevice. Several threads may use it; their calls are made one after the other.

    Args:
        thread: Makes all calls of the GPU, and of no other.
        handle: The GPU, identified.
        product: Its marketing name.
        clock_method: The only method to use; None to use the first that works.
    """

    def __init__(
        self, thread: BoundedThread, handle: Handle, *, product: str, clock_method: ClockMethod | None
    ) -> None:
        self.uuid: Final = handle.uuid
        self.product: Final = product
        self._thread = thread
        self._clocks = Clocks(handle, clock_method)
        self._readings = Readings(handle)
        self._health = Health(handle)

    @property
    def clock_method(self) -> ClockMethod:
        """How its clock is set, as far as is known: a refusal may change it."""
        return self._clocks.method

    @property
    def energy_source(self) -> EnergySource:
        """Where its joules come from."""
        return self._readings.energy_source

    def supported_clocks_mhz(self) -> Sequence[int]:
        """SM clocks it can be set to, ascending, in MHz; empty when they cannot be set. Raises GpuError."""
        return self._thread.run(self._clocks.supported_mhz, within_s=READ_WITHIN_S)

    def lock_clocks(self, min_mhz: int, max_mhz: int) -> None:
        """Keep the SM clock within a range of supported clocks until reset. Raises GpuError.

        The method of applications clocks knows only the upper end.
        """
        self._thread.run(lambda: self._clocks.lock(min_mhz, max_mhz), within_s=SET_WITHIN_S)

    def reset_clocks(self) -> None:
        """Return to the default clock, also from what an earlier process may have set. Raises GpuError."""
        self._thread.run(self._clocks.reset, within_s=SET_WITHIN_S)

    def read(self) -> GpuReading:
        """Clock, power and energy now. Raises GpuError when the GPU as a whole does not answer."""
        return self._thread.run(self._readings.read, within_s=READ_WITHIN_S)

    def health(self) -> GpuHealth:
        """Modes and error counts now. Raises GpuError when the GPU as a whole does not answer."""
        return self._thread.run(self._health.read, within_s=READ_WITHIN_S)

    def probe(self, *, within_s: float) -> None:
        """Find out what it can do, without changing anything, and begin to count XIDs. Raises GpuError."""
        self._thread.run(self._probe, within_s=within_s)

    def close(self) -> None:
        """End its thread, which may hang; its clocks stay as they are. Raises nothing."""
        with contextlib.suppress(GpuError):
            self._thread.run(self._health.end, within_s=READ_WITHIN_S)
        self._thread.close()

    def _probe(self) -> None:
        self._health.begin()
        self._clocks.probe()
        self._readings.read()
