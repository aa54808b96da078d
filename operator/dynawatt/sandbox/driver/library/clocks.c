/* Clocks: what is supported, what is set, and the power and energy that follow. */
#include "state.h"

#define CLOCK_CHANGE_NS 50000000 /* DynamoLLM (HPCA 2025) measures 50 to 80 ms per change */

static double power_w(const struct gpu *gpu, uint32_t clock_mhz)
{
    double full_w = gpu->idle_w;
    for (uint32_t i = 0; i < gpu->clock_count && gpu->clocks_mhz[i] <= clock_mhz; i++)
        full_w = gpu->full_load_w[i];
    return gpu->idle_w + gpu->load * (full_w - gpu->idle_w);
}

static void integrate(const struct gpu *gpu, struct motion *motion, int64_t until_ns)
{
    motion->power_w = power_w(gpu, motion->clock_mhz);
    if (until_ns > motion->at_ns) {
        motion->energy_j += motion->power_w * (double)(until_ns - motion->at_ns) * 1e-9;
        motion->at_ns = until_ns;
    }
}

struct motion motion_now(const struct gpu *gpu)
{
    struct motion motion = gpu->motions[gpu->motion & 1];
    if (shared_state()->driven)
        return motion;
    int64_t now_ns = monotonic_ns();
    if (motion.next_clock_mhz != 0 && motion.next_at_ns <= now_ns) {
        integrate(gpu, &motion, motion.next_at_ns);
        motion.clock_mhz = motion.next_clock_mhz;
        motion.next_clock_mhz = 0;
    }
    integrate(gpu, &motion, now_ns);
    return motion;
}

/* The clock that what is set leads to; locked clocks go before application clocks. */
static uint32_t target_mhz(const struct gpu *gpu)
{
    uint32_t limit_mhz = gpu->application_mhz != 0 ? gpu->application_mhz : gpu->default_clock_mhz;
    if (gpu->locked != 0)
        limit_mhz = (uint32_t)gpu->locked;
    uint32_t target_mhz = gpu->clocks_mhz[0];
    for (uint32_t i = 0; i < gpu->clock_count && gpu->clocks_mhz[i] <= limit_mhz; i++)
        target_mhz = gpu->clocks_mhz[i];
    return target_mhz;
}

/* After a change of what is set. A change that is still under way is led to the new clock. */
static void change_clock(struct gpu *gpu)
{
    struct state *state = shared_state();
    if (!state->driven) {
        struct motion motion = motion_now(gpu);
        if (motion.next_clock_mhz == 0)
            motion.next_at_ns = motion.at_ns + CLOCK_CHANGE_NS;
        motion.next_clock_mhz = target_mhz(gpu);
        gpu->motions[~gpu->motion & 1] = motion;
        __atomic_store_n(&gpu->motion, ~gpu->motion & 1, __ATOMIC_RELEASE);
    }
    gpu->commands++;
    __atomic_add_fetch(&state->commands, 1, __ATOMIC_RELEASE);
}

PUBLIC nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, uint32_t *count, uint32_t *clocks_mhz)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceGetSupportedMemoryClocks, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (count == NULL)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    uint32_t room = *count;
    *count = gpu->memory_clock_count;
    if (clocks_mhz == NULL || room < gpu->memory_clock_count)
        return leave(NVML_ERROR_INSUFFICIENT_SIZE);
    for (uint32_t i = 0; i < gpu->memory_clock_count; i++)
        clocks_mhz[i] = gpu->memory_clocks_mhz[i];
    return leave(NVML_SUCCESS);
}

/* How many of the ascending clocks go with a memory clock: all with the highest, the lowest with others, else none. */
static uint32_t clocks_at(const struct gpu *gpu, uint32_t memory_mhz)
{
    for (uint32_t i = 0; i < gpu->memory_clock_count; i++)
        if (gpu->memory_clocks_mhz[i] == memory_mhz)
            return i == 0 ? gpu->clock_count : 1;
    return 0;
}

PUBLIC nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, uint32_t memory_mhz, uint32_t *count,
                                                         uint32_t *clocks_mhz)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceGetSupportedGraphicsClocks, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (count == NULL)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    uint32_t room = *count;
    uint32_t available = clocks_at(gpu, memory_mhz);
    if (available == 0)
        return leave(NVML_ERROR_NOT_FOUND);
    *count = available;
    if (clocks_mhz == NULL || room < available)
        return leave(NVML_ERROR_INSUFFICIENT_SIZE);
    for (uint32_t i = 0; i < available; i++)
        clocks_mhz[i] = gpu->clocks_mhz[available - 1 - i];
    return leave(NVML_SUCCESS);
}

#ifndef WITHOUT_LOCKED_CLOCKS

static int is_symbolic(uint32_t limit)
{
    return limit == NVML_CLOCK_LIMIT_ID_TDP || limit == NVML_CLOCK_LIMIT_ID_UNLIMITED;
}

PUBLIC nvmlReturn_t nvmlDeviceSetGpuLockedClocks(nvmlDevice_t device, uint32_t min_mhz, uint32_t max_mhz)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceSetGpuLockedClocks, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    uint32_t lowest_mhz = gpu->clocks_mhz[0], highest_mhz = gpu->clocks_mhz[gpu->clock_count - 1];
    if (is_symbolic(min_mhz) && is_symbolic(max_mhz)) { /* one of them alone falls through and is out of range */
        min_mhz = min_mhz == NVML_CLOCK_LIMIT_ID_TDP ? gpu->default_clock_mhz : lowest_mhz;
        max_mhz = max_mhz == NVML_CLOCK_LIMIT_ID_TDP ? gpu->default_clock_mhz : highest_mhz;
    }
    if (min_mhz < lowest_mhz || min_mhz > max_mhz || max_mhz > highest_mhz)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    __atomic_store_n(&gpu->locked, (uint64_t)min_mhz << 32 | max_mhz, __ATOMIC_RELEASE);
    change_clock(gpu);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceResetGpuLockedClocks(nvmlDevice_t device)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceResetGpuLockedClocks, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    __atomic_store_n(&gpu->locked, 0, __ATOMIC_RELEASE);
    change_clock(gpu);
    return leave(NVML_SUCCESS);
}

#endif
#ifndef WITHOUT_APPLICATIONS_CLOCKS

PUBLIC nvmlReturn_t nvmlDeviceSetApplicationsClocks(nvmlDevice_t device, uint32_t memory_mhz, uint32_t clock_mhz)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceSetApplicationsClocks, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    uint32_t available = clocks_at(gpu, memory_mhz), i = 0;
    while (i < available && gpu->clocks_mhz[i] != clock_mhz)
        i++;
    if (i == available)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    __atomic_store_n(&gpu->application_mhz, clock_mhz, __ATOMIC_RELEASE);
    change_clock(gpu);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceResetApplicationsClocks(nvmlDevice_t device)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceResetApplicationsClocks, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    __atomic_store_n(&gpu->application_mhz, 0, __ATOMIC_RELEASE);
    change_clock(gpu);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, uint32_t type, uint32_t *clock_mhz)
{
    struct gpu *gpu;
    nvmlReturn_t result = enter_device(device, ID_nvmlDeviceGetDefaultApplicationsClock, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (clock_mhz == NULL || type > NVML_CLOCK_MEM)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    *clock_mhz = type == NVML_CLOCK_MEM ? gpu->memory_clocks_mhz[0] : gpu->default_clock_mhz;
    return leave(NVML_SUCCESS);
}

#endif
