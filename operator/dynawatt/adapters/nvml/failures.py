"""What the error codes of NVML mean for whoever asked: one table to the typed errors of the ports."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from dynawatt.ports import GpuError, GpuLostError, GpuNotSupportedError, GpuPermissionError, GpuTimeoutError


class Code(IntEnum):
    """Those of ``nvmlReturn_t`` that are told apart."""

    UNINITIALIZED = 1
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    OPERATING_SYSTEM = 17
    LIB_RM_VERSION_MISMATCH = 18
    DEPRECATED = 26
    GPU_NOT_FOUND = 28


_RESTART: Final = "once nvidia-smi works on the node, restart this process"
_REPAIR: Final = "drain the node and reset the GPU; see the XID in the kernel log"

_MEANINGS: Final[Mapping[int, tuple[type[GpuError], str]]] = {
    Code.NOT_SUPPORTED: (GpuNotSupportedError, ""),
    Code.FUNCTION_NOT_FOUND: (GpuNotSupportedError, "the driver is too old or too new for it"),
    Code.DEPRECATED: (GpuNotSupportedError, "the driver is too new for it"),
    Code.NO_PERMISSION: (GpuPermissionError, "run as root with CAP_SYS_ADMIN, in a container as privileged"),
    Code.OPERATING_SYSTEM: (GpuPermissionError, "give the container access to /dev/nvidia*"),
    Code.GPU_IS_LOST: (GpuLostError, _REPAIR),
    Code.GPU_NOT_FOUND: (GpuLostError, _REPAIR),
    Code.RESET_REQUIRED: (GpuLostError, _REPAIR),
    Code.TIMEOUT: (GpuTimeoutError, ""),
    Code.UNINITIALIZED: (GpuError, _RESTART),
    Code.DRIVER_NOT_LOADED: (GpuError, _RESTART),
    Code.LIB_RM_VERSION_MISMATCH: (GpuError, _RESTART),
}


def gpu_error(code: int, *, gpu: str, function: str, told: str) -> GpuError:
    """The typed error for a code.

    Args:
        code: Of ``nvmlReturn_t``; one that is not known gives a plain GpuError.
        gpu: UUID of the GPU.
        function: Name of the call that failed.
        told: NVML's own words for the code.
    """
    kind, remedy = _MEANINGS.get(code, (GpuError, ""))
    return kind(f"{gpu}: {function}: {told}{'; ' if remedy else ''}{remedy}")
