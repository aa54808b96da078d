/* What can be read of a GPU. */
#include "state.h"

#include <string.h>

static nvmlReturn_t give_text(const char *text, char *buffer, uint32_t size)
{
    if (buffer == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    size_t length = strnlen(text, TEXT_SIZE - 1);
    if (size <= length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    memcpy(buffer, text, length);
    buffer[length] = 0;
    return NVML_SUCCESS;
}

/* Defines a function that gives one text of a GPU. */
#define TEXT_GETTER(name, field) \
    PUBLIC nvmlReturn_t name(nvmlDevice_t device, char *buffer, uint32_t size) \
    { \
        struct gpu *gpu; \
        nvmlReturn_t result = enter_device(device, ID_##name, &gpu); \
        return result != NVML_SUCCESS ? result : leave(give_text(gpu->field, buffer, size)); \
    }

/* Defines a function that gives one value of a GPU: an expression over ``gpu``. */
#define VALUE_GETTER(name, type, expression) \
    PUBLIC nvmlReturn_t name(nvmlDevice_t device, type *value) \
    { \
        struct gpu *gpu; \
        nvmlReturn_t result = enter_device(device, ID_##name, &gpu); \
        if (result != NVML_SUCCESS) \
            return result; \
        if (value == NULL) \
            return leave(NVML_ERROR_INVALID_ARGUMENT); \
        *value = (type)(expression); \
        return leave(NVML_SUCCESS); \
    }

/* Whether application clocks hold the GPU back; NVML has no such reason for locked clocks. */
static unsigned long long reasons_now(const struct gpu *gpu)
{
    unsigned long long reasons = gpu->reasons;
    if (gpu->load == 0)
        reasons |= NVML_REASON_GPU_IDLE;
    if (gpu->locked == 0 && gpu->application_mhz != 0 && gpu->application_mhz < gpu->default_clock_mhz)
        reasons |= NVML_REASON_APPLICATIONS_CLOCKS_SETTING;
    return reasons;
}

TEXT_GETTER(nvmlDeviceGetUUID, uuid)
TEXT_GETTER(nvmlDeviceGetName, product)

VALUE_GETTER(nvmlDeviceGetIndex, uint32_t, gpu - shared_state()->gpus)
VALUE_GETTER(nvmlDeviceGetArchitecture, uint32_t, gpu->architecture)
VALUE_GETTER(nvmlDeviceGetPowerUsage, uint32_t, motion_now(gpu).power_w * 1e3 + 0.5)
VALUE_GETTER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, motion_now(gpu).energy_j * 1e3)
VALUE_GETTER(nvmlDeviceGetPersistenceMode, uint32_t, gpu->persistence)
VALUE_GETTER(nvmlDeviceGetComputeMode, uint32_t, gpu->compute_mode)
VALUE_GETTER(nvmlDeviceGetSupportedEventTypes, unsigned long long, gpu->lost ? 0 : NVML_EVENT_XID_CRITICAL_ERROR)
#ifndef WITHOUT_NEW_READINGS
VALUE_GETTER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, reasons_now(gpu))
#endif
#ifndef WITHOUT_DEPRECATED_READINGS
VALUE_GETTER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, reasons_now(gpu))
#endif

PUBLIC nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, uint32_t type, uint32_t *clock_mhz)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceGetClockInfo, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (clock_mhz == NULL || type > NVML_CLOCK_VIDEO)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    if (type == NVML_CLOCK_VIDEO)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    *clock_mhz = type == NVML_CLOCK_MEM ? gpu->memory_clocks_mhz[0] : motion_now(gpu).clock_mhz;
    return leave(NVML_SUCCESS);
}

#ifndef WITHOUT_DEPRECATED_READINGS
PUBLIC nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, uint32_t sensor, uint32_t *temperature_c)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceGetTemperature, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (temperature_c == NULL || sensor != NVML_TEMPERATURE_GPU)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    *temperature_c = (uint32_t)gpu->temperature_c;
    return leave(NVML_SUCCESS);
}
#endif

#ifndef WITHOUT_NEW_READINGS
PUBLIC nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceGetTemperatureV, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (temperature == NULL || temperature->sensor != NVML_TEMPERATURE_GPU)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    if (temperature->version != NVML_TEMPERATURE_V1)
        return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    temperature->temperature_c = gpu->temperature_c;
    return leave(NVML_SUCCESS);
}
#endif

PUBLIC nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, uint32_t type, uint32_t counter,
                                                unsigned long long *count)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceGetTotalEccErrors, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (count == NULL || type > 1 || counter > 1)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    *count = gpu->ecc_errors[type][counter];
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, uint32_t *corrected, uint32_t *uncorrected,
                                              uint32_t *pending, uint32_t *failed)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceGetRemappedRows, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (corrected == NULL || uncorrected == NULL || pending == NULL || failed == NULL)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    *corrected = gpu->remapped_rows[0];
    *uncorrected = gpu->remapped_rows[1];
    *pending = gpu->remap_pending;
    *failed = gpu->remap_failed;
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, uint32_t *current, uint32_t *pending)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceGetMigMode, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (current == NULL || pending == NULL)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    *current = gpu->mig_mode;
    *pending = gpu->mig_pending;
    return leave(NVML_SUCCESS);
}
