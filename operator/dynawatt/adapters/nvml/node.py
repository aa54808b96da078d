"""The NVIDIA GPUs of this machine: NVML is initialised once, every GPU is named by its UUID.

NVML stays initialised for as long as the node is open: without persistence mode
the driver forgets clocks when its last client leaves.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from dynawatt.adapters.nvml import binding
from dynawatt.adapters.nvml.bounding import BoundedThread
from dynawatt.adapters.nvml.device import NvmlGpu
from dynawatt.adapters.nvml.failures import Code
from dynawatt.adapters.nvml.handle import Handle, text
from dynawatt.errors import OperationError
from dynawatt.ports import ClockMethod, GpuError, GpuTimeoutError

_INITIALISE_WITHIN_S: Final = 60.0
"""Without persistence mode a driver wakes every GPU up first, which takes seconds for each."""
_OPEN_WITHIN_S: Final = 5.0
"""For what is asked of each GPU when it is opened."""
_SHUT_DOWN_WITHIN_S: Final = 5.0

_REMEDIES: Final[Mapping[int, str]] = {
    Code.LIBRARY_NOT_FOUND: "install the NVIDIA driver; in a container use the NVIDIA runtime, "
    "with NVIDIA_VISIBLE_DEVICES=all and NVIDIA_DRIVER_CAPABILITIES=utility",
    Code.DRIVER_NOT_LOADED: "load the NVIDIA kernel module and check that nvidia-smi works on the node",
    Code.LIB_RM_VERSION_MISMATCH: "the driver was updated: reboot the node, or restart the container",
    Code.NO_PERMISSION: "run as root, in a container as privileged",
    Code.OPERATING_SYSTEM: "give the container access to /dev/nvidia*",
}
_REMEDY: Final = "check that nvidia-smi works on the node"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NvmlNode:
    """The GPUs of a machine whose driver answered. Closing it leaves their clocks as they are."""

    driver_version: str
    gpus: Sequence[NvmlGpu]
    """In the order of their index."""
    left_out: Sequence[str]
    """Why a GPU that the driver counts is not among them: it did not even tell its UUID."""
    _threads: Sequence[BoundedThread]
    """The first one is for the driver as a whole."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the driver, unless it hangs: then the end of the process does. Raises nothing."""
        for gpu in self.gpus:
            gpu.close()
        if not any(thread.hangs for thread in self._threads):
            with contextlib.suppress(GpuError, binding.NvmlError):
                self._threads[0].run(lambda: binding.call("nvmlShutdown"), within_s=_SHUT_DOWN_WITHIN_S)
        for thread in self._threads:
            thread.close()


def open_gpus(*, clock_method: ClockMethod | None = None) -> NvmlNode:
    """Find the GPUs of this machine. Changes nothing on them.

    Args:
        clock_method: The only way to set clocks; None to use the first that works for each GPU.

    Raises:
        OperationError: There is no driver, no GPU, or not NVIDIA's binding of NVML; the message says what to do.
    """
    binding.require_official_binding()
    library = BoundedThread("nvml")
    try:
        version, count = library.run(lambda: _initialise(library), within_s=_INITIALISE_WITHIN_S)
    except binding.NvmlError as error:
        library.close()
        raise OperationError(f"NVML does not start: {error}; {_REMEDIES.get(error.value, _REMEDY)}") from error
    except GpuTimeoutError as error:
        library.close()
        raise OperationError(f"{error}; {_REMEDY}") from error
    threads = [library]
    gpus: list[NvmlGpu] = []
    left_out: list[str] = []
    for index in range(count):
        threads.append(BoundedThread(f"gpu-{index}"))
        try:
            gpus.append(_open_gpu(index, threads[-1], clock_method))
        except GpuError as error:
            _log.error("gpu index=%d left_out=%r", index, str(error))
            left_out.append(str(error))
    node = NvmlNode(version, tuple(gpus), tuple(left_out), tuple(threads))
    if not gpus:
        node.close()
        raise OperationError(f"no NVIDIA GPU to work with: {'; '.join(left_out) or 'the driver has none'}; {_REMEDY}")
    _log.info("nvml driver=%s gpus=%d left_out=%d", version, len(gpus), len(left_out))
    return node


def _initialise(thread: BoundedThread) -> tuple[str, int]:
    """Version of the driver and number of GPUs. Raises NvmlError."""
    thread.step("nvmlInit")
    binding.call("nvmlInit")
    thread.step("nvmlDeviceGetCount")
    return text(binding.call("nvmlSystemGetDriverVersion")), binding.call("nvmlDeviceGetCount")


def _open_gpu(index: int, thread: BoundedThread, clock_method: ClockMethod | None) -> NvmlGpu:
    """Raises GpuError when the GPU does not tell who it is; whatever else it does not tell may come later."""
    handle = Handle(index, thread)
    product = thread.run(handle.identify, within_s=_OPEN_WITHIN_S)
    gpu = NvmlGpu(thread, handle, product=product, clock_method=clock_method)
    try:
        gpu.probe(within_s=_OPEN_WITHIN_S)
    except GpuError as error:
        _log.warning("gpu=%s probe=%r", gpu.uuid, str(error))
    return gpu
