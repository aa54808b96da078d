import pytest

from dynawatt.adapters.nvml.failures import Code, gpu_error
from dynawatt.ports import GpuError, GpuLostError, GpuNotSupportedError, GpuPermissionError, GpuTimeoutError


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (Code.NOT_SUPPORTED, GpuNotSupportedError, "NotSupported"),
        (Code.FUNCTION_NOT_FOUND, GpuNotSupportedError, "NotSupported"),
        (Code.DEPRECATED, GpuNotSupportedError, "NotSupported"),
        (Code.NO_PERMISSION, GpuPermissionError, "NoPermission"),
        (Code.OPERATING_SYSTEM, GpuPermissionError, "NoPermission"),
        (Code.GPU_IS_LOST, GpuLostError, "GPULost"),
        (Code.GPU_NOT_FOUND, GpuLostError, "GPULost"),
        (Code.RESET_REQUIRED, GpuLostError, "GPULost"),
        (Code.TIMEOUT, GpuTimeoutError, "Timeout"),
        (Code.UNINITIALIZED, GpuError, "Other"),
        (999, GpuError, "Other"),
    ],
)
def test_every_code_has_a_kind(code, kind, reason):
    error = gpu_error(code, gpu="GPU-5f0", function="nvmlDeviceGetName", told="Told By NVML")
    assert type(error) is kind
    assert error.reason == reason
    assert str(error).startswith("GPU-5f0: nvmlDeviceGetName: Told By NVML")
    assert "\n" not in str(error)


def test_a_remedy_is_told_where_there_is_one():
    told = str(gpu_error(Code.NO_PERMISSION, gpu="GPU-5f0", function="f", told="Insufficient Permissions"))
    assert told == "GPU-5f0: f: Insufficient Permissions; run as root with CAP_SYS_ADMIN, in a container as privileged"
    assert str(gpu_error(999, gpu="GPU-5f0", function="f", told="Unknown Error")) == "GPU-5f0: f: Unknown Error"
