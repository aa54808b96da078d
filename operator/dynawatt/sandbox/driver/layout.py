"""The shared state of library/state.h as ctypes see it; a test compares every offset with the library's."""

import ctypes
from typing import Final

STATE_VARIABLE: Final = "DYNAWATT_NVML_STATE"
"""Environment variable that names the file for the library."""
MAGIC: Final = b"DWNVML"
VERSION: Final = 1
MAX_GPUS: Final = 16
MAX_CLOCKS: Final = 256
MAX_MEMORY_CLOCKS: Final = 4
MAX_XIDS: Final = 16
TEXT_SIZE: Final = 96
EVERY_CALL: Final = 2**32 - 1
"""Of ``Fault.calls_left``."""

FUNCTIONS: Final = (
    "nvmlInit",
    "nvmlShutdown",
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetNVMLVersion",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetIndex",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetArchitecture",
    "nvmlDeviceGetSupportedMemoryClocks",
    "nvmlDeviceGetSupportedGraphicsClocks",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceSetGpuLockedClocks",
    "nvmlDeviceResetGpuLockedClocks",
    "nvmlDeviceSetApplicationsClocks",
    "nvmlDeviceResetApplicationsClocks",
    "nvmlDeviceGetDefaultApplicationsClock",
    "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetPersistenceMode",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetComputeMode",
    "nvmlEventSetCreate",
    "nvmlEventSetFree",
    "nvmlDeviceRegisterEvents",
    "nvmlDeviceGetSupportedEventTypes",
    "nvmlEventSetWait",
)
"""As pynvml names them, without the version of the C symbol."""


class Fault(ctypes.Structure):
    """What is done to calls of one function."""

    _fields_ = (
        ("result", ctypes.c_uint32),
        ("delay_ms", ctypes.c_uint32),
        ("hangs", ctypes.c_uint32),
        ("calls_left", ctypes.c_uint32),
        ("generation", ctypes.c_uint64),
    )


class Slot(ctypes.Structure):
    """One function."""

    _fields_ = (("calls", ctypes.c_uint64), ("fault", Fault))


class Motion(ctypes.Structure):
    """What follows from clock and load."""

    _fields_ = (
        ("energy_j", ctypes.c_double),
        ("at_ns", ctypes.c_int64),
        ("next_at_ns", ctypes.c_int64),
        ("next_clock_mhz", ctypes.c_uint32),
        ("clock_mhz", ctypes.c_uint32),
        ("power_w", ctypes.c_double),
    )


class Gpu(ctypes.Structure):
    """One GPU."""

    _fields_ = (
        ("uuid", ctypes.c_char * TEXT_SIZE),
        ("product", ctypes.c_char * TEXT_SIZE),
        ("architecture", ctypes.c_uint32),
        ("lost", ctypes.c_uint32),
        ("default_clock_mhz", ctypes.c_uint32),
        ("clock_count", ctypes.c_uint32),
        ("clocks_mhz", ctypes.c_uint32 * MAX_CLOCKS),
        ("full_load_w", ctypes.c_double * MAX_CLOCKS),
        ("idle_w", ctypes.c_double),
        ("load", ctypes.c_double),
        ("memory_clock_count", ctypes.c_uint32),
        ("memory_clocks_mhz", ctypes.c_uint32 * MAX_MEMORY_CLOCKS),
        ("application_mhz", ctypes.c_uint32),
        ("locked", ctypes.c_uint64),
        ("commands", ctypes.c_uint64),
        ("motions", Motion * 2),
        ("motion", ctypes.c_uint32),
        ("temperature_c", ctypes.c_int32),
        ("reasons", ctypes.c_uint64),
        ("ecc_errors", ctypes.c_uint64 * 2 * 2),
        ("remapped_rows", ctypes.c_uint32 * 2),
        ("remap_pending", ctypes.c_uint32),
        ("remap_failed", ctypes.c_uint32),
        ("mig_mode", ctypes.c_uint32),
        ("mig_pending", ctypes.c_uint32),
        ("persistence", ctypes.c_uint32),
        ("compute_mode", ctypes.c_uint32),
        ("xids_raised", ctypes.c_uint64),
        ("xids", ctypes.c_uint64 * MAX_XIDS),
        ("functions", Slot * len(FUNCTIONS)),
    )


class State(ctypes.Structure):
    """The whole file."""

    _fields_ = (
        ("magic", ctypes.c_char * 8),
        ("version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("gpu_count", ctypes.c_uint32),
        ("driver_loaded", ctypes.c_uint32),
        ("driven", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("commands", ctypes.c_uint64),
        ("driver_version", ctypes.c_char * TEXT_SIZE),
        ("nvml_version", ctypes.c_char * TEXT_SIZE),
        ("functions", Slot * len(FUNCTIONS)),
        ("gpus", Gpu * MAX_GPUS),
    )
