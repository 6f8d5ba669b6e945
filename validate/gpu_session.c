#include "validate/gpu_session.h"

#include <errno.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/stats.h"
#include "base/watch.h"
#include "kernels/delay.h"
#include "validate/gpu_cupti.h"
#include "validate/gpu_state.h"

#ifndef PEOSIM_COMMIT
#define PEOSIM_COMMIT ""
#endif

#define GATHER_CHUNK ((size_t)8192)
#define GAP_KERNELS  12
#define GiB          1073741824.0
#define LEAST_FREE   (1 * GiB) /* for NCCL, its windows of control, and the kernels' code */

bool gpu_built(void)
{
    return true;
}

int gpu_check(cudaError_t status, const char *what, const char *file, int line)
{
    if (status == cudaSuccess)
        return 0;
    log_error("%s:%d: %s: %s", file, line, what, cudaGetErrorString(status));
    return ERR_GPU;
}

/* What is too much is named beside what there is. */
int gpu_alloc(void **out, size_t bytes)
{
    size_t free_bytes = 0, total_bytes = 0;
    cudaError_t status = cudaMalloc(out, bytes + 256);
    int err;

    if (status == cudaErrorMemoryAllocation && cudaGetLastError() == status &&
        cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess) {
        log_error("the GPU is full: %.2f of %.1f GiB are free, and %.2f GiB more are needed",
                  (double)free_bytes / GiB, (double)total_bytes / GiB, (double)bytes / GiB);
        return ERR_GPU;
    }
    err = gpu_check(status, "cudaMalloc", __FILE__, __LINE__);

    return err ? err : GPU(cudaMemset(*out, 0xff, bytes + 256));
}

int gpu_upload(void *to, const void *from, size_t bytes)
{
    return GPU(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}

/* Asks until what is waited for has come; stream or event. */
static int wait_for(struct gpu_session *s, cudaStream_t stream, cudaEvent_t event)
{
    double deadline = watch_now_s() + GPU_WAIT_S;
    cudaError_t status;

    do {
        status = event ? cudaEventQuery(event) : cudaStreamQuery(stream);
        if (status != cudaErrorNotReady)
            return gpu_check(status, "kernels", __FILE__, __LINE__);
        usleep(20);
    } while (watch_now_s() < deadline);
    log_error("rank %d: the GPU has not finished within %.0f s", s->rank, GPU_WAIT_S);
    return ERR_TIMEOUT;
}

int gpu_mark_launch(cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct delay_args a = {.ctas = 1, .stamp = stamp};

    return stamp ? kernels_delay_launch(&a, stream) : 0;
}

int gpu_wait_event(struct gpu_session *s, cudaEvent_t event)
{
    return wait_for(s, NULL, event);
}

int gpu_wait(struct gpu_session *s, cudaStream_t stream)
{
    int err = wait_for(s, stream, NULL);

    if (!err && s->layer && s->layer->comm)
        err = kernels_comm_status(s->layer->comm);
    return err;
}

int gpu_drain(struct gpu_session *s, const char *what)
{
    struct watch w;
    int err = watch_begin(&w, GPU_DRAIN_S, "rank %d waited for the GPU to be idle before %s",
                          s->rank, what);

    if (err)
        return err;
    err = GPU(cudaDeviceSynchronize());
    watch_end(&w);
    return err;
}

int gpu_gather(struct gpu_session *s, const void *mine, void *all, size_t bytes)
{
    char *chunk = malloc(GATHER_CHUNK * (size_t)s->ranks);
    int err = chunk ? 0 : ERR_NOMEM;

    for (size_t at = 0; !err && at < bytes; at += GATHER_CHUNK) {
        size_t n = bytes - at < GATHER_CHUNK ? bytes - at : GATHER_CHUNK;

        err = kernels_comm_gather(s->control, (const char *)mine + at, chunk, n);
        for (int r = 0; !err && r < s->ranks; r++)
            memcpy((char *)all + (size_t)r * bytes + at, chunk + (size_t)r * n, n);
    }
    free(chunk);
    return err;
}

int gpu_agree(struct gpu_session *s, int err)
{
    int all[GPU_MAX_RANKS] = {0};
    int gathered = gpu_gather(s, &err, all, sizeof err);

    for (int r = 0; !gathered && r < s->ranks; r++)
        if (all[r] && !err)
            err = all[r];
    return gathered ? gathered : err;
}

int gpu_clocks(struct gpu_session *s)
{
    int err = kernels_comm_clocks(s->control, s->clock_offset_ns, s->clock_trip_ns);

    /* Only rank 0's pings count: every rank was given what rank 0 measured. */
    if (!err && s->pace_offset_ns)
        err = gpu_upload(s->pace_offset_ns, s->clock_offset_ns,
                         (size_t)s->ranks * sizeof *s->clock_offset_ns);
    return err;
}

/* Before anything waits for this rank: a GPU that others have filled is named. */
static int room_check(const struct gpu_session *s)
{
    size_t free_bytes = 0, total_bytes = 0;
    int err = GPU(cudaMemGetInfo(&free_bytes, &total_bytes));

    if (err || (double)free_bytes >= LEAST_FREE)
        return err;
    log_error("rank %d: GPU %d is full: %.2f of %.1f GiB are free; %.0f GiB are needed before any "
              "layer",
              s->rank, s->device, (double)free_bytes / GiB, (double)total_bytes / GiB,
              LEAST_FREE / GiB);
    return ERR_GPU;
}

/* Which GPU of this host. A launcher may show each process its own GPU alone. */
static int device_of(struct gpu_session *s, int count)
{
    int local = s->team->local_rank >= 0 ? s->team->local_rank : s->rank;

    if (local < count || (!s->team->spawned && (count == 1 || s->team->local_rank < 0))) {
        s->device = local % count;
        return 0;
    }
    log_error("rank %d of %d is process %d of its host, which has %d GPU%s", s->rank, s->ranks,
              local + 1, count, count == 1 ? "" : "s");
    return ERR_UNSUPPORTED;
}

static int device_choose(struct gpu_session *s)
{
    struct cudaDeviceProp prop;
    int count = 0, err = 0;
    cudaError_t status = cudaGetDeviceCount(&count);

    if (status != cudaSuccess || count < 1) {
        log_error("rank %d: there is no GPU that CUDA can use%s%s", s->rank,
                  status != cudaSuccess ? ": " : "",
                  status != cudaSuccess ? cudaGetErrorString(status) : "");
        err = ERR_UNSUPPORTED;
    }
    if (!err)
        err = device_of(s, count);
    if (!err)
        err = GPU(cudaSetDevice(s->device));
    if (!err)
        err = GPU(cudaGetDeviceProperties(&prop, s->device));
    if (!err && (prop.major != 9 || prop.minor != 0)) {
        log_error("%s is sm_%d%d; the kernels are written for sm_90a (H100, H200, H800, H20) only",
                  prop.name, prop.major, prop.minor);
        err = ERR_UNSUPPORTED;
    }
    if (!err)
        s->sm_count = prop.multiProcessorCount;
    return err;
}

static int control_open(struct gpu_session *s)
{
    unsigned char id[KERNELS_COMM_ID_BYTES] = {0};
    struct kernels_comm_config config = {.shape = {.ranks = s->ranks,
                                                   .rank = s->rank,
                                                   .vranks = s->ranks,
                                                   .experts = s->ranks,
                                                   .hidden = 512,
                                                   .topk = 1,
                                                   .max_tokens = 1,
                                                   .fp8 = 1},
                                         .host_wait_s = GPU_WAIT_S,
                                         .experimental_gin = s->experimental_gin};
    int err;

    gpu_team_id_forget(s->team); /* of a run that ended early */
    err = s->rank == 0 ? kernels_comm_id(id) : 0;
    if (!err)
        err = gpu_team_id_share(s->team, id, GPU_WAIT_S);
    if (!err)
        err = kernels_comm_open(&s->control, &config, id);
    gpu_team_id_forget(s->team);
    return err;
}

/* Runs a graph of empty kernels in a row and looks at the time between their stamps. */
static int gap_measure(struct gpu_session *s)
{
    struct kernel_stamp stamps[GAP_KERNELS], *device = NULL;
    double gap[GAP_KERNELS - 1];
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    bool capturing = false;
    int err = gpu_alloc((void **)&device, sizeof stamps);

    if (!err)
        err = GPU(cudaStreamBeginCapture(s->main, cudaStreamCaptureModeThreadLocal));
    capturing = !err;
    for (int i = 0; !err && i < GAP_KERNELS; i++) {
        struct delay_args a = {.ctas = s->sm_count, .stamp = device + i};

        err = kernels_delay_launch(&a, s->main);
    }
    if (capturing) { /* or the stream is of no more use */
        int end = GPU(cudaStreamEndCapture(s->main, &graph));

        err = err ? err : end;
    }
    if (!err)
        err = GPU(cudaGraphInstantiate(&exec, graph, 0));
    for (int turn = 0; !err && turn < 3; turn++) {
        for (int i = 0; i < GAP_KERNELS; i++)
            stamp_reset(&stamps[i]);
        err = gpu_upload(device, stamps, sizeof stamps);
        if (!err)
            err = GPU(cudaGraphLaunch(exec, s->main));
        if (!err)
            err = gpu_wait(s, s->main);
    }
    if (!err)
        err = GPU(cudaMemcpy(stamps, device, sizeof stamps, cudaMemcpyDeviceToHost));
    for (int i = 0; !err && i + 1 < GAP_KERNELS; i++)
        gap[i] = (double)(long long)(stamps[i + 1].start_ns - stamps[i].end_ns);
    s->gap_ns = err ? 0 : stats_median(gap, GAP_KERNELS - 1);
    if (exec)
        cudaGraphExecDestroy(exec);
    if (graph)
        cudaGraphDestroy(graph);
    cudaFree(device);
    return err;
}

int gpu_session_open(struct gpu_session **out, struct gpu_team *team, bool experimental_gin)
{
    struct gpu_session *s = calloc(1, sizeof *s);
    int err = s ? 0 : ERR_NOMEM, most = 0, least = 0;

    *out = NULL;
    if (err)
        return err;
    s->team = team;
    s->rank = team->rank;
    s->ranks = team->ranks;
    s->experimental_gin = experimental_gin;
    if (s->ranks < 1 || s->ranks > GPU_MAX_RANKS || s->rank < 0 || s->rank >= s->ranks) {
        log_error("rank %d of %d: not possible", s->rank, s->ranks);
        err = ERR_RANGE;
    }
    if (!err)
        err = device_choose(s);
    if (!err)
        err = room_check(s);
    if (!err)
        s->state = gpu_state_open(s->device);
    if (!err)
        err = GPU(cudaDeviceGetStreamPriorityRange(&least, &most));
    if (!err)
        err = GPU(cudaStreamCreateWithPriority(&s->main, cudaStreamNonBlocking, most));
    if (!err)
        err = control_open(s);
    if (!err)
        err = gpu_alloc((void **)&s->pace_offset_ns, GPU_MAX_RANKS * sizeof *s->pace_offset_ns);
    if (!err)
        err = gpu_clocks(s);
    if (!err)
        err = gap_measure(s);
    *out = s;
    if (gpu_session_failed(s, err)) {
        gpu_session_close(s);
        *out = NULL;
    }
    return err;
}

int gpu_session_failed(struct gpu_session *s, int err)
{
    if (err && err != ERR_UNSUPPORTED && err != ERR_INFEASIBLE)
        s->failed = true;
    return err;
}

void gpu_session_close(struct gpu_session *s)
{
    if (!s)
        return;
    if (s->failed) { /* closing is collective, and the others may be gone: the process ends anyway
                      */
        free(s);
        return;
    }
    gpu_layer_close(s);
    for (int i = 0; i < s->num_dense; i++)
        kernels_dense_gemm_close(s->dense[i].gemm);
    kernels_comm_close(s->control);
    gpu_cupti_close(s->cupti);
    gpu_state_close(s->state);
    cudaFree(s->pace_offset_ns);
    if (s->main)
        cudaStreamDestroy(s->main);
    free(s);
}

void gpu_versions(const struct gpu_session *s, char *buf, size_t size)
{
    struct cudaDeviceProp prop = {0};
    int driver = 0, runtime = 0, nccl = 0;

    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    ncclGetVersion(&nccl);
    cudaGetDeviceProperties(&prop, s->device);
    snprintf(buf, size, "%s, driver for CUDA %d.%d, CUDA %d.%d, NCCL %d.%d.%d, %d GPUs", prop.name,
             driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, nccl / 10000,
             nccl / 100 % 100, nccl % 100, s->ranks);
}

/* "580.159.04": the first word of the driver's line that begins with a digit. */
static void driver_version(char *buf, size_t size)
{
    FILE *f = fopen("/proc/driver/nvidia/version", "r");
    char line[256] = "", *rest = NULL;

    snprintf(buf, size, "unknown");
    if (f && fgets(line, sizeof line, f))
        for (char *w = strtok_r(line, " \t\n", &rest); w; w = strtok_r(NULL, " \t\n", &rest))
            if (*w >= '0' && *w <= '9' && strchr(w, '.')) {
                snprintf(buf, size, "%s", w);
                break;
            }
    if (f)
        fclose(f);
}

void gpu_versions_comment(const struct gpu_session *s, FILE *f)
{
    struct cudaDeviceProp prop = {0};
    int runtime = 0, nccl = 0;
    char driver[32];

    driver_version(driver, sizeof driver);
    cudaRuntimeGetVersion(&runtime);
    ncclGetVersion(&nccl);
    cudaGetDeviceProperties(&prop, s->device);
    fprintf(f, "# gpus: %d x %s\n# driver: %s\n# cuda: %d.%d\n# nccl: %d.%d.%d\n", s->ranks,
            prop.name, driver, runtime / 1000, runtime % 1000 / 10, nccl / 10000, nccl / 100 % 100,
            nccl % 100);
    if (PEOSIM_COMMIT[0])
        fprintf(f, "# commit: %s\n", PEOSIM_COMMIT);
}

int gpu_comm_open(struct gpu_session *s, const struct gpu_shape *shape, size_t scratch_bytes,
                  struct kernels_comm **out)
{
    unsigned char mine[KERNELS_COMM_ID_BYTES] = {0};
    unsigned char all[GPU_MAX_RANKS * KERNELS_COMM_ID_BYTES];
    struct kernels_comm_config config = {.shape = {.ranks = s->ranks,
                                                   .rank = s->rank,
                                                   .vranks = shape->vranks,
                                                   .experts = shape->experts,
                                                   .hidden = shape->hidden,
                                                   .topk = shape->topk,
                                                   .max_tokens = shape->max_tokens,
                                                   .fp8 = shape->fp8,
                                                   .dedup = shape->dedup},
                                         .scratch_bytes = scratch_bytes,
                                         .host_wait_s = GPU_WAIT_S,
                                         .experimental_gin = s->experimental_gin};
    int err = s->rank == 0 ? kernels_comm_id(mine) : 0;

    err = gpu_agree(s, err);
    if (!err)
        err = gpu_gather(s, mine, all, sizeof mine);
    if (!err)
        err = kernels_comm_open(out, &config, all);
    return err;
}
