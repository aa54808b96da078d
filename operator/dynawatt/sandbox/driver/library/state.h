/* The state of all simulated GPUs of one node: a file that every process maps.
 *
 * Whoever loads the library is a client of the "driver"; a test or the node simulator is the "hardware". Both see the
 * file through a shared mapping, so that it outlives each of them, as clocks outlive a killed process on a real GPU.
 *
 * Processes take turns by flock() on the file, threads of one process by a mutex. The kernel drops the flock of a
 * process that is killed; that is enough because no change can be left half done: a range of clocks is one aligned
 * 64-bit word, and clock, power and energy change together by switching to the other one of two copies.
 *
 * sandbox/driver/layout.py mirrors the structures; a test compares every offset.
 */
#ifndef DYNAWATT_STATE_H
#define DYNAWATT_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "nvml.h"

#define STATE_VARIABLE "DYNAWATT_NVML_STATE"
#define STATE_MAGIC "DWNVML"
#define STATE_VERSION 1u

#define MAX_GPUS 16u
#define MAX_CLOCKS 256u
#define MAX_MEMORY_CLOCKS 4u
#define MAX_XIDS 16u
#define TEXT_SIZE 96u

/* Every function whose calls are counted and can be made to fail. */
#define FUNCTIONS(X) \
    X(nvmlInit) \
    X(nvmlShutdown) \
    X(nvmlSystemGetDriverVersion) \
    X(nvmlSystemGetNVMLVersion) \
    X(nvmlDeviceGetCount) \
    X(nvmlDeviceGetHandleByIndex) \
    X(nvmlDeviceGetHandleByUUID) \
    X(nvmlDeviceGetIndex) \
    X(nvmlDeviceGetUUID) \
    X(nvmlDeviceGetName) \
    X(nvmlDeviceGetArchitecture) \
    X(nvmlDeviceGetSupportedMemoryClocks) \
    X(nvmlDeviceGetSupportedGraphicsClocks) \
    X(nvmlDeviceGetClockInfo) \
    X(nvmlDeviceGetPowerUsage) \
    X(nvmlDeviceGetTotalEnergyConsumption) \
    X(nvmlDeviceGetTemperature) \
    X(nvmlDeviceGetTemperatureV) \
    X(nvmlDeviceGetCurrentClocksEventReasons) \
    X(nvmlDeviceGetCurrentClocksThrottleReasons) \
    X(nvmlDeviceSetGpuLockedClocks) \
    X(nvmlDeviceResetGpuLockedClocks) \
    X(nvmlDeviceSetApplicationsClocks) \
    X(nvmlDeviceResetApplicationsClocks) \
    X(nvmlDeviceGetDefaultApplicationsClock) \
    X(nvmlDeviceGetTotalEccErrors) \
    X(nvmlDeviceGetRemappedRows) \
    X(nvmlDeviceGetPersistenceMode) \
    X(nvmlDeviceGetMigMode) \
    X(nvmlDeviceGetComputeMode) \
    X(nvmlEventSetCreate) \
    X(nvmlEventSetFree) \
    X(nvmlDeviceRegisterEvents) \
    X(nvmlDeviceGetSupportedEventTypes) \
    X(nvmlEventSetWait)

#define FUNCTION_ID(name) ID_##name,
enum function { FUNCTIONS(FUNCTION_ID) FUNCTION_COUNT };

/* What is done to calls of one function. */
struct fault {
    uint32_t result;     /* returned instead of doing it; 0 does it */
    uint32_t delay_ms;   /* slept first */
    uint32_t hangs;      /* then waits until generation changes */
    uint32_t calls_left; /* 0: no fault; UINT32_MAX: every call */
    uint64_t generation; /* counts changes of this fault */
};

struct slot {
    uint64_t calls; /* counted when they begin */
    struct fault fault;
};

/* What follows from clock and load: always valid as a whole. */
struct motion {
    double energy_j;
    int64_t at_ns; /* of CLOCK_MONOTONIC: until when energy_j is integrated */
    int64_t next_at_ns;
    uint32_t next_clock_mhz; /* from next_at_ns on; 0: no change is under way */
    uint32_t clock_mhz;
    double power_w;
};

struct gpu {
    char uuid[TEXT_SIZE];
    char product[TEXT_SIZE];
    uint32_t architecture;
    uint32_t lost;
    uint32_t default_clock_mhz;
    uint32_t clock_count;
    uint32_t clocks_mhz[MAX_CLOCKS]; /* ascending */
    double full_load_w[MAX_CLOCKS];  /* by clock */
    double idle_w;
    double load; /* 0 to 1: power is idle_w + load * (full_load_w - idle_w) */
    uint32_t memory_clock_count;
    uint32_t memory_clocks_mhz[MAX_MEMORY_CLOCKS]; /* descending */
    uint32_t application_mhz;                      /* 0: the default */
    uint64_t locked;                               /* min_mhz << 32 | max_mhz; 0: not locked */
    uint64_t commands;                             /* successful changes of the two above */
    struct motion motions[2];
    uint32_t motion; /* which one is valid */
    int32_t temperature_c;
    uint64_t reasons;          /* why the clock is low, beside what clocks and load tell */
    uint64_t ecc_errors[2][2]; /* by type (corrected, uncorrected) and counter (volatile, aggregate) */
    uint32_t remapped_rows[2]; /* by type */
    uint32_t remap_pending;
    uint32_t remap_failed;
    uint32_t mig_mode;
    uint32_t mig_pending;
    uint32_t persistence;
    uint32_t compute_mode;
    uint64_t xids_raised;
    uint64_t xids[MAX_XIDS]; /* a ring: the n-th is at n % MAX_XIDS */
    struct slot functions[FUNCTION_COUNT];
};

struct state {
    char magic[8];
    uint32_t version;
    uint32_t size;
    uint32_t gpu_count;
    uint32_t driver_loaded;
    uint32_t driven; /* another process writes motions; else they follow from clock and load */
    uint32_t reserved;
    uint64_t commands; /* of all GPUs: changes whenever one of theirs does */
    char driver_version[TEXT_SIZE];
    char nvml_version[TEXT_SIZE];
    struct slot functions[FUNCTION_COUNT]; /* those that concern no single GPU */
    struct gpu gpus[MAX_GPUS];
};

#define PUBLIC __attribute__((visibility("default")))

/* Begin a call that concerns no single GPU. After NVML_SUCCESS the state is locked until leave(). */
nvmlReturn_t enter(enum function function, struct state **state);

/* Begin a call on one GPU; as enter(). */
nvmlReturn_t enter_device(nvmlDevice_t device, enum function function, struct gpu **gpu);

/* End a call: unlock the state and hand on the result. */
nvmlReturn_t leave(nvmlReturn_t result);

/* Handles stand for positions in the list of GPUs. */
nvmlDevice_t device_of(uint32_t index);

int64_t monotonic_ns(void);
void sleep_ms(uint32_t milliseconds);

/* The shared state, mapped by nvmlInit and for good. */
struct state *shared_state(void);

/* Clock, power and energy now. The state must be locked. */
struct motion motion_now(const struct gpu *gpu);

#endif
