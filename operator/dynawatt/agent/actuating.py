"""Carries clock commands out and remembers what every GPU was told.

The driver cannot be asked which clocks are locked, so this memory is the only
truth: a GPU counts as unknown before it is touched and as set only after the
driver said yes. Whatever fails ends in a reset of the whole group, and a reset
that fails leaves the GPU unknown, which the next decision resets again.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dynawatt.agent.enforcing import ClockRange, Commanded, Decision, GpuState, Lock, Reset, Setting
from dynawatt.ports import GpuDevice, GpuError

_RETRY_S: Final = 30.0

_log = logging.getLogger(__name__)


class Actuator:
    """The GPUs of this node and what they are set to. ``clock_s`` is monotonic time in seconds."""

    def __init__(self, devices: Sequence[GpuDevice], *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._devices = {device.uuid: device for device in devices}
        self._clock_s = clock_s
        self._commanded: dict[str, Commanded] = dict.fromkeys(self._devices, Setting.UNKNOWN)
        self._supported_mhz: dict[str, tuple[int, ...]] = {}
        self._refusals: dict[str, tuple[str, float]] = {}
        self._errors: dict[str, str] = {}
        self._failures: Counter[str] = Counter(lock=0, reset=0, supported_clocks=0)

    @property
    def devices(self) -> Mapping[str, GpuDevice]:
        """Every GPU by UUID."""
        return self._devices

    def failures(self) -> dict[str, int]:
        """How many commands failed since the start, by kind."""
        return dict(self._failures)

    def commanded(self, uuid: str) -> Commanded:
        """What a GPU was last told."""
        return self._commanded[uuid]

    def supported_mhz(self, uuid: str) -> tuple[int, ...] | None:
        """The clocks a GPU can be locked to, ascending; None while it cannot say. They are asked for until known."""
        if uuid not in self._supported_mhz:
            try:
                self._supported_mhz[uuid] = tuple(sorted(self._devices[uuid].supported_clocks_mhz()))
            except GpuError as error:
                self._note_failure("supported_clocks", uuid, error)
        return self._supported_mhz.get(uuid)

    def states(self) -> dict[str, GpuState]:
        """All GPUs as the decision wants them."""
        return {
            uuid: GpuState(self.supported_mhz(uuid), commanded, self._refusal(uuid))
            for uuid, commanded in self._commanded.items()
        }

    def carry_out(self, decision: Decision) -> None:
        """Resets first, then locks. Raises nothing: failures are logged, counted and remembered."""
        for reset in decision.resets:
            self._reset(reset)
        for lock in decision.locks:
            self._lock(lock)

    def reset_all(self, reason: str) -> None:
        """Bring every GPU that may be locked to its default clocks, going on past failures."""
        for uuid, commanded in self._commanded.items():
            if commanded is not Setting.DEFAULT:
                self._reset(Reset(uuid, reason))

    def forget(self, uuid: str) -> None:
        """The driver of this GPU restarted: what it was told is lost."""
        self._commanded[uuid] = Setting.UNKNOWN

    def _lock(self, lock: Lock) -> None:
        for uuid in lock.uuids:
            before = self._commanded[uuid]
            if before == lock.clocks:
                continue
            self._commanded[uuid] = Setting.UNKNOWN
            try:
                self._devices[uuid].lock_clocks(lock.clocks.min_mhz, lock.clocks.max_mhz)
            except Exception as error:  # whatever a driver throws, the group must not stay half set
                self._note_failure("lock", uuid, error)
                self._refusals[uuid] = (f"{uuid} refused {lock.clocks}: {error}", self._clock_s() + _RETRY_S)
                for member in lock.uuids:
                    self._reset(Reset(member, f"{uuid} of the same pod could not be set"))
                return
            self._commanded[uuid] = lock.clocks
            self._errors.pop(uuid, None)
            # Governors move clocks all the time; that one begins to is worth a line.
            level = logging.DEBUG if isinstance(before, ClockRange) else logging.INFO
            _log.log(level, "clock gpu=%s pod=%s from=%s to=%s reason=claim", uuid, lock.pod, before, lock.clocks)

    def _reset(self, reset: Reset) -> None:
        before = self._commanded[reset.uuid]
        self._commanded[reset.uuid] = Setting.UNKNOWN
        try:
            self._devices[reset.uuid].reset_clocks()
        except Exception as error:  # one GPU that fails must not keep the others from their reset
            self._note_failure("reset", reset.uuid, error)
            return
        self._commanded[reset.uuid] = Setting.DEFAULT
        self._errors.pop(reset.uuid, None)
        if before is not Setting.DEFAULT:
            _log.info("clock gpu=%s from=%s to=default reason=%r", reset.uuid, before, reset.reason)

    def _refusal(self, uuid: str) -> str:
        refusal, until_s = self._refusals.get(uuid, ("", 0.0))
        if refusal and self._clock_s() >= until_s:
            del self._refusals[uuid]
            return ""
        return refusal

    def _note_failure(self, command: str, uuid: str, error: Exception) -> None:
        self._failures[command] += 1
        told = f"{command}: {error}"
        if self._errors.get(uuid) != told:
            _log.error("clock gpu=%s command=%s error=%r", uuid, command, str(error) or type(error).__name__)
        self._errors[uuid] = told


def requested_mhz(commanded: Commanded) -> int | None:
    """The highest clock a GPU may run at by our command, which is what its governor chose; None without one."""
    return commanded.max_mhz if isinstance(commanded, ClockRange) else None
