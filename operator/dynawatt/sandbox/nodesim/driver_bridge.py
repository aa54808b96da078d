"""Shows the simulated GPUs to the driver (sandbox/driver), and does what was asked of it: clocks are set there only.

Each node has a state file, in which agents find its GPUs through NVML. The file
is the hardware's memory too: it keeps locks and energy counters while this
process is replaced, and goes when its node goes.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.sandbox.driver.layout import Gpu, Motion
from dynawatt.sandbox.driver.models import GpuModel
from dynawatt.sandbox.driver.statefile import StateFile, create, put_motion, set_range_mhz
from dynawatt.sandbox.nodesim.gpus import SimulatedGpu
from dynawatt.sandbox.nodesim.nodes import SimulatedNode

POLL_PERIOD_S: Final = 0.015
"""How often the files are asked for new commands."""
PUBLISH_PERIOD_S: Final = 0.045
"""How often clock, power and energy are written: 22 times a second."""
_COOL_C: Final = 30.0
_FULL_POWER_RISE_C: Final = 40.0
"""What a GPU at its TDP is warmer; made up, as only its plausibility counts."""

_log = logging.getLogger(__name__)


def driver_state_path(state_dir: Path, node: str) -> Path:
    """The file that a node's agent names to the library."""
    return state_dir / "nvml" / f"{node}.gpus"


class DriverBridge:
    """The drivers of all simulated nodes; ``now_s`` is the event loop's clock. All calls belong on its thread."""

    def __init__(self, state_dir: Path, *, now_s: Callable[[], float]) -> None:
        self._state_dir: Final = state_dir
        self._now_s = now_s
        self._drivers: dict[str, _NodeDriver] = {}

    def follow(self, nodes: Mapping[str, SimulatedNode]) -> None:
        """Have a driver for exactly these nodes; GPUs get the locks and energy that their file has. Raises OSError."""
        for name in self._drivers.keys() - nodes.keys():
            self._drivers.pop(name).remove()
        for name in nodes.keys() - self._drivers.keys():
            self._drivers[name] = _NodeDriver(
                driver_state_path(self._state_dir, name), nodes[name].gpus, now_s=self._now_s()
            )

    async def run(self) -> None:
        """Apply and publish until cancelled."""
        publish_s = self._now_s()
        while True:
            now_s = self._now_s()
            self.apply(now_s)
            if now_s >= publish_s:
                self.publish(now_s)
                publish_s = now_s + PUBLISH_PERIOD_S
            await asyncio.sleep(POLL_PERIOD_S)

    def apply(self, now_s: float) -> None:
        """Set the clocks that were asked for since the last time."""
        for driver in self._drivers.values():
            driver.apply(now_s)

    def publish(self, now_s: float) -> None:
        """Write what all GPUs do now."""
        for driver in self._drivers.values():
            driver.publish(now_s)

    def close(self) -> None:
        """Write a last time, and leave the files to the next process."""
        self.publish(self._now_s())
        for driver in self._drivers.values():
            driver.close()
        self._drivers.clear()


class _NodeDriver:
    """One node's GPUs and their file."""

    def __init__(self, path: Path, gpus: list[SimulatedGpu], *, now_s: float) -> None:
        self._path = path
        self._file = _open(path, [GpuModel.of(gpu.spec, gpu.uuid) for gpu in gpus])
        self._gpus = list(zip(gpus, self._file.gpus, strict=True))
        self._applied_commands = -1  # what stands in the file is applied at once
        for gpu, shown in self._gpus:
            gpu.add_energy(shown.motions[shown.motion].energy_j)
        self.apply(now_s)
        self.publish(now_s)

    def apply(self, now_s: float) -> None:
        # No lock: each range is one word, and a command that comes meanwhile changes the count again.
        commands = self._file.state.commands
        if commands == self._applied_commands:
            return
        self._applied_commands = commands
        for gpu, shown in self._gpus:
            wanted = set_range_mhz(shown)
            if wanted == gpu.locked_mhz:
                continue
            if wanted is None:
                gpu.reset(now_s)
            else:
                gpu.lock(now_s, *wanted)

    def publish(self, now_s: float) -> None:
        with self._file.try_locked() as is_locked:
            if is_locked:
                for gpu, shown in self._gpus:
                    _show(gpu, shown, now_s)

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        self.close()
        with suppress(FileNotFoundError):
            self._path.unlink()


def _open(path: Path, models: list[GpuModel]) -> StateFile:
    """The file that a process before this one left, if it is of the same GPUs; else a new one."""
    with suppress(FileNotFoundError):
        try:
            found = StateFile(path)
        except InvalidInputError as error:
            _log.warning("all GPUs start anew: %s", error)
        else:
            if found.state.driven and [gpu.uuid.decode() for gpu in found.gpus] == [model.uuid for model in models]:
                return found
            found.close()
            _log.warning("%s is of other GPUs, all start anew", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    create(path, models, driven=True)
    return StateFile(path)


def _show(gpu: SimulatedGpu, shown: Gpu, now_s: float) -> None:
    reading = gpu.read(now_s)
    motion = Motion(
        energy_j=reading.energy_j, at_ns=int(now_s * 1e9), clock_mhz=reading.clock_mhz, power_w=reading.power_w
    )
    put_motion(shown, motion)
    shown.load = float(gpu.is_running)
    shown.temperature_c = round(_COOL_C + _FULL_POWER_RISE_C * reading.power_w / gpu.spec.tdp_w)
