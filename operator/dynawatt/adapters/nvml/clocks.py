"""How the SM clock of one GPU is set and given back, by whichever method its driver takes. For one thread.

NVML has no getter for a locked range, and what an administrator has set must
survive until there is a reason to touch the GPU. So opening only looks; which
method really works shows at the first use. A reset undoes what this process set;
before it has set anything, a reset is for what an earlier process may have left
behind, by either method.
"""

import logging
from typing import Final

from dynawatt.adapters.nvml import binding
from dynawatt.adapters.nvml.handle import Handle
from dynawatt.ports import ClockMethod, GpuError, GpuNotSupportedError

_SET: Final = {
    ClockMethod.LOCKED_CLOCKS: "nvmlDeviceSetGpuLockedClocks",
    ClockMethod.APPLICATIONS_CLOCKS: "nvmlDeviceSetApplicationsClocks",
}
_RESET: Final = {
    ClockMethod.LOCKED_CLOCKS: "nvmlDeviceResetGpuLockedClocks",
    ClockMethod.APPLICATIONS_CLOCKS: "nvmlDeviceResetApplicationsClocks",
}
_VOLTA: Final = 5
"""NVML_DEVICE_ARCH_VOLTA, the first with locked clocks."""

_log = logging.getLogger(__name__)


class Clocks:
    """The SM clock of one GPU.

    Args:
        handle: The GPU.
        forced: The only method to use; None to use the first that works.
    """

    def __init__(self, handle: Handle, forced: ClockMethod | None) -> None:
        self.method = forced or ClockMethod.LOCKED_CLOCKS
        """May be looked at by other threads."""
        self._handle = handle
        self._forced = forced is not None
        self._proven = False
        self._used: set[ClockMethod] = set()
        """By this process, ever: a reset that follows a reset must not go further than the first."""
        self._memory_mhz: int | None = None

    def probe(self) -> None:
        """Find out what can be known of the method without changing anything. Raises GpuError."""
        if self.method is ClockMethod.LOCKED_CLOCKS:
            architecture = self._handle.ask("nvmlDeviceGetArchitecture")
            if architecture is not None and architecture < _VOLTA:
                self._give_up_method("a GPU before Volta has no locked clocks")
        if self.method is not ClockMethod.NONE and not binding.driver_has(_SET[self.method]):
            self._give_up_method(f"the driver has no {_SET[self.method]}")
        self.supported_mhz()

    def supported_mhz(self) -> tuple[int, ...]:
        """SM clocks to choose from, ascending; none when they cannot be set, or belong to several (MIG)."""
        if self.method is ClockMethod.NONE or self._handle.is_partitioned():
            return ()
        try:
            supported_mhz = self._handle.call("nvmlDeviceGetSupportedGraphicsClocks", self._highest_memory_mhz())
        except GpuNotSupportedError as error:
            self.method = ClockMethod.NONE
            _log.warning("clock gpu=%s method=%s reason=%r", self._handle.uuid, self.method, str(error))
            return ()
        return tuple(sorted(set(supported_mhz)))

    def lock(self, min_mhz: int, max_mhz: int) -> None:
        """Keep the clock within a range; applications clocks know only its upper end. Raises GpuError."""
        if not 0 < min_mhz <= max_mhz:
            raise GpuError(f"{self._handle.uuid}: {min_mhz}-{max_mhz} MHz is no range of clocks")
        if self._handle.is_partitioned():
            raise GpuNotSupportedError(f"{self._handle.uuid}: its clock is shared by MIG partitions")
        while self.method is not ClockMethod.NONE:
            try:
                self._set(min_mhz, max_mhz)
            except GpuNotSupportedError as error:
                if self._proven:
                    raise
                self._give_up_method(str(error))
            else:
                self._proven = True
                return
        raise GpuNotSupportedError(f"{self._handle.uuid}: its clocks cannot be set")

    def reset(self) -> None:
        """Undo what this process set, or what an earlier one can have set. Raises GpuError."""
        refusals: list[GpuError] = []
        methods = [method for method in _RESET if method in self._used] or list(_RESET)
        for method in methods:
            try:
                self._handle.call(_RESET[method])
            except GpuError as error:
                refusals.append(error)
        if failures := [error for error in refusals if not isinstance(error, GpuNotSupportedError)]:
            raise failures[0]
        if len(refusals) == len(methods):
            raise refusals[0]

    def _set(self, min_mhz: int, max_mhz: int) -> None:
        clocks_mhz = (
            (min_mhz, max_mhz) if self.method is ClockMethod.LOCKED_CLOCKS else (self._highest_memory_mhz(), max_mhz)
        )
        before = frozenset(self._used)
        self._used.add(self.method)  # first: a call that never returns may still have had its effect
        try:
            self._handle.call(_SET[self.method], *clocks_mhz)
        except GpuNotSupportedError:
            self._used &= before
            raise

    def _give_up_method(self, reason: str) -> None:
        follows = self.method is ClockMethod.LOCKED_CLOCKS and not self._forced
        self.method = ClockMethod.APPLICATIONS_CLOCKS if follows else ClockMethod.NONE
        _log.warning("clock gpu=%s method=%s reason=%r", self._handle.uuid, self.method, reason)

    def _highest_memory_mhz(self) -> int:
        if self._memory_mhz is None:
            supported_mhz = self._handle.call("nvmlDeviceGetSupportedMemoryClocks")
            if not supported_mhz:
                raise GpuNotSupportedError(f"{self._handle.uuid}: it names no memory clock")
            self._memory_mhz = max(supported_mhz)
        return self._memory_mhz
