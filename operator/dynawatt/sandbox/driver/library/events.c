/* Event sets: each remembers how many XID errors of each GPU it has seen, so that every client gets all of them. */
#include "state.h"

#include <stdlib.h>

#define POLL_MS 20u

struct nvmlEventSet_st {
    uint32_t registered; /* a bit per GPU */
    uint64_t seen[MAX_GPUS];
};

PUBLIC nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
    struct state *state;
    nvmlReturn_t result = enter(ID_nvmlEventSetCreate, &state);
    if (result != NVML_SUCCESS)
        return result;
    if (set == NULL)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    *set = calloc(1, sizeof(**set));
    return leave(*set != NULL ? NVML_SUCCESS : NVML_ERROR_MEMORY);
}

PUBLIC nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
    struct state *state;
    nvmlReturn_t result = enter(ID_nvmlEventSetFree, &state);
    if (result != NVML_SUCCESS)
        return result;
    if (set == NULL)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    free(set);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceRegisterEvents, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (set == NULL)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    if ((types & ~NVML_EVENT_XID_CRITICAL_ERROR) != 0)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    uint32_t index = (uint32_t)(gpu - shared_state()->gpus);
    if (types != 0) {
        set->registered |= 1u << index;
        set->seen[index] = gpu->xids_raised;
    }
    return leave(NVML_SUCCESS);
}

/* The next event that is there, or NVML_ERROR_TIMEOUT. Takes no lock: the counter is stored after the XID. */
static nvmlReturn_t next_event(struct state *state, nvmlEventSet_t set, nvmlEventData_t *data)
{
    for (uint32_t index = 0; index < state->gpu_count; index++) {
        struct gpu *gpu = &state->gpus[index];
        uint64_t raised = __atomic_load_n(&gpu->xids_raised, __ATOMIC_ACQUIRE);
        if ((set->registered >> index & 1) == 0)
            continue;
        if (raised != set->seen[index]) {
            if (raised - set->seen[index] > MAX_XIDS)
                set->seen[index] = raised - MAX_XIDS; /* older ones are overwritten */
            *data = (nvmlEventData_t){
                .device = device_of(index),
                .type = NVML_EVENT_XID_CRITICAL_ERROR,
                .data = gpu->xids[set->seen[index]++ % MAX_XIDS],
                .gpu_instance = NVML_NO_INSTANCE,
                .compute_instance = NVML_NO_INSTANCE,
            };
            return NVML_SUCCESS;
        }
        if (__atomic_load_n(&gpu->lost, __ATOMIC_ACQUIRE))
            return NVML_ERROR_GPU_IS_LOST;
    }
    return NVML_ERROR_TIMEOUT;
}

PUBLIC nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, uint32_t timeout_ms)
{
    struct state *state;
    nvmlReturn_t result = enter(ID_nvmlEventSetWait, &state);
    if (result != NVML_SUCCESS)
        return result;
    leave(NVML_SUCCESS);
    if (set == NULL || data == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    int64_t until_ns = monotonic_ns() + (int64_t)timeout_ms * 1000000;
    while ((result = next_event(state, set, data)) == NVML_ERROR_TIMEOUT) {
        int64_t left_ms = (until_ns - monotonic_ns()) / 1000000;
        if (left_ms <= 0)
            break;
        sleep_ms(left_ms < POLL_MS ? (uint32_t)left_ms : POLL_MS);
    }
    return result;
}
