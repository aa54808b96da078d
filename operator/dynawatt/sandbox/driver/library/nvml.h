/* The part of NVML's binary interface that this library serves: result codes, constants and structures.
 * Values and layouts are those that NVIDIA documents and that pynvml expects. */
#ifndef DYNAWATT_NVML_H
#define DYNAWATT_NVML_H

#include <stdint.h>

typedef enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NO_PERMISSION = 4,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_TIMEOUT = 10,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18,
    NVML_ERROR_MEMORY = 20,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_ERROR_UNKNOWN = 999,
} nvmlReturn_t;

typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct nvmlEventSet_st *nvmlEventSet_t;

enum { NVML_CLOCK_GRAPHICS = 0, NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2, NVML_CLOCK_VIDEO = 3 };
enum { NVML_TEMPERATURE_GPU = 0 };

/* Symbolic arguments of nvmlDeviceSetGpuLockedClocks. */
#define NVML_CLOCK_LIMIT_ID_TDP 0xffffff01u
#define NVML_CLOCK_LIMIT_ID_UNLIMITED 0xffffff02u

#define NVML_EVENT_XID_CRITICAL_ERROR 0x8ull
#define NVML_REASON_GPU_IDLE 0x1ull
#define NVML_REASON_APPLICATIONS_CLOCKS_SETTING 0x2ull
#define NVML_TEMPERATURE_V1 0x100000Cu /* version 1 in the top byte, sizeof in the rest */
#define NVML_NO_INSTANCE 0xffffffffu   /* an event of a GPU that is not partitioned */

typedef struct {
    uint32_t version;
    uint32_t sensor;
    int32_t temperature_c;
} nvmlTemperature_t;

typedef struct {
    nvmlDevice_t device;
    unsigned long long type;
    unsigned long long data;
    uint32_t gpu_instance;
    uint32_t compute_instance;
} nvmlEventData_t;

#endif
