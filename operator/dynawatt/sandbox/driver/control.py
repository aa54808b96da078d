"""The other end of the simulated driver: what a test or the sandbox does to its GPUs, and sees of them."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from dynawatt.sandbox.driver.layout import EVERY_CALL, FUNCTIONS, MAX_XIDS, STATE_VARIABLE, Gpu, Motion, Slot
from dynawatt.sandbox.driver.models import GpuModel
from dynawatt.sandbox.driver.statefile import StateFile, create, locked_range_mhz, put_motion

_NODE_FUNCTIONS: Final = frozenset(
    {
        *("nvmlInit", "nvmlShutdown", "nvmlSystemGetDriverVersion", "nvmlSystemGetNVMLVersion", "nvmlDeviceGetCount"),
        *("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByUUID"),
        *("nvmlEventSetCreate", "nvmlEventSetFree", "nvmlEventSetWait"),
    }
)
"""Those that concern no single GPU; the two that look one up concern both."""


class Result(IntEnum):
    """What NVML calls return, as far as tests let them fail."""

    SUCCESS = 0
    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    IN_USE = 19
    UNKNOWN = 999


class MotionReading(NamedTuple):
    """What the GPU does now."""

    clock_mhz: int
    power_w: float
    energy_j: float


class SimulatedDriver:
    """Inspects and changes the GPUs of one state file while other processes use them through the library.

    GPUs are named by UUID. Methods may be called from any thread.
    """

    def __init__(self, path: Path) -> None:
        """Open an existing file. Raises OSError and InvalidInputError."""
        self._file: Final = StateFile(path)
        self._gpus: Final = {gpu.uuid.decode(): gpu for gpu in self._file.gpus}

    @classmethod
    def create(cls, path: Path, gpus: Sequence[GpuModel]) -> "SimulatedDriver":
        """A new node, whose energy follows from clock and load. Raises OSError and InvalidInputError."""
        create(path, gpus)
        return cls(path)

    def close(self) -> None:
        """Let go of the file, which stays."""
        self._file.close()

    def environment(self, library: Path) -> Mapping[str, str]:
        """Variables with which a process finds this driver; ``library`` is what ``ensure_driver`` returned."""
        others = os.environ.get("LD_LIBRARY_PATH")
        return {
            "LD_LIBRARY_PATH": f"{library}{os.pathsep}{others}" if others else str(library),
            STATE_VARIABLE: str(self._file.path),
        }

    # --- what clients did ---

    @property
    def uuids(self) -> Sequence[str]:
        """All GPUs in the order of their index."""
        return list(self._gpus)

    def locked_mhz(self, uuid: str) -> tuple[int, int] | None:
        """The range that clocks are locked to."""
        return locked_range_mhz(self._gpus[uuid])

    def application_mhz(self, uuid: str) -> int | None:
        """The application clock, unless it is the default."""
        return self._gpus[uuid].application_mhz or None

    def commands(self, uuid: str) -> int:
        """How many times clocks were set or reset with success."""
        return int(self._gpus[uuid].commands)

    def calls(self, function: str, uuid: str | None = None) -> int:
        """How many calls of a function have begun: on one GPU, or altogether."""
        return sum(slot.calls for slot in self._slots(function, uuid))

    def read(self, uuid: str) -> MotionReading:
        """Clock, power and energy now."""
        with self._file.locked():
            motion = self._motion_now(self._gpus[uuid])
        return MotionReading(motion.clock_mhz, motion.power_w, motion.energy_j)

    # --- what the hardware does ---

    def set_load(self, uuid: str, load: float) -> None:
        """Busy from 0 (idle) to 1 (full load of the power model) from now on."""
        gpu = self._gpus[uuid]
        with self._file.locked():
            motion = self._motion_now(gpu)
            put_motion(gpu, motion)
            gpu.load = load

    def set_energy(self, uuid: str, energy_j: float) -> None:
        """Set the counter, also to less than it was."""
        gpu = self._gpus[uuid]
        with self._file.locked():
            motion = self._motion_now(gpu)
            motion.energy_j = energy_j
            put_motion(gpu, motion)

    def reload(self) -> None:
        """Reload the driver, as a reboot does: no clock stays set, counters start at 0."""
        with self._file.locked():
            for gpu in self._gpus.values():
                gpu.locked = gpu.application_mhz = gpu.lost = 0
                at_ns = time.monotonic_ns()
                put_motion(gpu, Motion(at_ns=at_ns, clock_mhz=gpu.default_clock_mhz))

    def set_loaded(self, is_loaded: bool) -> None:
        """Whether the driver is there for clients that initialize."""
        self._file.state.driver_loaded = is_loaded

    def set_lost(self, uuid: str, is_lost: bool = True) -> None:
        """Let the GPU fall off the bus: no call on it works any more. Its lock stays."""
        self._gpus[uuid].lost = is_lost

    def set_temperature(self, uuid: str, temperature_c: int) -> None:
        """Of the GPU's own sensor."""
        self._gpus[uuid].temperature_c = temperature_c

    def set_throttle_reasons(self, uuid: str, reasons: int) -> None:
        """Bits of nvmlClocksEventReasons; being idle and application clocks are added by the driver."""
        self._gpus[uuid].reasons = reasons

    def set_ecc_errors(self, uuid: str, *, corrected: int = 0, uncorrected: int = 0) -> None:
        """Since the driver was loaded; those of the board's whole life are 100 more."""
        gpu = self._gpus[uuid]
        for by_counter, count in zip(gpu.ecc_errors, (corrected, uncorrected), strict=True):
            by_counter[:] = count, count + 100

    def set_remapped_rows(
        self, uuid: str, *, corrected: int = 0, uncorrected: int = 0, pending: bool = False, failed: bool = False
    ) -> None:
        """Rows of memory that were replaced, by the kind of error that led to it."""
        gpu = self._gpus[uuid]
        gpu.remapped_rows[:] = corrected, uncorrected
        gpu.remap_pending, gpu.remap_failed = pending, failed

    def set_mig(self, uuid: str, current: bool, *, pending: bool | None = None) -> None:
        """Partition the GPU now, and after the next reset."""
        gpu = self._gpus[uuid]
        gpu.mig_mode, gpu.mig_pending = current, current if pending is None else pending

    def set_persistence(self, uuid: str, is_on: bool) -> None:
        """Persistence mode."""
        self._gpus[uuid].persistence = is_on

    def set_compute_mode(self, uuid: str, mode: int) -> None:
        """NVML_COMPUTEMODE_*: 0 is default, 2 prohibited, 3 exclusive to one process."""
        self._gpus[uuid].compute_mode = mode

    def raise_xid(self, uuid: str, xid: int) -> None:
        """Report an error to all clients that registered for it."""
        gpu = self._gpus[uuid]
        with self._file.locked():
            gpu.xids[gpu.xids_raised % MAX_XIDS] = xid
            gpu.xids_raised += 1

    # --- what goes wrong ---

    def fail(
        self,
        function: str,
        result: Result = Result.SUCCESS,
        *,
        uuid: str | None = None,
        delay_s: float = 0.0,
        hang: bool = False,
        calls: int | None = None,
    ) -> None:
        """Let calls of a function go wrong until ``restore``.

        Args:
            function: As pynvml names it, without ``_v2``.
            result: Returned instead of doing it; SUCCESS does it, after the delay.
            uuid: On this GPU only.
            delay_s: Sleep first; whole milliseconds.
            hang: Then wait until ``restore``.
            calls: Only the next so many.
        """
        left = EVERY_CALL if calls is None else calls
        with self._file.locked():
            for slot in self._slots(function, uuid):
                _replace_fault(slot, result=result, delay_ms=round(delay_s * 1e3), hangs=hang, calls_left=left)

    def restore(self, function: str | None = None, *, uuid: str | None = None) -> None:
        """End the faults of one function or of all, on one GPU or altogether; calls that hang go on."""
        tables = [gpu.functions for gpu in self._gpus.values()] if uuid is None else [self._gpus[uuid].functions]
        if uuid is None:
            tables.append(self._file.state.functions)
        with self._file.locked():
            for index in range(len(FUNCTIONS)) if function is None else (FUNCTIONS.index(function),):
                for slots in tables:
                    _replace_fault(slots[index], result=0, delay_ms=0, hangs=False, calls_left=0)

    def _slots(self, function: str, uuid: str | None) -> Iterator[Slot]:
        """Where a function's calls are counted; of those that look up a GPU by index or UUID, the call itself."""
        index = FUNCTIONS.index(function)
        if uuid is not None:
            yield self._gpus[uuid].functions[index]
        elif function in _NODE_FUNCTIONS:
            yield self._file.state.functions[index]
        else:
            yield from (gpu.functions[index] for gpu in self._gpus.values())

    def _motion_now(self, gpu: Gpu) -> Motion:
        """A copy, brought up to now; the same as motion_now() in library/clocks.c."""
        motion = Motion.from_buffer_copy(gpu.motions[gpu.motion])
        if self._file.state.driven:
            return motion
        now_ns = time.monotonic_ns()
        if motion.next_clock_mhz and motion.next_at_ns <= now_ns:
            _integrate(gpu, motion, motion.next_at_ns)
            motion.clock_mhz, motion.next_clock_mhz = motion.next_clock_mhz, 0
        _integrate(gpu, motion, now_ns)
        return motion


def _integrate(gpu: Gpu, motion: Motion, until_ns: int) -> None:
    full_w = gpu.idle_w
    for index in range(gpu.clock_count):
        if gpu.clocks_mhz[index] <= motion.clock_mhz:
            full_w = gpu.full_load_w[index]
    motion.power_w = gpu.idle_w + gpu.load * (full_w - gpu.idle_w)
    if until_ns > motion.at_ns:
        motion.energy_j += motion.power_w * (until_ns - motion.at_ns) * 1e-9
        motion.at_ns = until_ns


def _replace_fault(slot: Slot, *, result: int, delay_ms: int, hangs: bool, calls_left: int) -> None:
    fault = slot.fault
    fault.result, fault.delay_ms, fault.hangs, fault.calls_left = result, delay_ms, hangs, calls_left
    fault.generation += 1
