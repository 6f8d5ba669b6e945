#include "validate/gpu_cupti.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double sorted_quantile(double *x, int n, double p)
{
    qsort(x, (size_t)n, sizeof *x, compare_double);
    return x[(int)(p * (n - 1) + 0.5)];
}

static void fit_lengths(const double *start, const double *end, double *scratch,
                        struct gpu_cupti_fit *fit)
{
    for (int i = 0; i < fit->n; i++) {
        scratch[i] = start[i] - end[i];
        if (fabs(scratch[i]) > fabs(fit->longer_most_ns))
            fit->longer_most_ns = scratch[i];
    }
    fit->longer_ns = sorted_quantile(scratch, fit->n, 0.5);
}

int gpu_cupti_fit(const struct gpu_record *records, const struct kernel_stamp *stamps,
                  const bool *own, int num, struct gpu_cupti_fit *out)
{
    double *start = calloc((size_t)num * 3 + 1, sizeof *start);
    double *end, *scratch, start_ns, end_ns;
    long long origin = 0; /* keeps differences of two clocks small enough for a double */

    *out = (struct gpu_cupti_fit){0};
    if (!start)
        return ERR_NOMEM;
    end = start + num;
    scratch = end + num;
    for (int i = 0; i < num; i++) {
        if (!own[i] || records[i].kernels != 1 || stamps[i].ctas == 0)
            continue;
        if (!out->n)
            origin = (long long)stamps[i].start_ns - records[i].start_ns;
        start[out->n] = (double)((long long)stamps[i].start_ns - records[i].start_ns - origin);
        end[out->n++] = (double)((long long)stamps[i].end_ns - records[i].end_ns - origin);
    }
    if (out->n) {
        fit_lengths(start, end, scratch, out);
        start_ns = sorted_quantile(start, out->n, 0.5);
        memcpy(scratch, end, (size_t)out->n * sizeof *end);
        end_ns = sorted_quantile(scratch, out->n, 0.5);
        for (int i = 0; i < out->n; i++)
            scratch[i] = fabs(end[i] - end_ns);
        out->spread_ns = sorted_quantile(scratch, out->n, 0.9);
        out->start_ns = origin + llround(start_ns);
        out->end_ns = origin + llround(end_ns);
    }
    free(start);
    return out->n ? 0 : ERR_DATA;
}

#ifdef PEOSIM_CUPTI
#include <cupti.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#define BUFFER_BYTES ((size_t)1 << 20)

/* The functions used, found by name. */
#define CUPTI_FUNCTIONS(X)                                                                         \
    X(cuptiGetVersion)                                                                             \
    X(cuptiGetResultString)                                                                        \
    X(cuptiSubscribe)                                                                              \
    X(cuptiUnsubscribe)                                                                            \
    X(cuptiEnableCallback)                                                                         \
    X(cuptiGetGraphNodeId)                                                                         \
    X(cuptiActivityRegisterCallbacks)                                                              \
    X(cuptiActivityEnable)                                                                         \
    X(cuptiActivityDisable)                                                                        \
    X(cuptiActivityFlushAll)                                                                       \
    X(cuptiActivityGetNextRecord)                                                                  \
    X(cuptiActivityGetNumDroppedRecords)                                                           \
    X(cuptiFinalize)

/* Which tag a graph's node or a launch was made under. */
struct mark {
    unsigned long long key; /* CUPTI's node id, or the launch's correlation id */
    int tag;
};

struct marks {
    struct mark *all;
    size_t num, cap;
};

struct activity {
    unsigned long long node; /* 0: launched without a graph */
    unsigned int correlation;
    long long start_ns, end_ns;
};

struct gpu_cupti {
    void *library;
    uint32_t version;
#define CUPTI_MEMBER(name) __typeof__(name) *name;
    CUPTI_FUNCTIONS(CUPTI_MEMBER)
#undef CUPTI_MEMBER
    CUpti_SubscriberHandle subscriber;
    bool started;
    int tag;
    pthread_mutex_t lock; /* CUPTI may call from threads of its own */
    struct marks nodes, launches;
    struct activity *activity;
    size_t num_activities, cap_activities, lost;
};

/* The one that is started: buffer callbacks bring nothing else to know it by. */
static struct gpu_cupti *listener;

static bool room(void **all, size_t num, size_t *cap, size_t size)
{
    size_t want = *cap ? *cap * 2 : 256;
    void *more;

    if (num < *cap)
        return true;
    more = realloc(*all, want * size);
    if (!more)
        return false;
    *all = more;
    *cap = want;
    return true;
}

static void marks_add(struct gpu_cupti *c, struct marks *m, unsigned long long key, int tag)
{
    if (room((void **)&m->all, m->num, &m->cap, sizeof *m->all))
        m->all[m->num++] = (struct mark){key, tag};
    else
        c->lost++;
}

static int marks_find(const struct marks *m, unsigned long long key)
{
    for (size_t i = m->num; i-- > 0;)
        if (m->all[i].key == key)
            return m->all[i].tag;
    return -1;
}

/* A node is created while its kernel is captured, and cloned when the graph is made executable;
 * records name the clone. Nodes that are created during that have no tag of their own. */
static void on_node(struct gpu_cupti *c, CUpti_CallbackId id, const CUpti_GraphData *g)
{
    uint64_t node = 0, from = 0;
    int tag = c->tag;

    if (c->cuptiGetGraphNodeId(g->node, &node) != CUPTI_SUCCESS) {
        c->lost++;
        return;
    }
    if (id == CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED)
        tag = c->cuptiGetGraphNodeId(g->originalNode, &from) == CUPTI_SUCCESS
                  ? marks_find(&c->nodes, from)
                  : -1;
    if (tag >= 0)
        marks_add(c, &c->nodes, node, tag);
}

static void CUPTIAPI on_callback(void *self, CUpti_CallbackDomain domain, CUpti_CallbackId id,
                                 const void *data)
{
    struct gpu_cupti *c = self;

    pthread_mutex_lock(&c->lock);
    if (domain == CUPTI_CB_DOMAIN_RESOURCE) {
        const CUpti_ResourceData *r = data;

        on_node(c, id, r->resourceDescriptor);
    } else if (domain == CUPTI_CB_DOMAIN_DRIVER_API && c->tag >= 0) {
        const CUpti_CallbackData *call = data;

        if (call->callbackSite == CUPTI_API_ENTER)
            marks_add(c, &c->launches, call->correlationId, c->tag);
    }
    pthread_mutex_unlock(&c->lock);
}

static void CUPTIAPI on_buffer_wanted(uint8_t **buffer, size_t *size, size_t *max_records)
{
    *size = BUFFER_BYTES;
    *max_records = 0;
    *buffer = aligned_alloc(8, BUFFER_BYTES);
}

static void activity_add(struct gpu_cupti *c, const CUpti_ActivityKernel10 *k)
{
    if (!k->start || !k->end ||
        !room((void **)&c->activity, c->num_activities, &c->cap_activities, sizeof *c->activity)) {
        c->lost++;
        return;
    }
    c->activity[c->num_activities++] =
        (struct activity){k->graphNodeId, k->correlationId, (long long)k->start, (long long)k->end};
}

static void CUPTIAPI on_buffer_full(CUcontext context, uint32_t stream, uint8_t *buffer,
                                    size_t size, size_t valid)
{
    struct gpu_cupti *c = listener;
    CUpti_Activity *record = NULL;
    size_t dropped = 0;

    (void)size;
    if (c) {
        pthread_mutex_lock(&c->lock);
        while (valid && c->cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS)
            if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL)
                activity_add(c, (const CUpti_ActivityKernel10 *)(const void *)record);
        if (c->cuptiActivityGetNumDroppedRecords(context, stream, &dropped) == CUPTI_SUCCESS)
            c->lost += dropped;
        pthread_mutex_unlock(&c->lock);
    }
    free(buffer);
}

static void *library_find(void)
{
    static const char *const names[] = {"libcupti.so.13", "libcupti.so"};
    static const char *const folders[] = {"lib64", "lib", "extras/CUPTI/lib64"};
    const char *home = getenv("CUDA_HOME");
    void *found = NULL;
    char path[1024];

    home = home && *home ? home : "/usr/local/cuda";
    for (size_t i = 0; !found && i < sizeof names / sizeof *names; i++)
        found = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; !found && i < sizeof folders / sizeof *folders; i++)
        if ((size_t)snprintf(path, sizeof path, "%s/%s/%s", home, folders[i], names[0]) <
            sizeof path)
            found = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return found;
}

static const char *functions_find(struct gpu_cupti *c)
{
    bool all = true;
    void *at;

/* POSIX lets a pointer from dlsym be called, ISO C has no cast for it. */
#define CUPTI_FIND(name)                                                                           \
    at = dlsym(c->library, #name);                                                                 \
    memcpy(&c->name, &at, sizeof at);                                                              \
    all = all && at;
    CUPTI_FUNCTIONS(CUPTI_FIND)
#undef CUPTI_FIND
    if (!all || c->cuptiGetVersion(&c->version) != CUPTI_SUCCESS)
        return "libcupti lacks functions of CUDA 13";
    return c->version / 10000 == CUPTI_API_VERSION / 10000 ? NULL
                                                           : "libcupti is of another CUDA version";
}

int gpu_cupti_open(struct gpu_cupti **out, const char **why)
{
    struct gpu_cupti *c = calloc(1, sizeof *c);

    *out = NULL;
    if (!c)
        return ERR_NOMEM;
    c->tag = -1;
    c->library = library_find();
    *why = c->library ? functions_find(c) : "libcupti.so.13 is not found";
    if (*why) {
        if (c->library)
            dlclose(c->library);
        free(c);
        return ERR_UNSUPPORTED;
    }
    pthread_mutex_init(&c->lock, NULL);
    *out = c;
    return 0;
}

void gpu_cupti_close(struct gpu_cupti *c)
{
    if (!c)
        return;
    gpu_cupti_stop(c);
    pthread_mutex_destroy(&c->lock);
    free(c->nodes.all);
    free(c->launches.all);
    free(c->activity);
    /* The library stays: the driver may still hold its hooks. */
    free(c);
}

int gpu_cupti_version(const struct gpu_cupti *c)
{
    return (int)c->version;
}

static CUptiResult callbacks_enable(struct gpu_cupti *c)
{
    static const struct {
        CUpti_CallbackDomain domain;
        CUpti_CallbackId id;
    } wanted[] = {
        {CUPTI_CB_DOMAIN_RESOURCE, CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED},
        {CUPTI_CB_DOMAIN_RESOURCE, CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel_ptsz},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx_ptsz},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel_ptsz},
    };
    CUptiResult status = CUPTI_SUCCESS;

    for (size_t i = 0; status == CUPTI_SUCCESS && i < sizeof wanted / sizeof *wanted; i++)
        status = c->cuptiEnableCallback(1, c->subscriber, wanted[i].domain, wanted[i].id);
    return status;
}

int gpu_cupti_start(struct gpu_cupti *c)
{
    const char *text = "unknown error";
    CUptiResult status;

    c->tag = -1;
    c->nodes.num = c->launches.num = c->num_activities = c->lost = 0;
    listener = c;
    status = c->cuptiSubscribe(&c->subscriber, on_callback, c);
    c->started = status == CUPTI_SUCCESS;
    if (status == CUPTI_SUCCESS)
        status = callbacks_enable(c);
    if (status == CUPTI_SUCCESS)
        status = c->cuptiActivityRegisterCallbacks(on_buffer_wanted, on_buffer_full);
    if (status == CUPTI_SUCCESS)
        status = c->cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    if (status == CUPTI_SUCCESS)
        return 0;
    c->cuptiGetResultString(status, &text);
    log_warn("CUPTI does not start: %s", text);
    gpu_cupti_stop(c);
    return ERR_UNSUPPORTED;
}

void gpu_cupti_stop(struct gpu_cupti *c)
{
    if (c && c->started) {
        c->cuptiActivityDisable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
        c->cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
        c->cuptiUnsubscribe(c->subscriber);
        /* Else every later launch of a graph takes 1.2 us more (H200, CUDA 13.0). */
        c->cuptiFinalize();
        c->started = false;
    }
    if (c && listener == c)
        listener = NULL;
}

void gpu_cupti_tag(struct gpu_cupti *c, int tag)
{
    if (c)
        c->tag = tag;
}

static void record_merge(struct gpu_record *r, const struct activity *a)
{
    if (!r->kernels || a->start_ns < r->start_ns)
        r->start_ns = a->start_ns;
    if (!r->kernels || a->end_ns > r->end_ns)
        r->end_ns = a->end_ns;
    r->kernels++;
}

int gpu_cupti_collect(struct gpu_cupti *c, struct gpu_record *records, int num)
{
    CUptiResult status = c->cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    size_t lost;

    memset(records, 0, (size_t)num * sizeof *records);
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->num_activities; i++) {
        const struct activity *a = &c->activity[i];
        int tag =
            a->node ? marks_find(&c->nodes, a->node) : marks_find(&c->launches, a->correlation);

        if (tag >= 0 && tag < num)
            record_merge(&records[tag], a);
    }
    c->num_activities = c->launches.num = 0;
    lost = c->lost;
    c->lost = 0;
    pthread_mutex_unlock(&c->lock);
    if (status == CUPTI_SUCCESS && !lost)
        return 0;
    log_warn("CUPTI has lost %zu records of kernels", lost);
    return ERR_DATA;
}
#else
int gpu_cupti_open(struct gpu_cupti **out, const char **why)
{
    *out = NULL;
    *why = "built without CUPTI's headers";
    return ERR_UNSUPPORTED;
}

void gpu_cupti_close(struct gpu_cupti *c)
{
    (void)c;
}

int gpu_cupti_version(const struct gpu_cupti *c)
{
    (void)c;
    return 0;
}

int gpu_cupti_start(struct gpu_cupti *c)
{
    (void)c;
    return ERR_UNSUPPORTED;
}

void gpu_cupti_stop(struct gpu_cupti *c)
{
    (void)c;
}

void gpu_cupti_tag(struct gpu_cupti *c, int tag)
{
    (void)c, (void)tag;
}

int gpu_cupti_collect(struct gpu_cupti *c, struct gpu_record *records, int num)
{
    (void)c, (void)records, (void)num;
    return ERR_UNSUPPORTED;
}
#endif
