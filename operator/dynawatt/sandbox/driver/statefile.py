"""The file that holds a node's simulated GPUs: made, mapped and locked from Python."""

import ctypes
import fcntl
import mmap
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.sandbox.driver.layout import (
    MAGIC,
    MAX_CLOCKS,
    MAX_GPUS,
    MAX_MEMORY_CLOCKS,
    TEXT_SIZE,
    VERSION,
    Gpu,
    Motion,
    State,
)
from dynawatt.sandbox.driver.models import GpuModel

_DRIVER_VERSION: Final = b"580.95.05"
_NVML_VERSION: Final = b"13.580.95.05"
_START_TEMPERATURE_C: Final = 32


def create(path: Path, gpus: Sequence[GpuModel], *, driven: bool = False) -> None:
    """Write the file of a node whose GPUs are idle, unlocked and at their default clock; it appears complete.

    Args:
        path: Replaced when it exists. Processes that have mapped the old file keep seeing that one.
        gpus: At most 16. Raises InvalidInputError when they do not fit.
        driven: Somebody else writes clock, power and energy; else they follow from the clocks and the load.
    """
    if len(gpus) > MAX_GPUS:
        raise InvalidInputError(f"{len(gpus)} GPUs on one node: at most {MAX_GPUS} can be simulated")
    state = State(
        magic=MAGIC,
        version=VERSION,
        size=ctypes.sizeof(State),
        gpu_count=len(gpus),
        driver_loaded=1,
        driven=driven,
        driver_version=_DRIVER_VERSION,
        nvml_version=_NVML_VERSION,
    )
    for gpu, model in zip(state.gpus, gpus, strict=False):
        _describe(gpu, model)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(bytes(state))
    os.replace(partial, path)


def _describe(gpu: Gpu, model: GpuModel) -> None:
    texts = {"uuid": model.uuid.encode(), "product": model.product.encode()}
    for name, text in texts.items():
        if not 0 < len(text) < TEXT_SIZE:
            raise InvalidInputError(
                f"{name} {text.decode()!r} of a simulated GPU: must have 1 to {TEXT_SIZE - 1} bytes"
            )
        setattr(gpu, name, text)
    clocks, memory_clocks = len(model.clocks_mhz), len(model.memory_clocks_mhz)
    if not 0 < clocks <= MAX_CLOCKS or not 0 < memory_clocks <= MAX_MEMORY_CLOCKS:
        raise InvalidInputError(
            f"simulated GPU {model.uuid} has {clocks} clocks and {memory_clocks} memory clocks: "
            f"must be 1 to {MAX_CLOCKS} and 1 to {MAX_MEMORY_CLOCKS}"
        )
    if len(model.full_load_w) != clocks:
        raise InvalidInputError(
            f"simulated GPU {model.uuid} has {len(model.full_load_w)} powers for {clocks} clocks: must be as many"
        )
    gpu.architecture = model.architecture
    gpu.default_clock_mhz = model.default_clock_mhz
    gpu.clock_count = clocks
    gpu.clocks_mhz[:clocks] = model.clocks_mhz
    gpu.full_load_w[:clocks] = model.full_load_w
    gpu.idle_w = model.idle_w
    gpu.memory_clock_count = memory_clocks
    gpu.memory_clocks_mhz[:memory_clocks] = model.memory_clocks_mhz
    gpu.temperature_c = _START_TEMPERATURE_C
    gpu.persistence = 1
    put_motion(gpu, Motion(at_ns=time.monotonic_ns(), clock_mhz=model.default_clock_mhz, power_w=model.idle_w))


def put_motion(gpu: Gpu, motion: Motion) -> None:
    """Replace clock, power and energy as one: readers, and a kill at any moment, see the old or the new ones."""
    other = ~gpu.motion & 1
    gpu.motions[other] = motion
    gpu.motion = other


def locked_range_mhz(gpu: Gpu) -> tuple[int, int] | None:
    """Lowest and highest locked clock."""
    locked: int = gpu.locked
    return divmod(locked, 2**32) if locked else None


def set_range_mhz(gpu: Gpu) -> tuple[int, int] | None:
    """What clients have set: locked clocks go before an application clock, which allows all below it."""
    if (locked := locked_range_mhz(gpu)) is not None:
        return locked
    return (gpu.clocks_mhz[0], gpu.application_mhz) if gpu.application_mhz else None


class StateFile:
    """A mapped file. Hold ``locked()`` around anything that is more than one word."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, or InvalidInputError when the file is of another version."""
        self.path: Final = path
        self._turn = threading.Lock()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(self._descriptor).st_size != ctypes.sizeof(State):
                raise InvalidInputError(
                    f"{path} is not a state file of this version of the simulated driver: remove it"
                )
            self.state: Final = State.from_buffer(mmap.mmap(self._descriptor, ctypes.sizeof(State)))
            if (self.state.magic, self.state.version) != (MAGIC, VERSION):
                raise InvalidInputError(
                    f"{path} is not a state file of this version of the simulated driver: remove it"
                )
        except BaseException:
            os.close(self._descriptor)
            raise
        self.gpus: Final[list[Gpu]] = list(self.state.gpus[: self.state.gpu_count])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the library and other processes out; see library/state.h."""
        with self._turn:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @contextmanager
    def try_locked(self) -> Iterator[bool]:
        """As ``locked()``, but gives False instead of waiting: for callers that must not stop with another process."""
        with self._turn:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; the mapping ends with the last reference to this object."""
        os.close(self._descriptor)
