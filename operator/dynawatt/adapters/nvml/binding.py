"""The only importer of pynvml, the Python binding of NVML that NVIDIA publishes as ``nvidia-ml-py``.

Functions are called by name, so that one that this release of the binding lacks
is told in the same way as one that the driver lacks.
"""

from typing import Any, Final

import pynvml

from dynawatt.adapters.nvml.failures import Code
from dynawatt.errors import OperationError

NvmlError: Final = pynvml.NVMLError
"""What a call raises; ``value`` is a Code, or a number that is none of those."""


def require_official_binding() -> None:
    """Refuse what others publish under the same module name. Raises OperationError."""
    # The package of PyPI's project pynvml re-exports only public names, and hides NVIDIA's module where both are.
    if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
        raise OperationError(
            f"the module pynvml at {pynvml.__file__} is not NVIDIA's: "
            "run 'pip uninstall pynvml', then 'pip install --force-reinstall nvidia-ml-py'"
        )
    if not hasattr(pynvml, "nvmlDeviceSetGpuLockedClocks"):
        raise OperationError(
            f"the module pynvml at {pynvml.__file__} is too old to lock clocks: "
            "run 'pip uninstall nvidia-ml-py3', then 'pip install --upgrade --force-reinstall nvidia-ml-py'"
        )


def call(function: str, *args: Any) -> Any:
    """Call a function of NVML. Raises NvmlError."""
    implementation = getattr(pynvml, function, None)
    if implementation is None:
        raise NvmlError(Code.FUNCTION_NOT_FOUND)
    return implementation(*args)


def driver_has(function: str) -> bool:
    """Whether the library of the driver, which must be initialised, exports a function."""
    return hasattr(pynvml.nvmlLib, function)
