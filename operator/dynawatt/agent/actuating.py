"""Carries clock commands out and remembers what every GPU was told.

The driver cannot be asked which clocks are locked, so this memory, together with
the journal that outlives it, is the only truth: a GPU that the journal names
counts as unknown before it is touched, and as set only after the driver said yes.
Whatever fails ends in a reset of the whole group, and a reset that fails leaves
the GPU unknown and named in the journal, and the next decision resets it again.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from dynawatt.agent.enforcing import ClockRange, Commanded, Decision, GpuState, Lock, Reset, Setting
from dynawatt.agent.journal import Journal, JournalError
from dynawatt.agent.limiting import CallLimit
from dynawatt.agent.view import ClockCommand
from dynawatt.ports import GpuDevice, GpuError, GpuNotSupportedError, PodKey

_RETRY_S: Final = 30.0
_LOCKING_BUDGET_S: Final = 1.0
"""A driver that does not answer may cost a cycle one timeout of a lock, not one per GPU."""
_RESERVED_RESETS: Final = 2.0
"""Calls that locks must leave for resets."""

_log = logging.getLogger(__name__)


class Actuator:
    """The GPUs of this node and what they are set to. ``clock_s`` is monotonic time in seconds."""

    def __init__(
        self, devices: Sequence[GpuDevice], *, journal: Journal, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._devices = {device.uuid: device for device in devices}
        self._journal = journal
        self._clock_s = clock_s
        suspects = self._devices.keys() if journal.found is None else journal.found
        self._commanded: dict[str, Commanded] = {
            uuid: Setting.UNKNOWN if uuid in suspects else Setting.DEFAULT for uuid in self._devices
        }
        self._limits = {uuid: CallLimit() for uuid in self._devices}
        self._supported_mhz: dict[str, tuple[int, ...]] = {}
        self._refusals: dict[str, tuple[str, float]] = {}
        self._errors: dict[str, str] = {}
        self._failures: Counter[tuple[ClockCommand, str]] = Counter()
        self._calls = 0
        self._counting = threading.Lock()
        self._late: list[PodKey] = []
        for uuid in journal.uuids - self._devices.keys():
            _log.warning("journal gpu=%s may be locked and is not on this node: it stays in the journal", uuid)

    @property
    def devices(self) -> Mapping[str, GpuDevice]:
        """Every GPU by UUID."""
        return self._devices

    @property
    def calls(self) -> int:
        """Lock and reset calls since the start."""
        return self._calls

    @property
    def journal_problem(self) -> str:
        """Why the journal could not be written when it was last tried; empty when it could."""
        return self._journal.problem

    def failures(self) -> dict[tuple[ClockCommand, str], int]:
        """How many commands failed since the start, by command and ``GpuError.reason``."""
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
                self._note_failure(ClockCommand.SUPPORTED_CLOCKS, uuid, error)
        return self._supported_mhz.get(uuid)

    def states(self) -> dict[str, GpuState]:
        """All GPUs as the decision wants them."""
        return {
            uuid: GpuState(self.supported_mhz(uuid), commanded, self._refusal(uuid))
            for uuid, commanded in self._commanded.items()
        }

    def carry_out(self, decision: Decision) -> None:
        """Resets first, then locks. Raises nothing: failures are logged, counted and remembered."""
        self._reset_each(decision.resets)
        began_s = self._clock_s()
        places = {pod: place for place, pod in enumerate(self._late)}
        self._late = []
        for lock in sorted(decision.locks, key=lambda lock: places.get(lock.pod, len(places))):
            if self._clock_s() - began_s < _LOCKING_BUDGET_S:
                self._lock(lock)
            else:  # first in the next cycle, which judges before whether claims still hold
                self._late.append(lock.pod)
                self._leave_for_later(lock)
        self._strike_out()

    def reset_all(self, reason: str) -> None:
        """Bring every GPU that may be locked to its default clocks, going on past failures."""
        self._reset_each(
            [Reset(uuid, reason) for uuid, found in self._commanded.items() if found is not Setting.DEFAULT]
        )
        self._strike_out()

    def suspect(self, uuid: str) -> None:
        """Somebody else may have locked this GPU: the next reset of all includes it."""
        self._commanded[uuid] = Setting.UNKNOWN

    def forget(self, uuid: str) -> None:
        """The driver of this GPU restarted: what it was told is lost."""
        if self._commanded[uuid] is not Setting.DEFAULT:
            self._commanded[uuid] = Setting.UNKNOWN

    def _lock(self, lock: Lock) -> None:
        try:
            self._journal.replace(self._suspects() | set(lock.uuids))
        except JournalError as error:
            for uuid in lock.uuids:
                self._refuse(uuid, f"the journal cannot be written: {error}")
            self._reset_group(lock, "the journal cannot be written")
            return
        members = [uuid for uuid in lock.uuids if self._commanded[uuid] != lock.clocks]
        if not self._may_call(members):
            self._leave_for_later(lock)
            return
        for uuid in members:
            before = self._commanded[uuid]
            self._commanded[uuid] = Setting.UNKNOWN
            self._calls += _calls_to_lock(before)
            try:
                if before is Setting.UNKNOWN:  # an earlier lock may be of the other kind
                    self._devices[uuid].reset_clocks()
                self._devices[uuid].lock_clocks(lock.clocks.min_mhz, lock.clocks.max_mhz)
            except Exception as error:  # whatever a driver throws, the group must not stay half set
                self._note_failure(ClockCommand.LOCK, uuid, error)
                self._refuse(uuid, f"{uuid} refused {lock.clocks}: {error}")
                self._reset_group(lock, f"{uuid} of the same pod could not be set")
                return
            self._commanded[uuid] = lock.clocks
            self._errors.pop(uuid, None)
            # Governors move clocks all the time; that one begins to is worth a line.
            level = logging.DEBUG if isinstance(before, ClockRange) else logging.INFO
            _log.log(level, "clock gpu=%s pod=%s from=%s to=%s reason=claim", uuid, lock.pod, before, lock.clocks)

    def _may_call(self, uuids: Sequence[str]) -> bool:
        """Whether all of these may be locked now."""
        now_s = self._clock_s()
        return all(
            self._limits[uuid].take(now_s, _calls_to_lock(self._commanded[uuid]), reserve=_RESERVED_RESETS)
            for uuid in uuids
        )

    def _leave_for_later(self, lock: Lock) -> None:
        """Do not lock yet; all of the group keep the range they have, or none has any."""
        _log.debug("clock pod=%s to=%s action=wait", lock.pod, lock.clocks)
        found = {self._commanded[uuid] for uuid in lock.uuids}
        if Setting.UNKNOWN in found or len(found) > 1:
            self._reset_group(lock, "its group is half set, and is not locked yet")

    def _reset_group(self, lock: Lock, reason: str) -> None:
        self._reset_each([Reset(uuid, reason) for uuid in lock.uuids if self._commanded[uuid] is not Setting.DEFAULT])

    def _reset_each(self, resets: Sequence[Reset]) -> None:
        """All at once: a GPU whose driver hangs must not hold up the others."""
        if resets:
            with ThreadPoolExecutor(len(resets), thread_name_prefix="reset") as pool:
                list(pool.map(self._reset, resets))

    def _reset(self, reset: Reset) -> None:
        before = self._commanded[reset.uuid]
        self._commanded[reset.uuid] = Setting.UNKNOWN
        if not self._limits[reset.uuid].take(self._clock_s()):
            return  # unknown, so the next decision resets it
        with self._counting:
            self._calls += 1
        try:
            self._devices[reset.uuid].reset_clocks()
        except GpuNotSupportedError:
            _log.info("clock gpu=%s cannot be set, so there is nothing to reset", reset.uuid)
        except Exception as error:  # one GPU that fails must not keep the others from their reset
            self._note_failure(ClockCommand.RESET, reset.uuid, error)
            return
        self._commanded[reset.uuid] = Setting.DEFAULT
        self._errors.pop(reset.uuid, None)
        if before is not Setting.DEFAULT:
            _log.info("clock gpu=%s from=%s to=default reason=%r", reset.uuid, before, reset.reason)

    def _strike_out(self) -> None:
        """Take what is at default out of the journal."""
        with contextlib.suppress(JournalError):  # nothing was locked that it does not name
            self._journal.replace(self._suspects())

    def _suspects(self) -> set[str]:
        """GPUs that may be locked; those of an earlier life that are not on this node now are among them."""
        present = {uuid for uuid, state in self._commanded.items() if state is not Setting.DEFAULT}
        return present | (self._journal.uuids - self._devices.keys())

    def _refuse(self, uuid: str, message: str) -> None:
        self._refusals[uuid] = (message, self._clock_s() + _RETRY_S)

    def _refusal(self, uuid: str) -> str:
        refusal, until_s = self._refusals.get(uuid, ("", 0.0))
        if refusal and self._clock_s() >= until_s:
            del self._refusals[uuid]
            return ""
        return refusal

    def _note_failure(self, command: ClockCommand, uuid: str, error: Exception) -> None:
        with self._counting:
            self._failures[command, error.reason if isinstance(error, GpuError) else GpuError.reason] += 1
        told = f"{command}: {error}"
        if self._errors.get(uuid) != told:
            _log.error("clock gpu=%s command=%s error=%r", uuid, command, str(error) or type(error).__name__)
        self._errors[uuid] = told


def _calls_to_lock(before: Commanded) -> int:
    return 2 if before is Setting.UNKNOWN else 1


def requested_mhz(commanded: Commanded) -> int | None:
    """The highest clock a GPU may run at by our command, which is what its governor chose; None without one."""
    return commanded.max_mhz if isinstance(commanded, ClockRange) else None
