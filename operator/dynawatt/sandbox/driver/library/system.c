/* What concerns the driver as a whole: versions, the list of GPUs, words for results, and this library's layout. */
#include "state.h"

#include <stdio.h>
#include <string.h>

static nvmlReturn_t give_version(enum function function, char *buffer, uint32_t size)
{
    struct state *state;
    nvmlReturn_t result = enter(function, &state);
    if (result != NVML_SUCCESS)
        return result;
    if (buffer == NULL)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    const char *text = function == ID_nvmlSystemGetDriverVersion ? state->driver_version : state->nvml_version;
    int length = snprintf(buffer, size, "%.*s", (int)TEXT_SIZE - 1, text);
    return leave((uint32_t)length < size ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE);
}

PUBLIC nvmlReturn_t nvmlSystemGetDriverVersion(char *buffer, uint32_t size)
{
    return give_version(ID_nvmlSystemGetDriverVersion, buffer, size);
}

PUBLIC nvmlReturn_t nvmlSystemGetNVMLVersion(char *buffer, uint32_t size)
{
    return give_version(ID_nvmlSystemGetNVMLVersion, buffer, size);
}

PUBLIC nvmlReturn_t nvmlDeviceGetCount_v2(uint32_t *count)
{
    struct state *state;
    nvmlReturn_t result = enter(ID_nvmlDeviceGetCount, &state);
    if (result != NVML_SUCCESS)
        return result;
    if (count == NULL)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    *count = state->gpu_count;
    return leave(NVML_SUCCESS);
}

/* The last step to a handle: the GPU itself may refuse. */
static nvmlReturn_t give_handle(uint32_t index, enum function function, nvmlDevice_t *device)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device_of(index), function, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    *device = device_of(index);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(uint32_t index, nvmlDevice_t *device)
{
    struct state *state;
    nvmlReturn_t result = enter(ID_nvmlDeviceGetHandleByIndex, &state);
    if (result != NVML_SUCCESS)
        return result;
    if (device == NULL || index >= state->gpu_count)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    leave(NVML_SUCCESS);
    return give_handle(index, ID_nvmlDeviceGetHandleByIndex, device);
}

PUBLIC nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    struct state *state;
    nvmlReturn_t result = enter(ID_nvmlDeviceGetHandleByUUID, &state);
    if (result != NVML_SUCCESS)
        return result;
    if (uuid == NULL || device == NULL)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    uint32_t index = 0;
    while (index < state->gpu_count && strncmp(state->gpus[index].uuid, uuid, TEXT_SIZE) != 0)
        index++;
    int is_known = index < state->gpu_count;
    leave(NVML_SUCCESS);
    return is_known ? give_handle(index, ID_nvmlDeviceGetHandleByUUID, device) : NVML_ERROR_NOT_FOUND;
}

PUBLIC const char *nvmlErrorString(nvmlReturn_t result)
{
    switch (result) {
    case NVML_SUCCESS: return "no error";
    case NVML_ERROR_UNINITIALIZED: return "the library is not initialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "an argument is invalid";
    case NVML_ERROR_NOT_SUPPORTED: return "this GPU does not support it";
    case NVML_ERROR_NO_PERMISSION: return "this user may not do it";
    case NVML_ERROR_NOT_FOUND: return "nothing was found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "a buffer is too small";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "the driver is not loaded";
    case NVML_ERROR_TIMEOUT: return "the time is over";
    case NVML_ERROR_GPU_IS_LOST: return "the GPU is lost";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "library and driver differ in version";
    case NVML_ERROR_MEMORY: return "there is not enough memory";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "a structure has an unknown version";
    case NVML_ERROR_UNKNOWN: break;
    }
    return "an unknown error";
}

#define SIZE(type) "sizeof " #type, sizeof(struct type)
#define FIELD(type, name) #type "." #name, offsetof(struct type, name)
#define FUNCTION(name) {"function " #name, ID_##name},

/* For the test of the Python mirror: sizes, offsets and positions by name, ended by a NULL name. */
PUBLIC const struct layout {
    const char *name;
    size_t value;
} dynawatt_layout[] = {
    {SIZE(fault)},
    {FIELD(fault, result)},
    {FIELD(fault, delay_ms)},
    {FIELD(fault, hangs)},
    {FIELD(fault, calls_left)},
    {FIELD(fault, generation)},
    {SIZE(slot)},
    {FIELD(slot, calls)},
    {FIELD(slot, fault)},
    {SIZE(motion)},
    {FIELD(motion, energy_j)},
    {FIELD(motion, at_ns)},
    {FIELD(motion, next_at_ns)},
    {FIELD(motion, next_clock_mhz)},
    {FIELD(motion, clock_mhz)},
    {FIELD(motion, power_w)},
    {SIZE(gpu)},
    {FIELD(gpu, uuid)},
    {FIELD(gpu, product)},
    {FIELD(gpu, architecture)},
    {FIELD(gpu, lost)},
    {FIELD(gpu, default_clock_mhz)},
    {FIELD(gpu, clock_count)},
    {FIELD(gpu, clocks_mhz)},
    {FIELD(gpu, full_load_w)},
    {FIELD(gpu, idle_w)},
    {FIELD(gpu, load)},
    {FIELD(gpu, memory_clock_count)},
    {FIELD(gpu, memory_clocks_mhz)},
    {FIELD(gpu, application_mhz)},
    {FIELD(gpu, locked)},
    {FIELD(gpu, commands)},
    {FIELD(gpu, motions)},
    {FIELD(gpu, motion)},
    {FIELD(gpu, temperature_c)},
    {FIELD(gpu, reasons)},
    {FIELD(gpu, ecc_errors)},
    {FIELD(gpu, remapped_rows)},
    {FIELD(gpu, remap_pending)},
    {FIELD(gpu, remap_failed)},
    {FIELD(gpu, mig_mode)},
    {FIELD(gpu, mig_pending)},
    {FIELD(gpu, persistence)},
    {FIELD(gpu, compute_mode)},
    {FIELD(gpu, xids_raised)},
    {FIELD(gpu, xids)},
    {FIELD(gpu, functions)},
    {SIZE(state)},
    {FIELD(state, magic)},
    {FIELD(state, version)},
    {FIELD(state, size)},
    {FIELD(state, gpu_count)},
    {FIELD(state, driver_loaded)},
    {FIELD(state, driven)},
    {FIELD(state, reserved)},
    {FIELD(state, commands)},
    {FIELD(state, driver_version)},
    {FIELD(state, nvml_version)},
    {FIELD(state, functions)},
    {FIELD(state, gpus)},
    FUNCTIONS(FUNCTION) /* one line per function */
    {NULL, 0},
};
