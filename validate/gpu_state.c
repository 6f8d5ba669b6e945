#include "validate/gpu_state.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdlib.h>

#include "trace/gpu_result.h"

#define MOST_PROCESSES 64
/* NVML's reasons for a lower clock that no load explains: hardware slowdown, thermal limits set by
 * software and by hardware, power brake. */
#define REASONS (0x08ull | 0x20ull | 0x40ull | 0x80ull)

typedef void *nvml_device;

/* As of NVML 11 (version 3 of the call). */
struct nvml_process {
    unsigned pid;
    unsigned long long used_bytes;
    unsigned gpu_instance, compute_instance;
};

struct gpu_state {
    void *library;
    nvml_device device;
    int (*reasons)(nvml_device, unsigned long long *);
    int (*processes)(nvml_device, unsigned *, struct nvml_process *);
};

static int device_find(struct gpu_state *s, int device)
{
    int (*init)(void) = (int (*)(void))dlsym(s->library, "nvmlInit_v2");
    int (*by_bus)(const char *, nvml_device *) =
        (int (*)(const char *, nvml_device *))dlsym(s->library, "nvmlDeviceGetHandleByPciBusId_v2");
    char bus[64];

    if (!init || !by_bus || init() || cudaDeviceGetPCIBusId(bus, sizeof bus, device) != cudaSuccess)
        return -1;
    return by_bus(bus, &s->device);
}

struct gpu_state *gpu_state_open(int device)
{
    struct gpu_state *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!s->library || device_find(s, device)) {
        gpu_state_close(s);
        return NULL;
    }
    s->reasons = (int (*)(nvml_device, unsigned long long *))dlsym(
        s->library, "nvmlDeviceGetCurrentClocksThrottleReasons");
    s->processes = (int (*)(nvml_device, unsigned *, struct nvml_process *))dlsym(
        s->library, "nvmlDeviceGetComputeRunningProcesses_v3");
    return s;
}

void gpu_state_close(struct gpu_state *s)
{
    if (s && s->library)
        dlclose(s->library);
    free(s);
}

unsigned gpu_state_look(const struct gpu_state *s)
{
    struct nvml_process process[MOST_PROCESSES];
    unsigned long long reasons = 0;
    unsigned count = MOST_PROCESSES, found = 0;

    if (!s)
        return 0;
    if (s->reasons && s->reasons(s->device, &reasons) == 0 && reasons & REASONS)
        found |= GPU_THROTTLED;
    if (s->processes && s->processes(s->device, &count, process) == 0 && count > 1)
        found |= GPU_SHARED;
    return found;
}
