#include "hw/host.h"

#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"

/* The few calls of NVML that are used, by their documented C interface; every one returns 0 for
 * success. https://docs.nvidia.com/deploy/nvml-api/ */
struct nvml_memory {
    unsigned long long total, free, used; /* bytes */
};
struct nvml {
    void *lib;
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *);
    int (*handle)(unsigned, void **);
    int (*name)(void *, char *, unsigned);
    int (*memory)(void *, struct nvml_memory *);
    int (*nvlink)(void *, unsigned, int *);
};

static int nvml_open(struct nvml *n)
{
    static const char *const names[] = {"nvmlInit_v2",
                                        "nvmlShutdown",
                                        "nvmlDeviceGetCount_v2",
                                        "nvmlDeviceGetHandleByIndex_v2",
                                        "nvmlDeviceGetName",
                                        "nvmlDeviceGetMemoryInfo",
                                        "nvmlDeviceGetNvLinkState"};
    void **calls[] = {(void **)&n->init,   (void **)&n->shutdown, (void **)&n->count,
                      (void **)&n->handle, (void **)&n->name,     (void **)&n->memory,
                      (void **)&n->nvlink};

    n->lib = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!n->lib) {
        log_error("this host has no NVIDIA driver (libnvidia-ml.so.1)");
        return ERR_NOTFOUND;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(*calls[i] = dlsym(n->lib, names[i]))) {
            log_error("libnvidia-ml.so.1 lacks %s", names[i]);
            return ERR_IO;
        }
    if (n->init()) {
        log_error("the NVIDIA driver's library does not start");
        return ERR_IO;
    }
    return 0;
}

static int gpus_read(struct nvml *n, struct hw_host *out)
{
    unsigned count = 0;

    if (n->count(&count) || !count) {
        log_error("this host has no NVIDIA GPU");
        return ERR_NOTFOUND;
    }
    for (unsigned i = 0; i < count; i++) {
        struct nvml_memory memory = {0, 0, 0};
        char name[96] = "";
        void *gpu;

        if (n->handle(i, &gpu) || n->name(gpu, name, sizeof name) || n->memory(gpu, &memory)) {
            log_error("GPU %u does not say what it is", i);
            return ERR_IO;
        }
        if (i == 0)
            snprintf(out->gpu, sizeof out->gpu, "%s", name);
        out->mixed |= strcmp(out->gpu, name) != 0;
        out->memory_GB = (double)memory.total / 1e9;
        for (unsigned link = 0; i == 0 && link < 36; link++) {
            int active = 0;

            out->nvlinks += n->nvlink(gpu, link, &active) == 0 && active;
        }
    }
    out->gpus = (int)count;
    return 0;
}

/* "400 Gb/sec (4X NDR)" of a port whose state is "4: ACTIVE". */
static double port_Gbitps(const char *device, const char *port)
{
    char path[512], text[64] = "";
    double Gbitps = 0;
    FILE *f;

    snprintf(path, sizeof path, "/sys/class/infiniband/%s/ports/%s/state", device, port);
    f = fopen(path, "r");
    if (f && !fgets(text, sizeof text, f))
        text[0] = 0;
    if (f)
        fclose(f);
    if (!strstr(text, "ACTIVE"))
        return 0;
    snprintf(path, sizeof path, "/sys/class/infiniband/%s/ports/%s/rate", device, port);
    f = fopen(path, "r");
    if (f && fscanf(f, "%lf", &Gbitps) != 1)
        Gbitps = 0;
    if (f)
        fclose(f);
    return Gbitps;
}

static void nics_read(struct hw_host *out)
{
    DIR *dir = opendir("/sys/class/infiniband");
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        double Gbitps = entry->d_name[0] == '.' ? 0 : port_Gbitps(entry->d_name, "1");

        if (Gbitps <= 0)
            continue;
        out->nics++;
        if (out->nic_Gbitps <= 0 || Gbitps < out->nic_Gbitps)
            out->nic_Gbitps = Gbitps;
    }
    if (dir)
        closedir(dir);
}

int hw_host_read(struct hw_host *out)
{
    struct nvml n = {0};
    int err = nvml_open(&n);

    memset(out, 0, sizeof *out);
    if (!err) {
        err = gpus_read(&n, out);
        n.shutdown();
    }
    if (n.lib)
        dlclose(n.lib);
    if (!err)
        nics_read(out);
    return err;
}

/* Whether a word of the name is the profile's: "H20" is no "H200", "H20-3e" is one with more
 * memory. */
static int name_has(const char *gpu, const char *profile)
{
    size_t len = strlen(profile);

    for (const char *at = gpu; *at; at++) {
        if (at != gpu && at[-1] != ' ')
            continue;
        if (!strncasecmp(at, profile, len) && !isalnum((unsigned char)at[len]))
            return 1;
    }
    return 0;
}

char *hw_host_profile(const char *gpu)
{
    char **names = file_names_installed("hw/profiles/h200.yaml", ".yaml");
    const char *found = NULL;
    char *out = NULL;

    for (size_t i = 0; names && names[i]; i++)
        if (name_has(gpu, names[i]) && (!found || strlen(names[i]) > strlen(found)))
            found = names[i];
    if (found && !strcmp(found, "h20") && strstr(gpu, "H20-3e"))
        found = "h20-141";
    if (found)
        out = strdup(found);
    file_names_free(names);
    return out;
}
