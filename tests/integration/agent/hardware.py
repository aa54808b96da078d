"""The GPUs of the node under test, seen without the agent."""

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dynawatt.sandbox.driver.control import SimulatedDriver
from dynawatt.sandbox.driver.statefile import StateFile
from dynawatt.sandbox.nodesim.driver_bridge import driver_state_path
from dynawatt.sandbox.processes import send

from .cluster import NODE, eventually

DEFAULT_MHZ = 1980.0
MIN_MHZ = 345


class Hardware:
    """What the node's GPUs really do, from the files of their driver and from the simulator."""

    def __init__(self, sandbox: Any) -> None:
        path = driver_state_path(sandbox.nodesim_directory, NODE)
        eventually(path.exists)
        self.driver = SimulatedDriver(path)
        self._file = StateFile(path)
        self._url = f"{sandbox.nodesim_url}/nodes/{NODE}/gpus"
        self._simulator = sandbox.process("nodesim").identity

    def close(self) -> None:
        self.driver.close()
        self._file.close()

    def gpus(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(self._url, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["gpus"]
            return found

    def held(self) -> set[str]:
        return {gpu["uuid"] for gpu in self.gpus() if gpu["pod"] is not None}

    def clocks_mhz(self, *, held: bool) -> set[float]:
        return {gpu["smClockMhz"] for gpu in self.gpus() if (gpu["pod"] is not None) == held}

    def locked_mhz(self) -> dict[str, tuple[int, int]]:
        """Of the GPUs that are locked."""
        ranges = {uuid: self.driver.locked_mhz(uuid) for uuid in self.driver.uuids}
        return {uuid: locked for uuid, locked in ranges.items() if locked is not None}

    def all_default(self) -> bool:
        return not self.locked_mhz() and {gpu["smClockMhz"] for gpu in self.gpus()} == {DEFAULT_MHZ}

    def energy_j(self) -> dict[str, float]:
        return {uuid: self.driver.read(uuid).energy_j for uuid in self.driver.uuids}

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the simulator between two of its writes, so that no counter moves."""
        for _ in range(20):
            send(self._simulator, signal.SIGSTOP)
            time.sleep(0.02)
            with self._file.try_locked() as is_between:
                if is_between:
                    break
            send(self._simulator, signal.SIGCONT)
        try:
            assert is_between
            yield
        finally:
            send(self._simulator, signal.SIGCONT)
