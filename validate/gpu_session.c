#include "validate/gpu_session.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "kernels/comm_ref.h"
#include "kernels/delay.h"

#ifndef PEOSIM_COMMIT
#define PEOSIM_COMMIT ""
#endif

#define GATHER_CHUNK ((size_t)8192)
#define ID_WAIT_S    60.0
#define GAP_KERNELS  12

int gpu_check(cudaError_t status, const char *what, const char *file, int line)
{
    if (status == cudaSuccess)
        return 0;
    log_error("%s:%d: %s: %s", file, line, what, cudaGetErrorString(status));
    return ERR_GPU;
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int gpu_alloc(void **out, size_t bytes)
{
    int err = GPU(cudaMalloc(out, bytes + 256));

    return err ? err : GPU(cudaMemset(*out, 0xff, bytes + 256));
}

int gpu_upload(void *to, const void *from, size_t bytes)
{
    return GPU(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}

int gpu_wait(struct gpu_session *s, cudaStream_t stream)
{
    double deadline = now_s() + GPU_WAIT_S;
    cudaError_t status;
    int err = 0;

    while ((status = cudaStreamQuery(stream)) == cudaErrorNotReady && now_s() < deadline)
        usleep(20);
    if (status == cudaErrorNotReady) {
        log_error("rank %d: the GPU has not finished within %.0f s", s->rank, GPU_WAIT_S);
        return ERR_TIMEOUT;
    }
    err = gpu_check(status, "kernels", __FILE__, __LINE__);
    if (!err && s->layer && s->layer->comm)
        err = kernels_comm_status(s->layer->comm);
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

/* Reads NCCL's id from the file that rank 0 writes, whole or not at all. */
static int id_from_file(const char *path, unsigned char id[KERNELS_COMM_ID_BYTES])
{
    double deadline = now_s() + ID_WAIT_S;

    while (now_s() < deadline) {
        FILE *f = fopen(path, "rb");
        size_t n = f ? fread(id, 1, KERNELS_COMM_ID_BYTES, f) : 0;

        if (f)
            fclose(f);
        if (n == KERNELS_COMM_ID_BYTES)
            return 0;
        usleep(20000);
    }
    log_error("%s: rank 0 has not written NCCL's id within %.0f s", path, ID_WAIT_S);
    return ERR_TIMEOUT;
}

static int id_to_file(const char *path, const unsigned char id[KERNELS_COMM_ID_BYTES])
{
    char part[600];
    FILE *f;
    int err;

    snprintf(part, sizeof part, "%s.part", path);
    f = fopen(part, "wb");
    err = f && fwrite(id, 1, KERNELS_COMM_ID_BYTES, f) == KERNELS_COMM_ID_BYTES ? 0 : ERR_IO;
    if (f && fclose(f))
        err = ERR_IO;
    if (!err && rename(part, path))
        err = ERR_IO;
    if (err)
        log_error("%s: %s", path, strerror(errno));
    return err;
}

static int id_exchange(struct gpu_team *team, unsigned char id[KERNELS_COMM_ID_BYTES])
{
    int err = 0;

    if (team->rank == 0) {
        if (team->id_fd < 0)
            unlink(team->id_path); /* of a run that ended early */
        err = kernels_comm_id(id);
        if (!err && team->id_fd < 0)
            err = id_to_file(team->id_path, id);
        else if (!err && write(team->id_fd, id, KERNELS_COMM_ID_BYTES) != KERNELS_COMM_ID_BYTES)
            err = ERR_IO;
    } else if (team->id_fd < 0) {
        err = id_from_file(team->id_path, id);
    } else if (read(team->id_fd, id, KERNELS_COMM_ID_BYTES) != KERNELS_COMM_ID_BYTES) {
        err = ERR_IO; /* rank 0 has failed and says why */
    }
    if (team->id_fd >= 0)
        close(team->id_fd);
    team->id_fd = -1;
    return err;
}

static int device_choose(struct gpu_session *s)
{
    struct cudaDeviceProp prop;
    int count = 0, err = 0;
    cudaError_t status = cudaGetDeviceCount(&count);

    if (status != cudaSuccess || count < 1) {
        log_error("there is no GPU that CUDA can use%s%s", status != cudaSuccess ? ": " : "",
                  status != cudaSuccess ? cudaGetErrorString(status) : "");
        err = ERR_UNSUPPORTED;
    }
    if (!err && s->team->id_path[0] == '\0' && s->ranks > count) {
        log_error("%d ranks need %d GPUs; this host has %d", s->ranks, s->ranks, count);
        err = ERR_UNSUPPORTED;
    }
    if (err)
        return err;
    s->device = (s->team->local_rank >= 0 ? s->team->local_rank : s->rank) % count;
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
    unsigned char id[KERNELS_COMM_ID_BYTES];
    struct kernels_comm_config config = {.shape = {.ranks = s->ranks,
                                                   .rank = s->rank,
                                                   .vranks = s->ranks,
                                                   .experts = s->ranks,
                                                   .hidden = 512,
                                                   .topk = 1,
                                                   .max_tokens = 1,
                                                   .fp8 = 1}};
    int err = id_exchange(s->team, id);

    if (!err)
        err = kernels_comm_open(&s->control, &config, id);
    if (s->rank == 0 && s->team->id_path[0])
        unlink(s->team->id_path); /* all have read it, or nobody may any more */
    return err;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Runs a graph of empty kernels in a row and looks at the time between their stamps. */
static int gap_measure(struct gpu_session *s)
{
    struct kernel_stamp stamps[GAP_KERNELS], *device = NULL;
    double gap[GAP_KERNELS - 1];
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    int err = gpu_alloc((void **)&device, sizeof stamps);

    if (!err)
        err = GPU(cudaStreamBeginCapture(s->main, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; !err && i < GAP_KERNELS; i++) {
        struct delay_args a = {.ctas = s->sm_count, .stamp = device + i};

        err = kernels_delay_launch(&a, s->main);
    }
    if (!err)
        err = GPU(cudaStreamEndCapture(s->main, &graph));
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
    for (int i = 0; i + 1 < GAP_KERNELS; i++)
        gap[i] = (double)(long long)(stamps[i + 1].start_ns - stamps[i].end_ns);
    qsort(gap, GAP_KERNELS - 1, sizeof *gap, compare_double);
    s->gap_ns = err ? 0 : gap[GAP_KERNELS / 2];
    if (exec)
        cudaGraphExecDestroy(exec);
    if (graph)
        cudaGraphDestroy(graph);
    cudaFree(device);
    return err;
}

int gpu_session_open(struct gpu_session **out, struct gpu_team *team)
{
    struct gpu_session *s = calloc(1, sizeof *s);
    int err = s ? 0 : ERR_NOMEM, most = 0, least = 0;

    *out = NULL;
    if (err)
        return err;
    s->team = team;
    s->rank = team->rank;
    s->ranks = team->ranks;
    if (s->ranks < 1 || s->ranks > GPU_MAX_RANKS || s->rank < 0 || s->rank >= s->ranks) {
        log_error("rank %d of %d: not possible", s->rank, s->ranks);
        err = ERR_RANGE;
    }
    if (!err)
        err = device_choose(s);
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
    if (err) {
        gpu_session_close(s);
        return err;
    }
    *out = s;
    return 0;
}

void gpu_session_close(struct gpu_session *s)
{
    if (!s)
        return;
    gpu_layer_close(s);
    for (int i = 0; i < s->num_dense; i++)
        kernels_dense_gemm_close(s->dense[i].gemm);
    kernels_comm_close(s->control);
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

static void half_close(struct gpu_half *h)
{
    void *all[] = {h->packed_x, h->packed_scales, h->sources,    h->rows,     h->segments,
                   h->gate_up,  h->act,           h->act_scales, h->y_packed, h->units};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cudaFree(all[i]);
    memset(h, 0, sizeof *h);
}

struct half_part {
    void **p;
    size_t bytes;
    bool values; /* 0xff makes NaNs; the others are indices and counts, where 0 means none */
};

#define HALF_PARTS 10

static void half_parts(struct gpu_layer *l, int parity, struct half_part part[HALF_PARTS])
{
    struct gpu_half *h = &l->half[parity];
    size_t rows = (size_t)l->slots.experts_local * (size_t)l->slots.rows_max;
    size_t hidden = (size_t)l->shape.hidden, inter = (size_t)l->shape.inter;
    size_t locals = (size_t)l->slots.experts_local, width = l->shape.fp8 ? 1 : 2;
    size_t units = (rows / 64 + locals) * sizeof *h->units;
    struct half_part all[HALF_PARTS] = {
        {&h->packed_x, rows * hidden * width, true},
        {(void **)&h->packed_scales, rows * hidden / 128 * 4, true},
        {(void **)&h->sources, rows * sizeof *h->sources, false},
        {(void **)&h->rows, locals * sizeof *h->rows, false},
        {(void **)&h->segments, locals * (size_t)l->shape.vranks * sizeof *h->segments, false},
        {&h->gate_up, rows * inter * 4, true},
        {&h->act, rows * inter * width, true},
        {(void **)&h->act_scales, rows * inter / 128 * 4, true},
        {&h->y_packed, rows * hidden * 2, true},
        {(void **)&h->units, units, false}};

    memcpy(part, all, sizeof all);
}

int gpu_half_open(struct gpu_session *s, int parity)
{
    struct gpu_half *h = &s->layer->half[parity];
    struct half_part part[HALF_PARTS];
    int err = 0;

    if (h->packed_x)
        return 0;
    half_parts(s->layer, parity, part);
    for (int i = 0; !err && i < HALF_PARTS; i++) {
        err = gpu_alloc(part[i].p, part[i].bytes);
        if (!err && !part[i].values)
            err = GPU(cudaMemset(*part[i].p, 0, part[i].bytes));
    }
    if (err) /* or the next plan would take it for whole */
        half_close(h);
    return err;
}

int gpu_layer_poison(struct gpu_session *s, bool lists, cudaStream_t stream)
{
    struct gpu_layer *l = s->layer;
    struct half_part part[HALF_PARTS];
    int err = GPU(cudaMemsetAsync(
        l->y, 0xff, (size_t)l->shape.max_tokens * (size_t)l->shape.hidden * 2, stream));

    for (int h = 0; h < 2 && l->half[h].packed_x; h++) {
        half_parts(l, h, part);
        for (int i = 0; !err && i < HALF_PARTS; i++)
            if (part[i].values || (lists && part[i].p != (void **)&l->half[h].units))
                err = GPU(
                    cudaMemsetAsync(*part[i].p, part[i].values ? 0xff : 0, part[i].bytes, stream));
    }
    return err ? err : kernels_comm_poison(l->comm, stream);
}

/* Every expert's matrices, from its window of the base. */
static int weights_upload(struct gpu_session *s)
{
    struct gpu_layer *l = s->layer;
    const struct data_weights *w = &l->weights;
    int locals = l->slots.experts_local;
    unsigned char *base = NULL;
    int err = gpu_alloc((void **)&base, w->base_bytes);

    if (!err)
        err = gpu_upload(base, w->base, w->base_bytes);
    for (int m = DATA_UP; !err && m <= DATA_DOWN; m++) {
        size_t bytes = data_matrix_bytes(w, m), scales = data_matrix_scales(w, m);
        void **to = m == DATA_UP ? &l->w_up : &l->w_down;
        float **to_scales = m == DATA_UP ? &l->w_up_scales : &l->w_down_scales;

        err = gpu_alloc(to, bytes * (size_t)locals);
        if (!err)
            err = gpu_alloc((void **)to_scales, scales * (size_t)locals * sizeof(float));
        for (int e = 0; !err && e < locals; e++) {
            int set = s->rank * locals + e;

            err = GPU(cudaMemcpy((char *)*to + bytes * (size_t)e,
                                 base + data_weights_offset(w, set, m), bytes,
                                 cudaMemcpyDeviceToDevice));
            if (!err)
                err = gpu_upload(*to_scales + scales * (size_t)e,
                                 w->scales + data_weights_scale_offset(set, m),
                                 scales * sizeof(float));
        }
    }
    cudaFree(base);
    return err;
}

static void dense_memory_close(struct gpu_dense_memory *d)
{
    void *all[] = {d->x,    d->up,       d->down,      d->gate_up,     d->act,
                   d->out,  d->x_scales, d->up_scales, d->down_scales, d->act_scales,
                   d->rows, d->router,   d->logits};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cudaFree(all[i]);
    memset(d, 0, sizeof *d);
}

/* Fills device memory with the weights' random bytes, or with scales of ones to the power of two.
 */
static int fill_random(struct gpu_layer *l, void *to, size_t bytes)
{
    int err = 0;

    for (size_t at = 0; !err && at < bytes; at += l->weights.base_bytes) {
        size_t n = bytes - at < l->weights.base_bytes ? bytes - at : l->weights.base_bytes;

        err = gpu_upload((char *)to + at, l->weights.base, n);
    }
    return err;
}

static int fill_scales(struct gpu_layer *l, float *to, size_t count)
{
    int err = 0;

    for (size_t at = 0; !err && at < count; at += l->weights.scale_count) {
        size_t n = count - at < l->weights.scale_count ? count - at : l->weights.scale_count;

        err = gpu_upload(to + at, l->weights.scales, n * sizeof *to);
    }
    return err;
}

int gpu_dense_open(struct gpu_session *s, int inter)
{
    struct gpu_layer *l = s->layer;
    struct gpu_dense_memory *d = &l->dense;
    size_t hidden = (size_t)l->shape.hidden, tokens = (size_t)l->shape.max_tokens;
    size_t wide = (size_t)(inter > 0 ? inter : 128);
    struct {
        void **p;
        size_t bytes;
        bool scales;
    } want[] = {{&d->x, tokens * hidden * 2, false},
                {&d->up, 2 * wide * hidden * 2, false},
                {&d->down, wide * hidden * 2, false},
                {&d->gate_up, tokens * wide * 4, false},
                {&d->act, tokens * wide * 2, false},
                {&d->out, tokens * hidden * 2, false},
                {(void **)&d->x_scales, tokens * hidden / 128 * 4, true},
                {(void **)&d->up_scales, 2 * wide * hidden / 128 * 4, true},
                {(void **)&d->down_scales, wide * hidden / 128 * 4, true},
                {(void **)&d->act_scales, tokens * wide / 128 * 4 + 4, true},
                {(void **)&d->rows, sizeof *d->rows, false},
                {&d->router, (size_t)l->shape.experts * hidden * 2, false},
                {&d->logits, tokens * (size_t)l->shape.experts * 2, false}};
    int err = 0;

    if (d->x && d->inter >= inter)
        return 0;
    dense_memory_close(d);
    d->inter = inter;
    for (size_t i = 0; !err && i < sizeof want / sizeof *want; i++) {
        err = gpu_alloc(want[i].p, want[i].bytes);
        if (!err && want[i].scales)
            err = fill_scales(l, *want[i].p, want[i].bytes / sizeof(float));
        else if (!err)
            err = fill_random(l, *want[i].p, want[i].bytes);
    }
    if (err)
        dense_memory_close(d);
    return err;
}

void gpu_dense_room(struct gpu_session *s, int wanted)
{
    if (s->num_dense + wanted <= GPU_MAX_DENSE)
        return;
    for (int i = 0; i < s->num_dense; i++)
        kernels_dense_gemm_close(s->dense[i].gemm);
    s->num_dense = 0;
}

int gpu_dense_find(struct gpu_session *s, struct dense_gemm_shape shape,
                   struct gpu_dense_entry **out)
{
    static const enum dense_scaling scalings[] = {DENSE_SCALE_BLOCK, DENSE_SCALE_TENSOR,
                                                  DENSE_SCALE_NONE};
    struct gpu_dense_entry *e;
    int err = ERR_UNSUPPORTED;

    for (int i = 0; i < s->num_dense; i++) {
        const struct dense_gemm_shape *have = &s->dense[i].shape;

        if (have->m == shape.m && have->n == shape.n && have->k == shape.k &&
            have->num_sms == shape.num_sms &&
            (shape.dtype == GEMM_FP8 || have->dtype == GEMM_BF16)) {
            *out = &s->dense[i];
            return 0;
        }
    }
    if (s->num_dense == GPU_MAX_DENSE) { /* earlier ops hold the entries: none may be closed */
        log_error("more than %d different library GEMMs in one plan", GPU_MAX_DENSE);
        return ERR_UNSUPPORTED;
    }
    e = &s->dense[s->num_dense];
    for (size_t i = 0; err == ERR_UNSUPPORTED && i < sizeof scalings / sizeof *scalings; i++) {
        e->shape = shape;
        e->shape.scaling = scalings[i];
        e->shape.dtype = scalings[i] == DENSE_SCALE_NONE ? GEMM_BF16 : GEMM_FP8;
        if (shape.dtype == GEMM_BF16 && scalings[i] != DENSE_SCALE_NONE)
            continue;
        if (scalings[i] == DENSE_SCALE_BLOCK && (shape.n % 128 || shape.k % 512))
            continue;
        err = kernels_dense_gemm_open(&e->gemm, &e->shape);
    }
    if (err) {
        log_error("cuBLASLt has no GEMM for %d x %d x %d", shape.m, shape.n, shape.k);
        return err;
    }
    *out = e;
    s->num_dense++;
    return 0;
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
                                                   .fp8 = shape->fp8},
                                         .scratch_bytes = scratch_bytes};
    int err = s->rank == 0 ? kernels_comm_id(mine) : 0;

    err = gpu_agree(s, err);
    if (!err)
        err = gpu_gather(s, mine, all, sizeof mine);
    if (!err)
        err = kernels_comm_open(out, &config, all);
    return err;
}

static bool shape_same(const struct gpu_shape *a, const struct gpu_shape *b)
{
    return a->vranks == b->vranks && a->experts == b->experts && a->hidden == b->hidden &&
           a->inter == b->inter && a->topk == b->topk && a->max_tokens == b->max_tokens &&
           a->fp8 == b->fp8;
}

int gpu_layer_open(struct gpu_session *s, const struct gpu_shape *shape, uint64_t seed)
{
    struct gpu_layer *l;
    size_t tokens = (size_t)shape->max_tokens, hidden = (size_t)shape->hidden;
    size_t choices = tokens * (size_t)shape->topk;
    int err;

    if (s->layer && shape_same(&s->layer->shape, shape))
        return 0;
    gpu_layer_close(s);
    l = s->layer = calloc(1, sizeof *l);
    if (!l)
        return ERR_NOMEM;
    l->shape = *shape;
    err = gpu_comm_open(s, shape, 0, &l->comm);
    if (!err)
        l->slots = *kernels_comm_slots(l->comm);
    if (!err)
        err = data_weights_open(&l->weights, shape->hidden, shape->inter, shape->fp8, seed);
    if (!err)
        err = weights_upload(s);
    if (!err)
        err = gpu_half_open(s, 0);
    if (!err)
        err = gpu_alloc(&l->x, tokens * hidden * 2);
    if (!err)
        err = gpu_alloc(&l->y, tokens * hidden * 2);
    if (!err)
        err = gpu_alloc((void **)&l->topk_idx, choices * sizeof *l->topk_idx);
    if (!err)
        err = gpu_alloc((void **)&l->topk_weights, choices * sizeof *l->topk_weights);
    err = gpu_agree(s, err);
    if (err) /* or the next plan of this shape would run on what was never allocated */
        gpu_layer_close(s);
    return err;
}

static void inputs_close(struct gpu_layer *l)
{
    free(l->inputs.x);
    free(l->inputs.weight);
    free(l->expert);
    free(l->ref_token);
    free(l->ref);
    memset(&l->inputs, 0, sizeof l->inputs);
    l->expert = NULL;
    l->ref_token = NULL;
    l->ref = NULL;
    l->num_ref = 0;
    l->inputs_key = 0;
}

void gpu_layer_close(struct gpu_session *s)
{
    struct gpu_layer *l = s->layer;

    if (!l)
        return;
    cudaDeviceSynchronize();
    for (int i = 0; i < 2; i++)
        half_close(&l->half[i]);
    dense_memory_close(&l->dense);
    inputs_close(l);
    data_weights_close(&l->weights);
    void *all[] = {l->w_up, l->w_down, l->w_up_scales, l->w_down_scales,
                   l->x,    l->y,      l->topk_idx,    l->topk_weights};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cudaFree(all[i]);
    kernels_comm_close(l->comm);
    free(l);
    s->layer = NULL;
}

int gpu_inputs(struct gpu_session *s, const struct plan_routing *routing, int tokens, uint64_t seed)
{
    struct gpu_layer *l = s->layer;
    size_t choices = (size_t)tokens * (size_t)routing->topk;
    size_t values = (size_t)tokens * (size_t)l->shape.hidden;
    const int32_t *expert = routing->expert + (size_t)s->rank * choices;
    uint64_t key = data_hash(seed ^ (uint64_t)tokens, expert, choices * sizeof *expert);
    uint64_t state = seed * 1000003 + (uint64_t)s->rank;
    int err;

    if (l->inputs_key == key)
        return 0;
    inputs_close(l);
    l->inputs.tokens = tokens;
    l->inputs.topk = routing->topk;
    l->inputs.x = malloc(values * sizeof *l->inputs.x);
    l->inputs.weight = malloc(choices * sizeof *l->inputs.weight);
    l->expert = malloc(choices * sizeof *l->expert);
    if (!l->inputs.x || !l->inputs.weight || !l->expert)
        return ERR_NOMEM;
    memcpy(l->expert, expert, choices * sizeof *expert);
    l->inputs.expert = l->expert;
    data_fill(l->inputs.x, values, false, 1.0, &state);
    for (int t = 0; t < tokens; t++) {
        float *w = l->inputs.weight + (size_t)t * (size_t)routing->topk;
        double sum = 0;

        for (int k = 0; k < routing->topk; k++)
            sum += w[k] = (float)(0.1 + data_uniform(&state));
        for (int k = 0; k < routing->topk; k++)
            w[k] = (float)(w[k] / sum);
    }
    err = gpu_upload(l->x, l->inputs.x, values * sizeof *l->inputs.x);
    if (!err)
        err = gpu_upload(l->topk_idx, l->expert, choices * sizeof *l->expert);
    if (!err)
        err = gpu_upload(l->topk_weights, l->inputs.weight, choices * sizeof(float));
    if (!err)
        l->inputs_key = key;
    return err;
}

/* The reference of up to `sample` tokens, spread over the batch; kept with the inputs. */
static int reference_make(struct gpu_session *s, int sample)
{
    struct gpu_layer *l = s->layer;
    int tokens = l->inputs.tokens, num = sample > 0 && sample < tokens ? sample : tokens;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (l->ref && l->num_ref == num)
        return 0;
    free(l->ref);
    free(l->ref_token);
    l->ref = malloc((size_t)num * (size_t)l->shape.hidden * sizeof *l->ref);
    l->ref_token = malloc((size_t)num * sizeof *l->ref_token);
    if (!l->ref || !l->ref_token)
        return ERR_NOMEM;
    l->num_ref = num;
    for (int i = 0; i < num; i++)
        l->ref_token[i] = (int)((long)i * tokens / num);
    return data_reference(&l->weights, &l->slots, &l->inputs, l->ref_token, num,
                          (int)(cores / s->ranks), l->ref);
}

int gpu_output_check(struct gpu_session *s, int sample, double *worst, int *checked, uint64_t *hash)
{
    struct gpu_layer *l = s->layer;
    int hidden = l->shape.hidden;
    size_t bytes = (size_t)l->inputs.tokens * (size_t)hidden * 2;
    uint16_t *y = malloc(bytes);
    int err = y ? 0 : ERR_NOMEM;

    *worst = 0;
    if (!err)
        err = reference_make(s, sample);
    if (!err)
        err = GPU(cudaMemcpy(y, l->y, bytes, cudaMemcpyDeviceToHost));
    for (int i = 0; !err && i < l->num_ref; i++) {
        double d = comm_ref_distance(y + (size_t)l->ref_token[i] * (size_t)hidden,
                                     l->ref + (size_t)i * (size_t)hidden, hidden);

        if (isnan(d) || d > *worst) /* a NaN stays: no comparison beats it */
            *worst = isnan(d) ? INFINITY : d;
    }
    *checked = l->num_ref;
    *hash = err ? 0 : data_hash(DATA_HASH_START, y, bytes);
    free(y);
    return err;
}
