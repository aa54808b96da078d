"""One GPU as NVML knows it. Calls go straight into the driver and may hang there: all are for the GPU's own thread."""

from typing import Any, Final

from dynawatt.adapters.nvml import binding
from dynawatt.adapters.nvml.bounding import BoundedThread
from dynawatt.adapters.nvml.failures import gpu_error
from dynawatt.ports import GpuError, GpuLostError, GpuNotSupportedError, GpuTimeoutError

_NOT_AVAILABLE: Final = 2**32 - 1
"""What some drivers give as a value with a success."""


class Handle:
    """Calls NVML for one GPU and translates its errors.

    Args:
        index: What NVML counts it by.
        thread: Makes all calls of this GPU; hears of each.
    """

    def __init__(self, index: int, thread: BoundedThread) -> None:
        self.uuid = f"GPU {index}"
        """Its identity once ``identify`` was called."""
        self.refused: GpuError | None = None
        """The first error that ``ask`` took for a missing value since this was last cleared."""
        self._index = index
        self._thread = thread
        self._device: object = None
        self._names: dict[tuple[str, ...], str] = {}

    def identify(self) -> str:
        """Find the GPU, its UUID and the name of the product, which is returned. Raises GpuError."""
        self._device = self.call_library("nvmlDeviceGetHandleByIndex", self._index)
        uuid, product = (text(self.call(function)) for function in ("nvmlDeviceGetUUID", "nvmlDeviceGetName"))
        self.uuid = uuid
        return product

    def call(self, function: str, *args: Any) -> Any:
        """Call a function that takes the GPU first. Raises GpuError."""
        return self.call_library(function, self._device, *args)

    def call_library(self, function: str, *args: Any) -> Any:
        """Call a function on behalf of this GPU. Raises GpuError."""
        self._thread.step(f"{self.uuid}: {function}")
        try:
            return binding.call(function, *args)
        except binding.NvmlError as error:
            raise gpu_error(error.value, gpu=self.uuid, function=function, told=str(error)) from error

    def ask(self, function: str, *args: Any) -> Any:
        """One value, None when it cannot be read. Raises GpuLostError and GpuTimeoutError, which concern them all."""
        try:
            value = self.call(function, *args)
        except (GpuLostError, GpuTimeoutError):
            raise
        except GpuError as error:
            self.refused = self.refused or error
            return None
        return None if value == _NOT_AVAILABLE else value

    def ask_any(self, functions: tuple[str, ...], *args: Any) -> Any:
        """As ``ask``, of the first of several names of one function that binding and driver have."""
        known = self._names.get(functions)
        if known is not None:
            return self.ask(known, *args)
        for function in functions:
            value = self.ask(function, *args)
            if value is not None:
                self._names[functions] = function
                return value
        return None

    def is_partitioned(self) -> bool:
        """Whether MIG is on, or will be at the next reset. Raises GpuError when that is not known."""
        try:
            return any(self.call("nvmlDeviceGetMigMode"))
        except GpuNotSupportedError:
            return False


def text(value: bytes | str) -> str:
    """What NVML calls a string, which old releases of the binding leave as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
