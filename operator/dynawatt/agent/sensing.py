"""Reads the GPUs once a cycle, and charges their joules to who held them."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dynawatt.agent.metering import NOBODY, EnergyKey, EnergyMeter
from dynawatt.agent.view import HEALTH_PERIOD_S
from dynawatt.ports import GpuDevice, GpuError, GpuHealth, GpuReading, PodKey

_READING_BUDGET_S: Final = 2.0
"""A driver that does not answer may cost a few timeouts, not one per GPU; who is left out comes first next time."""

_log = logging.getLogger(__name__)


class Sensors:
    """What this node's GPUs tell. ``clock_s`` is monotonic time in seconds."""

    def __init__(self, devices: Mapping[str, GpuDevice], *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._devices = devices
        self._clock_s = clock_s
        self._meter = EnergyMeter()
        self._health: dict[str, GpuHealth] = {}
        self._health_due_s = dict.fromkeys(devices, float("-inf"))
        self._silent: dict[str, str] = {}
        self._first = 0

    def mig(self) -> dict[str, bool]:
        """Whether each GPU is partitioned, as last read; an unread GPU counts as whole."""
        return {uuid: uuid in self._health and self._health[uuid].mig for uuid in self._devices}

    def read_health(self) -> dict[str, GpuHealth | None]:
        """Modes and error counts, read anew where they are due; None of a GPU that does not answer."""
        deadline_s = self._clock_s() + _READING_BUDGET_S
        for uuid, device in self._devices.items():
            now_s = self._clock_s()
            if not self._health_due_s[uuid] <= now_s < deadline_s:
                continue
            self._health_due_s[uuid] = now_s + HEALTH_PERIOD_S
            try:
                self._health[uuid] = device.health()
            except GpuError as error:
                self._health.pop(uuid, None)
                self._note(uuid, str(error))
        return {uuid: self._health.get(uuid) for uuid in self._devices}

    def read(
        self, holders: Mapping[str, Sequence[PodKey]], *, restarted: Callable[[str], None]
    ) -> dict[str, GpuReading | None]:
        """Clock, power and energy of every GPU; None of one that does not answer.

        Args:
            holders: The pods that hold each GPU now.
            restarted: Told the UUID of each GPU whose counter fell: its driver forgot its clocks.
        """
        deadline_s = self._clock_s() + _READING_BUDGET_S
        readings: dict[str, GpuReading | None] = dict.fromkeys(self._devices)
        uuids = list(self._devices)
        for uuid in uuids[self._first :] + uuids[: self._first]:
            if self._clock_s() >= deadline_s:
                self._first = uuids.index(uuid)
                break
            try:
                reading = readings[uuid] = self._devices[uuid].read()
            except GpuError as error:
                self._note(uuid, str(error))
                continue
            self._note(uuid, "")
            if reading.energy_j is None:
                continue
            pods = holders.get(uuid, ())
            holder = pods[0] if len(pods) == 1 else NOBODY
            if self._meter.observe(uuid=uuid, counter_j=reading.energy_j, holder=holder, now_s=self._clock_s()):
                _log.warning("energy gpu=%s counter fell: the driver restarted and forgot its clocks", uuid)
                restarted(uuid)
        return readings

    def totals_j(self) -> dict[EnergyKey, float]:
        """Joules by GPU and pod since the start."""
        return self._meter.totals_j(self._clock_s())

    def _note(self, uuid: str, problem: str) -> None:
        """Say once that a GPU does not answer, and once that it does again."""
        if problem and not self._silent.get(uuid):
            _log.warning("reading gpu=%s error=%r", uuid, problem)
        elif not problem and self._silent.get(uuid):
            _log.info("reading gpu=%s answers again", uuid)
        self._silent[uuid] = problem
