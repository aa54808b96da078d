/* Finding, locking and leaving the shared state; faults are served here, at the start of every call. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HANG_POLL_MS 2u

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* guards all below, and the flock among our threads */
static struct state *shared;
static int descriptor = -1;
static struct stat identity;
static unsigned initialized; /* how often, less how often shut down */
static struct nvmlDevice_st {
    char opaque;
} devices[MAX_GPUS];

int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void sleep_ms(uint32_t milliseconds)
{
    struct timespec left = {.tv_sec = milliseconds / 1000, .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

nvmlDevice_t device_of(uint32_t index)
{
    return &devices[index];
}

static void lock(void)
{
    while (flock(descriptor, LOCK_EX) != 0 && errno == EINTR)
        ;
}

static void unlock(void)
{
    flock(descriptor, LOCK_UN);
}

static nvmlReturn_t refuse(const char *path, const char *why)
{
    fprintf(stderr, "libnvidia-ml of the dynawatt sandbox: %s=%s: %s\n", STATE_VARIABLE, path ? path : "", why);
    return NVML_ERROR_DRIVER_NOT_LOADED;
}

/* Map the file that the environment names. A mapping is kept for good, because a hung call may still use it. */
static nvmlReturn_t attach(void)
{
    const char *path = getenv(STATE_VARIABLE);
    struct stat found;
    if (path == NULL || stat(path, &found) != 0)
        return refuse(path, "no such file");
    if (shared != NULL && found.st_dev == identity.st_dev && found.st_ino == identity.st_ino)
        return NVML_SUCCESS;
    if (found.st_size != (off_t)sizeof(struct state)) {
        refuse(path, "made by another version");
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    }
    int opened = open(path, O_RDWR | O_CLOEXEC);
    if (opened < 0)
        return refuse(path, strerror(errno));
    struct state *mapped = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
    if (mapped == MAP_FAILED) {
        close(opened);
        return NVML_ERROR_MEMORY;
    }
    if (strcmp(mapped->magic, STATE_MAGIC) != 0 || mapped->version != STATE_VERSION ||
        mapped->size != sizeof(struct state) || mapped->gpu_count > MAX_GPUS) {
        munmap(mapped, sizeof(struct state));
        close(opened);
        refuse(path, "made by another version");
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    }
    shared = mapped;
    descriptor = opened;
    identity = found;
    return NVML_SUCCESS;
}

static void take(void)
{
    pthread_mutex_lock(&turn);
    lock();
}

nvmlReturn_t leave(nvmlReturn_t result)
{
    unlock();
    pthread_mutex_unlock(&turn);
    return result;
}

/* Count a call and serve its fault. The state is locked before, and after NVML_SUCCESS; but not while a call waits. */
static nvmlReturn_t serve(struct slot *slot)
{
    slot->calls++;
    struct fault fault = slot->fault;
    if (fault.calls_left == 0)
        return NVML_SUCCESS;
    if (fault.calls_left != UINT32_MAX)
        slot->fault.calls_left--;
    leave(NVML_SUCCESS);
    sleep_ms(fault.delay_ms);
    while (fault.hangs && __atomic_load_n(&slot->fault.generation, __ATOMIC_ACQUIRE) == fault.generation)
        sleep_ms(HANG_POLL_MS);
    if (fault.result != NVML_SUCCESS)
        return (nvmlReturn_t)fault.result;
    take();
    return NVML_SUCCESS;
}

struct state *shared_state(void)
{
    return shared;
}

nvmlReturn_t enter(enum function function, struct state **state)
{
    pthread_mutex_lock(&turn);
    if (initialized == 0) {
        pthread_mutex_unlock(&turn);
        return NVML_ERROR_UNINITIALIZED;
    }
    lock();
    *state = shared;
    return serve(&shared->functions[function]);
}

nvmlReturn_t enter_device(nvmlDevice_t device, enum function function, struct gpu **gpu)
{
    pthread_mutex_lock(&turn);
    if (initialized == 0 || device < devices || device >= devices + shared->gpu_count) {
        nvmlReturn_t result = initialized == 0 ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_INVALID_ARGUMENT;
        pthread_mutex_unlock(&turn);
        return result;
    }
    lock();
    *gpu = &shared->gpus[device - devices];
    nvmlReturn_t result = serve(&(*gpu)->functions[function]);
    if (result == NVML_SUCCESS && (*gpu)->lost)
        return leave(NVML_ERROR_GPU_IS_LOST);
    return result;
}

/* Comes before all others, so it cannot use enter(). */
static nvmlReturn_t initialize(void)
{
    pthread_mutex_lock(&turn);
    nvmlReturn_t result = initialized == 0 ? attach() : NVML_SUCCESS;
    if (result != NVML_SUCCESS) {
        pthread_mutex_unlock(&turn);
        return result;
    }
    lock();
    result = serve(&shared->functions[ID_nvmlInit]);
    if (result != NVML_SUCCESS)
        return result;
    if (!shared->driver_loaded)
        return leave(NVML_ERROR_DRIVER_NOT_LOADED);
    initialized++;
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    return initialize();
}

PUBLIC nvmlReturn_t nvmlInit_v2(void)
{
    return initialize();
}

PUBLIC nvmlReturn_t nvmlShutdown(void)
{
    struct state *state;
    nvmlReturn_t result = enter(ID_nvmlShutdown, &state);
    if (result != NVML_SUCCESS)
        return result;
    initialized--;
    return leave(NVML_SUCCESS);
}
