"""What rarely changes on one GPU: its modes, its memory errors, its XIDs. For one thread."""

from collections import Counter
from typing import Any, Final

from dynawatt.adapters.nvml.handle import Handle
from dynawatt.ports import GpuError, GpuHealth

_COMPUTE_MODES: Final = {0: "Default", 2: "Prohibited", 3: "ExclusiveProcess"}
_VOLATILE: Final = 0
_CORRECTED: Final = 0
_UNCORRECTED: Final = 1
_XID_EVENT: Final = 0x8
_MAX_EVENTS: Final = 100
"""Taken at a time; a storm is counted on the next occasion."""


class Health:
    """Modes and error counts of one GPU; counts XIDs from ``begin`` on."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._events: Any = None
        self._xids: Counter[int] = Counter()

    def begin(self) -> None:
        """Have the driver keep XIDs for us; a driver that does not leaves them uncounted. Raises GpuError."""
        events = self._optional("nvmlEventSetCreate")
        if events is None:
            return
        try:
            self._handle.call("nvmlDeviceRegisterEvents", _XID_EVENT, events)
        except GpuError:
            self._optional("nvmlEventSetFree", events)
            return
        self._events = events

    def end(self) -> None:
        """Have the driver forget what it kept. Raises nothing."""
        events, self._events = self._events, None
        if events is not None:
            self._optional("nvmlEventSetFree", events)

    def read(self) -> GpuHealth:
        """All at once. Raises GpuError when the GPU does not answer, or does not tell whether it is partitioned."""
        self._count_xids()
        ask = self._handle.ask
        rows: tuple[int, int, int, int] | None = ask("nvmlDeviceGetRemappedRows")
        return GpuHealth(
            mig=self._handle.is_partitioned(),
            persistence=_flag(ask("nvmlDeviceGetPersistenceMode")),
            compute_mode=_COMPUTE_MODES.get(ask("nvmlDeviceGetComputeMode")),
            ecc_corrected=ask("nvmlDeviceGetTotalEccErrors", _CORRECTED, _VOLATILE),
            ecc_uncorrected=ask("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _VOLATILE),
            rows_remapped=rows and rows[0] + rows[1],
            row_remap_pending=rows and bool(rows[2]),
            row_remap_failed=rows and bool(rows[3]),
            xids=dict(self._xids),
        )

    def _count_xids(self) -> None:
        if self._events is None:
            return
        for _ in range(_MAX_EVENTS):
            try:
                event = self._handle.call_library("nvmlEventSetWait_v2", self._events, 0)
            except GpuError:  # a timeout says that there are no more
                return
            if event.eventType & _XID_EVENT:
                self._xids[int(event.eventData)] += 1

    def _optional(self, function: str, *args: Any) -> Any:
        try:
            return self._handle.call_library(function, *args)
        except GpuError:
            return None


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)
