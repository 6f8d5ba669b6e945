/* The exchange on real GPUs: right results for every schedule, or speeds (--bench DIR: everything;
 * --csv FILE: only the figures that have an anchor, added to the file with their ratios). One
 * process per GPU. Inputs are drawn anew in each run; --seed repeats one. Prints "skipped" where
 * there is no GPU. */
#include <math.h>
#include <stdarg.h>
#include "tests/gpu/speed.h"
#include "tests/gpu/world.h"
#include "kernels/comm.h"
#include "kernels/comm_ref.h"
#include "kernels/delay.h"

#define MAX_POINTS 400

struct options {
    int rank, ranks;
    const char *bench_dir, *csv;
    unsigned int seed;
    int quick; /* few cases, for the sanitizer */
    int replays;
    double deadline_s; /* of each wait on the device */
};

/* The kernels of two exchanges at once, by launch order: who ran when, should one wait in vain. */
struct trail {
    struct kernel_stamp *stamps; /* device; NULL: none is kept */
    const char *names[64];
    int parity[64], count;
};

/* What one exchange works in; one per parity. */
struct buffers {
    void *packed_x;
    float *packed_scales;
    struct kernels_row_source *sources;
    int *rows;
    int2 *segments;
    void *y_packed;
    void *y;
    unsigned int *units;
    size_t packed_bytes, y_packed_bytes, y_bytes, scale_bytes, units_bytes;
};

struct env {
    struct options opt;
    struct kernels_comm *comm;
    struct slots slots;
    cudaStream_t main, side;
    cudaEvent_t event[2];
    struct buffers buf[2];
    void *x, *idx32, *idx64;
    float *weights, *factors;
    uint16_t *host_x, *host_y, *first_y;
    void *log; /* device: y of every exchange of a row of replays */
    int *host_idx;
    float *host_weights;
    double *ref;
    int points;
    struct trail trail;
};

/* How an exchange is run. */
struct how {
    int rounds, num_sms, fused, sbo, parity, idx_bytes;
    enum kernels_copy copy;
    unsigned int delay_ns;
    struct kernels_pacing pacing;
};

static void die(const struct env *e, const char *file, int line, const char *what)
{
    fprintf(stderr, "rank %d: %s:%d: failed: %s\n", e->opt.rank, file, line, what);
    if (e->comm != NULL)
        kernels_comm_status(e->comm);
    _exit(1);
}

#define CHECK(e, condition)                                                                        \
    do {                                                                                           \
        if (!(condition))                                                                          \
            die(e, __FILE__, __LINE__, #condition);                                                \
    } while (0)

static void *device_alloc(const struct env *e, size_t bytes)
{
    void *p = NULL;
    CHECK(e, cudaMalloc(&p, bytes + 256) == cudaSuccess);
    CHECK(e, cudaMemset(p, 0, bytes + 256) == cudaSuccess);
    return p;
}

static void *host_alloc(const struct env *e, size_t bytes)
{
    void *p = calloc(1, bytes);
    CHECK(e, p != NULL);
    return p;
}

static unsigned int rng_next(unsigned long long *state)
{
    *state += 0x9e3779b97f4a7c15ull;
    unsigned long long z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (unsigned int)((z ^ (z >> 31)) >> 16);
}

static double rng_uniform(unsigned long long *state)
{
    return (rng_next(state) + 0.5) / 4294967296.0;
}

static float factor_of(int gpu, int local)
{
    return 0.5f + (float)((gpu * 131 + local * 17) % 64) / 64.0f;
}

enum block { BLOCK_M = 64, TILES = 7 };

/* One stretch of replays over the same inputs, and the exchanges in each. */
enum stretch { STRETCH = 50, LAYERS = 4 };

static void buffers_open(struct env *e, struct buffers *b)
{
    const struct slots *s = &e->slots;
    size_t rows = (size_t)s->experts_local * (size_t)s->rows_max;
    size_t hidden = (size_t)s->shape.hidden;
    b->packed_bytes = rows * s->payload_bytes;
    b->scale_bytes = rows * hidden / SLOTS_CHANNELS * 4;
    b->y_packed_bytes = rows * hidden * 2;
    b->y_bytes = (size_t)s->shape.max_tokens * hidden * 2;
    b->units_bytes = (rows / BLOCK_M + (size_t)s->experts_local) * 4;
    b->packed_x = device_alloc(e, b->packed_bytes);
    b->packed_scales = device_alloc(e, b->scale_bytes);
    b->sources = device_alloc(e, rows * sizeof(*b->sources));
    b->rows = device_alloc(e, (size_t)s->experts_local * sizeof(int));
    b->segments = device_alloc(e, (size_t)s->shape.experts * sizeof(int2));
    b->y_packed = device_alloc(e, b->y_packed_bytes);
    b->y = device_alloc(e, b->y_bytes);
    b->units = device_alloc(e, b->units_bytes);
}

static void buffers_close(struct buffers *b)
{
    void *all[] = {b->packed_x, b->packed_scales, b->sources, b->rows,
                   b->segments, b->y_packed,      b->y,       b->units};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        cudaFree(all[i]);
}

static void env_open(struct env *e, struct slots_shape shape, size_t scratch, long long timeout_ns,
                     const unsigned char *id)
{
    shape.ranks = e->opt.ranks;
    shape.rank = e->opt.rank;
    struct kernels_comm_config config = {
        .shape = shape,
        .scratch_bytes = scratch,
        .timeout_ns = timeout_ns > 0 ? timeout_ns : (long long)(e->opt.deadline_s * 1e9)};
    CHECK(e, kernels_comm_open(&e->comm, &config, id) == 0);
    e->slots = *kernels_comm_slots(e->comm);
    for (int i = 0; i < 2; i++)
        buffers_open(e, &e->buf[i]);
    size_t tokens = (size_t)shape.max_tokens, hidden = (size_t)shape.hidden;
    size_t choices = tokens * (size_t)shape.topk;
    e->x = device_alloc(e, tokens * hidden * 2);
    e->idx32 = device_alloc(e, choices * 4);
    e->idx64 = device_alloc(e, choices * 8);
    e->weights = device_alloc(e, choices * 4);
    e->factors = device_alloc(e, (size_t)e->slots.experts_local * 4);
    e->host_x = host_alloc(e, tokens * hidden * 2);
    e->host_y = host_alloc(e, tokens * hidden * 2);
    e->first_y = host_alloc(e, tokens * hidden * 2);
    e->host_idx = host_alloc(e, choices * 4);
    e->host_weights = host_alloc(e, choices * 4);
    e->ref = host_alloc(e, tokens * hidden * sizeof(double));
    e->log = device_alloc(e, STRETCH * LAYERS * e->buf[0].y_bytes);
    float factors[SLOTS_MAX_EXPERTS];
    for (int i = 0; i < e->slots.experts_local; i++)
        factors[i] = factor_of(e->opt.rank, i);
    CHECK(e, cudaMemcpy(e->factors, factors, (size_t)e->slots.experts_local * 4,
                        cudaMemcpyHostToDevice) == cudaSuccess);
}

static void env_close(struct env *e)
{
    kernels_comm_close(e->comm);
    e->comm = NULL;
    for (int i = 0; i < 2; i++)
        buffers_close(&e->buf[i]);
    void *device[] = {e->x, e->idx32, e->idx64, e->weights, e->factors, e->log};
    for (size_t i = 0; i < sizeof(device) / sizeof(device[0]); i++)
        cudaFree(device[i]);
    void *host[] = {e->host_x, e->host_y, e->first_y, e->host_idx, e->host_weights, e->ref};
    for (size_t i = 0; i < sizeof(host) / sizeof(host[0]); i++)
        free(host[i]);
}

enum routing { UNIFORM, SKEWED, ONE_RANK, ONE_EXPERT, MASKED, ROUTINGS };

/* The choices of a token, all different. */
static void choose_experts(const struct env *e, enum routing routing, int token,
                           unsigned long long *rng, int *out)
{
    int experts = e->slots.shape.experts, topk = e->slots.shape.topk;
    int few = topk + 1 < experts ? topk + 1 : experts;
    int start = (int)(rng_next(rng) % 2);
    for (int k = 0; k < topk; k++) {
        if (routing == ONE_EXPERT) { /* all tokens of all ranks, and nothing else */
            out[k] = k == 0 ? experts / 2 : -1;
        } else if (routing == SKEWED) { /* few experts get all, most none */
            out[k] = (start + k) % few;
        } else if (routing == ONE_RANK) { /* one rank's experts, as far as it has so many */
            out[k] = (token % e->slots.shape.vranks * e->slots.experts_local + k) % experts;
        } else {
            int taken;
            do {
                out[k] = (int)(rng_next(rng) % (unsigned int)experts);
                taken = 0;
                for (int j = 0; j < k; j++)
                    taken |= out[j] == out[k];
            } while (taken);
        }
    }
}

static void make_inputs(struct env *e, enum routing routing, int tokens, unsigned int seed)
{
    const struct slots_shape *shape = &e->slots.shape;
    unsigned long long rng = ((unsigned long long)e->opt.seed << 32) +
                             (unsigned long long)seed * 1000003 + (unsigned long long)e->opt.rank;
    for (int i = 0; i < tokens * shape->hidden; i++)
        e->host_x[i] =
            comm_ref_to_bf16((float)(rng_uniform(&rng) + rng_uniform(&rng) - 1.0) * 4.0f);
    for (int t = 0; t < tokens; t++) {
        choose_experts(e, routing, t, &rng, &e->host_idx[t * shape->topk]);
        int masked = routing == MASKED && rng_next(&rng) % 4 == 0; /* the whole token */
        for (int k = 0; k < shape->topk; k++) {
            int at = t * shape->topk + k;
            if (masked || (routing == MASKED && rng_next(&rng) % 3 == 0))
                e->host_idx[at] = -1;
            e->host_weights[at] = (float)rng_uniform(&rng);
        }
    }
    size_t choices = (size_t)tokens * (size_t)shape->topk;
    long long *wide = host_alloc(e, (choices + 1) * 8);
    for (size_t i = 0; i < choices; i++)
        wide[i] = e->host_idx[i];
    CHECK(e, cudaMemcpy(e->x, e->host_x, (size_t)tokens * (size_t)shape->hidden * 2,
                        cudaMemcpyHostToDevice) == cudaSuccess);
    CHECK(e, cudaMemcpy(e->idx32, e->host_idx, choices * 4, cudaMemcpyHostToDevice) == cudaSuccess);
    CHECK(e, cudaMemcpy(e->idx64, wide, choices * 8, cudaMemcpyHostToDevice) == cudaSuccess);
    CHECK(e, cudaMemcpy(e->weights, e->host_weights, choices * 4, cudaMemcpyHostToDevice) ==
                 cudaSuccess);
    free(wide);
}

static void make_reference(struct env *e, int tokens)
{
    const struct slots_shape *shape = &e->slots.shape;
    double *cast = host_alloc(e, (size_t)shape->hidden * sizeof(double));
    for (int t = 0; t < tokens; t++) {
        double *ref = e->ref + (size_t)t * (size_t)shape->hidden, weight = 0;
        comm_ref_cast(cast, e->host_x + (size_t)t * (size_t)shape->hidden, shape->hidden,
                      shape->fp8);
        for (int k = 0; k < shape->topk; k++) {
            int expert = e->host_idx[t * shape->topk + k];
            if (expert >= 0)
                weight += (double)e->host_weights[t * shape->topk + k] *
                          (double)factor_of(slots_expert_gpu(&e->slots, expert),
                                            slots_expert_local(&e->slots, expert));
        }
        for (int h = 0; h < shape->hidden; h++)
            ref[h] = weight * cast[h];
    }
    free(cast);
}

static struct dispatch_args dispatch_of(struct env *e, const struct how *how, int tokens)
{
    struct buffers *b = &e->buf[how->parity];
    int groups = e->slots.shape.hidden / SLOTS_CHANNELS;
    return (struct dispatch_args){.comm = e->comm,
                                  .parity = how->parity,
                                  .rounds = how->rounds,
                                  .num_sms = how->num_sms,
                                  .copy = how->copy,
                                  .tokens = tokens,
                                  .x = e->x,
                                  .topk_idx = how->idx_bytes == 8 ? e->idx64 : e->idx32,
                                  .topk_idx_bytes = how->idx_bytes == 8 ? 8 : 4,
                                  .packed_x = b->packed_x,
                                  .packed_scales = b->packed_scales,
                                  .scale_row = how->idx_bytes == 8 ? 1 : groups,
                                  .scale_group = how->idx_bytes == 8 ? e->slots.rows_max : 1,
                                  .sources = b->sources,
                                  .rows = b->rows,
                                  .segments = b->segments,
                                  .pacing = how->pacing,
                                  .delay = {how->delay_ns, 17}};
}

static struct combine_args combine_of(struct env *e, const struct how *how, int tokens)
{
    struct buffers *b = &e->buf[how->parity];
    return (struct combine_args){.comm = e->comm,
                                 .parity = how->parity,
                                 .rounds = how->rounds,
                                 .num_sms = how->num_sms,
                                 .copy = how->copy,
                                 .y_packed = b->y_packed,
                                 .sources = b->sources,
                                 .rows = b->rows,
                                 .segments = b->segments,
                                 .units_per_expert = (e->slots.rows_max + BLOCK_M - 1) / BLOCK_M,
                                 .block_m = BLOCK_M,
                                 .tiles_per_unit = TILES,
                                 .tokens = tokens,
                                 .topk_idx = how->idx_bytes == 8 ? e->idx64 : e->idx32,
                                 .topk_idx_bytes = how->idx_bytes == 8 ? 8 : 4,
                                 .topk_weights = e->weights,
                                 .y = b->y,
                                 .pacing = how->pacing,
                                 .delay = {how->delay_ns, 99}};
}

static void finish(struct env *e)
{
    CHECK(e, cudaStreamSynchronize(e->main) == cudaSuccess);
    CHECK(e, cudaStreamSynchronize(e->side) == cudaSuccess);
    CHECK(e, kernels_comm_status(e->comm) == 0);
}

/* The next kernel's stamp, or NULL. */
static struct kernel_stamp *trail_next(struct env *e, const char *name, int parity)
{
    struct trail *t = &e->trail;
    if (t->stamps == NULL || t->count == 64)
        return NULL;
    t->names[t->count] = name;
    t->parity[t->count] = parity;
    return &t->stamps[t->count++];
}

static void trail_begin(struct env *e)
{
    struct kernel_stamp zero[64];
    for (int i = 0; i < 64; i++)
        stamp_reset(&zero[i]);
    if (e->trail.stamps == NULL)
        e->trail.stamps = device_alloc(e, sizeof(zero));
    e->trail.count = 0;
    CHECK(e, cudaMemcpyAsync(e->trail.stamps, zero, sizeof(zero), cudaMemcpyHostToDevice,
                             e->main) == cudaSuccess);
    CHECK(e, cudaStreamSynchronize(e->main) == cudaSuccess);
}

/* While kernels may still be running. Times from the first one's start. */
static void trail_print(const struct env *e)
{
    struct kernel_stamp seen[64];
    unsigned long long first_ns = ~0ull;
    char text[4096];
    int at = snprintf(text, sizeof(text), "rank %d, us:", e->opt.rank);
    cudaStream_t stream;
    CHECK(e, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(e, cudaMemcpyAsync(seen, e->trail.stamps, sizeof(seen), cudaMemcpyDeviceToHost, stream) ==
                 cudaSuccess);
    CHECK(e, cudaStreamSynchronize(stream) == cudaSuccess);
    for (int i = 0; i < e->trail.count; i++)
        first_ns = seen[i].start_ns < first_ns ? seen[i].start_ns : first_ns;
    for (int i = 0; i < e->trail.count; i++) {
        at += snprintf(text + at, sizeof(text) - (size_t)at, " %s%d ", e->trail.names[i],
                       e->trail.parity[i]);
        if (seen[i].start_ns == ~0ull)
            at += snprintf(text + at, sizeof(text) - (size_t)at, "not begun");
        else
            at += snprintf(text + at, sizeof(text) - (size_t)at, "%.0f..%.0f (%u CTAs)",
                           (double)(seen[i].start_ns - first_ns) * 1e-3,
                           seen[i].end_ns > 0 ? (double)(seen[i].end_ns - first_ns) * 1e-3 : -1.0,
                           seen[i].ctas);
    }
    fprintf(stderr, "%s\n", text);
    cudaStreamDestroy(stream);
}

/* Like finish, but says where things stand once half a deadline has passed. */
static void finish_watched(struct env *e)
{
    double begin_s = world_now_s();
    int told = 0;
    while (cudaStreamQuery(e->main) == cudaErrorNotReady ||
           cudaStreamQuery(e->side) == cudaErrorNotReady) {
        if (!told && world_now_s() - begin_s > e->opt.deadline_s / 2) {
            trail_print(e);
            told = 1;
        }
        usleep(100);
    }
    finish(e);
}

static void launch_standin(struct env *e, const struct how *how, const struct dispatch_args *d,
                           int round, int ctas, cudaStream_t stream)
{
    struct buffers *b = &e->buf[how->parity];
    int locals = e->slots.experts_local / how->rounds;
    struct standin_args a = {.comm = e->comm,
                             .ctas = ctas,
                             .local_first = round * locals,
                             .locals = locals,
                             .packed_x = b->packed_x,
                             .packed_scales = b->packed_scales,
                             .scale_row = d->scale_row,
                             .scale_group = d->scale_group,
                             .rows = b->rows,
                             .factors = e->factors,
                             .y_packed = b->y_packed,
                             .units = how->sbo ? b->units : NULL,
                             .units_per_expert = (e->slots.rows_max + BLOCK_M - 1) / BLOCK_M,
                             .block_m = BLOCK_M,
                             .tiles_per_unit = TILES,
                             .stamp = trail_next(e, "work", how->parity)};
    CHECK(e, kernels_standin_launch(&a, stream) == 0);
}

/* SBO: the stand-in for the down GEMM on one stream, the send that follows its tiles on another. */
static void launch_sbo(struct env *e, const struct how *how, const struct dispatch_args *d,
                       struct combine_args *c, cudaStream_t stream)
{
    c->units = e->buf[how->parity].units;
    c->num_sms = 3;
    CHECK(e, cudaEventRecord(e->event[0], stream) == cudaSuccess);
    CHECK(e, cudaStreamWaitEvent(e->side, e->event[0], 0) == cudaSuccess);
    CHECK(e, kernels_combine_send_launch(c, e->side) == 0);
    CHECK(e, cudaEventRecord(e->event[1], e->side) == cudaSuccess);
    launch_standin(e, how, d, 0, 16, stream);
    CHECK(e, cudaStreamWaitEvent(stream, e->event[1], 0) == cudaSuccess);
    c->units = NULL;
    c->num_sms = how->num_sms;
}

static void launch_exchange(struct env *e, const struct how *how, int tokens, cudaStream_t stream)
{
    struct dispatch_args d = dispatch_of(e, how, tokens);
    struct combine_args c = combine_of(e, how, tokens);
    if (how->fused) {
        CHECK(e, kernels_dispatch_fused_launch(&d, stream) == 0);
        launch_standin(e, how, &d, 0, 32, stream);
        CHECK(e, kernels_combine_fused_launch(&c, stream) == 0);
        return;
    }
    for (d.round = 0; d.round < d.rounds; d.round++) {
        d.stamp = trail_next(e, "send", how->parity);
        CHECK(e, kernels_dispatch_send_launch(&d, stream) == 0);
    }
    for (d.round = 0; d.round < d.rounds; d.round++) {
        d.stamp = trail_next(e, "receive", how->parity);
        CHECK(e, kernels_dispatch_recv_launch(&d, stream) == 0);
    }
    for (c.round = 0; c.round < c.rounds; c.round++) {
        if (how->sbo) {
            launch_sbo(e, how, &d, &c, stream);
            continue;
        }
        launch_standin(e, how, &d, c.round, 32, stream);
        c.stamp = trail_next(e, "combine send", how->parity);
        CHECK(e, kernels_combine_send_launch(&c, stream) == 0);
    }
    c.stamp = trail_next(e, "combine receive", how->parity);
    CHECK(e, kernels_combine_recv_launch(&c, stream) == 0);
}

/* No exchange may be under way: the window is poisoned too, between barriers. */
static void poison(struct env *e, int parity)
{
    struct buffers *b = &e->buf[parity];
    CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
    CHECK(e, kernels_comm_poison(e->comm, e->main) == 0);
    CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
    CHECK(e, cudaMemsetAsync(b->packed_x, 0xff, b->packed_bytes, e->main) == cudaSuccess);
    CHECK(e, cudaMemsetAsync(b->packed_scales, 0xff, b->scale_bytes, e->main) == cudaSuccess);
    CHECK(e, cudaMemsetAsync(b->y_packed, 0xff, b->y_packed_bytes, e->main) == cudaSuccess);
    CHECK(e, cudaMemsetAsync(b->y, 0xff, b->y_bytes, e->main) == cudaSuccess);
}

/* y (device) against the double reference, or bit by bit against the first result for these inputs.
 */
static void check_rows(struct env *e, const void *y, int tokens, int first, double *worst)
{
    size_t bytes = (size_t)tokens * (size_t)e->slots.shape.hidden * 2;
    CHECK(e, cudaMemcpy(e->host_y, y, bytes, cudaMemcpyDeviceToHost) == cudaSuccess);
    if (!first) {
        CHECK(e, memcmp(e->host_y, e->first_y, bytes) == 0);
        return;
    }
    memcpy(e->first_y, e->host_y, bytes);
    int hidden = e->slots.shape.hidden;
    for (int t = 0; t < tokens; t++) {
        size_t at = (size_t)t * (size_t)hidden;
        double distance = comm_ref_distance(e->host_y + at, e->ref + at, hidden);
        if (!(distance < 5e-3))
            fprintf(stderr, "rank %d token %d of %d: distance %g\n", e->opt.rank, t, tokens,
                    distance);
        CHECK(e, distance < 5e-3);
        *worst = distance > *worst ? distance : *worst;
    }
}

static void check_y(struct env *e, int parity, int tokens, int first, double *worst)
{
    check_rows(e, e->buf[parity].y, tokens, first, worst);
}

/* Every schedule over the same inputs; all must give the same bits. */
static double test_inputs(struct env *e, enum routing routing, int tokens, unsigned int seed)
{
    static const struct how hows[] = {
        {.rounds = 1, .num_sms = 132, .fused = 1, .copy = KERNELS_COPY_BULK},
        {.rounds = 1, .num_sms = 132, .fused = 1, .copy = KERNELS_COPY_STORES, .parity = 1},
        {.rounds = 1, .num_sms = 132, .copy = KERNELS_COPY_BULK, .idx_bytes = 8},
        {.rounds = 1, .num_sms = 132, .copy = KERNELS_COPY_BULK, .sbo = 1, .parity = 1},
        {.rounds = 1, .num_sms = 24, .copy = KERNELS_COPY_STORES, .sbo = 1},
        {.rounds = 2, .num_sms = 132, .copy = KERNELS_COPY_STORES, .parity = 1},
        {.rounds = 2, .num_sms = 16, .copy = KERNELS_COPY_BULK, .delay_ns = 20000},
        {.rounds = 4, .num_sms = 8, .copy = KERNELS_COPY_BULK, .idx_bytes = 8, .parity = 1},
        {.rounds = 4, .num_sms = 24, .copy = KERNELS_COPY_STORES, .delay_ns = 50000},
        {.rounds = 1, .num_sms = 11, .fused = 1, .copy = KERNELS_COPY_BULK, .delay_ns = 50000},
    };
    double worst = 0;
    int first = 1;
    make_inputs(e, routing, tokens, seed);
    make_reference(e, tokens);
    for (size_t i = 0; i < sizeof(hows) / sizeof(hows[0]); i++) {
        const struct how *how = &hows[i];
        struct kernels_grid grid;
        /* The combine's receive serves the experts of all rounds. */
        if (e->slots.experts_local % how->rounds != 0 ||
            kernels_comm_grid(e->slots.shape.experts, how->num_sms, 1, &grid) != 0)
            continue;
        poison(e, how->parity);
        launch_exchange(e, how, tokens, e->main);
        finish(e);
        check_y(e, how->parity, tokens, first, &worst);
        first = 0;
        e->points++;
    }
    return worst;
}

/* RAGGED in `tokens`: each rank draws a number of its own. */
enum { RAGGED = 1 << 20 };

static int tokens_of(const struct env *e, int tokens, unsigned int seed)
{
    unsigned long long rng =
        ((unsigned long long)(e->opt.seed + seed) << 8) + (unsigned int)e->opt.rank;
    return tokens != RAGGED ? tokens
                            : (int)(rng_next(&rng) % (unsigned int)(e->slots.shape.max_tokens + 1));
}

static void test_shape(struct env *e, const char *name, struct slots_shape shape, const int *tokens,
                       const unsigned char *id)
{
    double worst = 0, begin_s = world_now_s();
    e->points = 0;
    env_open(e, shape, 1 << 20, 0, id);
    for (int i = 0; tokens[i] >= 0; i++) {
        for (int routing = 0; routing < ROUTINGS; routing++) {
            unsigned int seed = (unsigned int)(i * ROUTINGS + routing + 1);
            double d = test_inputs(e, (enum routing)routing, tokens_of(e, tokens[i], seed), seed);
            worst = d > worst ? d : worst;
        }
    }
    if (e->opt.rank == 0)
        printf("ok   %-34s %3d exchanges, worst distance %.2e, %.1f s\n", name, e->points, worst,
               world_now_s() - begin_s);
    fflush(stdout);
}

static cudaGraphExec_t capture_begin_end(struct env *e, void (*body)(struct env *, const void *),
                                         const void *arg)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(e, cudaStreamBeginCapture(e->main, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    body(e, arg);
    CHECK(e, cudaStreamEndCapture(e->main, &graph) == cudaSuccess);
    CHECK(e, cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    CHECK(e, cudaGraphDestroy(graph) == cudaSuccess);
    return exec;
}

/* Leaves y of each exchange in the log. */
static void replay_body(struct env *e, const void *arg)
{
    int tokens = *(const int *)arg;
    size_t bytes = e->buf[0].y_bytes;
    static const struct how layers[LAYERS] = {
        {.rounds = 1, .num_sms = 132, .fused = 1, .delay_ns = 3000},
        {.rounds = 2, .num_sms = 24, .parity = 1, .copy = KERNELS_COPY_STORES, .delay_ns = 3000},
        {.rounds = 1, .num_sms = 132, .sbo = 1},
        {.rounds = 4, .num_sms = 16, .parity = 1, .delay_ns = 3000}};
    for (size_t i = 0; i < LAYERS; i++) {
        struct how how = layers[i];
        if (e->slots.experts_local % how.rounds != 0)
            how.rounds = 1;
        launch_exchange(e, &how, tokens, e->main);
        CHECK(e, cudaMemcpyAsync((char *)e->log + i * bytes, e->buf[how.parity].y, bytes,
                                 cudaMemcpyDeviceToDevice, e->main) == cudaSuccess);
    }
}

/* Replays in a row on poisoned memory, without a pause; every y of theirs is compared afterwards.
 */
static void replay_stretch(struct env *e, cudaGraphExec_t exec, int tokens, int replays,
                           double *worst)
{
    size_t bytes = e->buf[0].y_bytes, step = LAYERS * bytes;
    CHECK(e, cudaMemsetAsync(e->log, 0xff, STRETCH * step, e->main) == cudaSuccess);
    for (int parity = 0; parity < 2; parity++)
        poison(e, parity);
    /* The last replay's stays in place 0, where all of them leave it. */
    for (int i = replays - 1; i >= 0; i--) {
        CHECK(e, cudaGraphLaunch(exec, e->main) == cudaSuccess);
        if (i > 0)
            CHECK(e, cudaMemcpyAsync((char *)e->log + (size_t)i * step, e->log, step,
                                     cudaMemcpyDeviceToDevice, e->main) == cudaSuccess);
    }
    finish(e);
    for (int i = 0; i < replays * LAYERS; i++)
        check_rows(e, (char *)e->log + (size_t)i * bytes, tokens, i == 0, worst);
}

/* Replays of four exchanges of different schedules, with random delays. Each stretch has inputs of
 * its own; the graph stays. */
static void test_replays(struct env *e, int replays)
{
    int tokens = e->slots.shape.max_tokens;
    double worst = 0, begin_s = world_now_s();
    cudaGraphExec_t exec = capture_begin_end(e, replay_body, &tokens);
    for (int i = 0; i < replays; i += STRETCH) {
        make_inputs(e, (enum routing)(i / STRETCH % ROUTINGS), tokens, 4242 + (unsigned int)i);
        make_reference(e, tokens);
        replay_stretch(e, exec, tokens, replays - i < STRETCH ? replays - i : STRETCH, &worst);
    }
    CHECK(e, cudaGraphExecDestroy(exec) == cudaSuccess);
    if (e->opt.rank == 0)
        printf("ok   %d replays of four exchanges, %.1f s\n", replays, world_now_s() - begin_s);
    fflush(stdout);
}

/* Two half batches at once, a parity each, on two streams. Ranks meet before each pair. */
static void test_two_batches(struct env *e)
{
    int tokens = e->slots.shape.max_tokens;
    double worst = 0;
    struct how a = {.rounds = 1, .num_sms = 24, .delay_ns = 10000};
    struct how b = {.rounds = 2, .num_sms = 24, .parity = 1, .delay_ns = 10000};
    if (e->slots.experts_local % 2 != 0)
        return;
    make_inputs(e, UNIFORM, tokens, 77);
    make_reference(e, tokens);
    for (int i = 0; i < (e->opt.quick ? 6 : 20); i++) {
        poison(e, 0);
        poison(e, 1);
        finish(e);
        trail_begin(e);
        launch_exchange(e, &a, tokens, e->main);
        launch_exchange(e, &b, tokens, e->side);
        finish_watched(e);
        check_y(e, 0, tokens, i == 0, &worst);
        check_y(e, 1, tokens, 0, &worst);
    }
    if (e->opt.rank == 0)
        printf("ok   two batches in flight\n");
}

/* The same without meeting: ranks drift apart as far as the exchange itself lets them, held up for
 * up to a millisecond at random. */
static void test_drift(struct env *e)
{
    int tokens = e->slots.shape.max_tokens, pairs = e->opt.quick ? 3 : 20;
    double worst = 0;
    struct how a = {.rounds = 1, .num_sms = 24, .delay_ns = 1000000};
    struct how b = {.rounds = 2, .num_sms = 24, .parity = 1, .delay_ns = 1000000};
    if (e->slots.experts_local % 2 != 0)
        return;
    make_inputs(e, UNIFORM, tokens, 78);
    make_reference(e, tokens);
    poison(e, 0);
    poison(e, 1);
    finish(e);
    trail_begin(e);
    for (int i = 0; i < pairs; i++) {
        launch_exchange(e, &a, tokens, e->main);
        launch_exchange(e, &b, tokens, e->side);
    }
    finish_watched(e);
    check_y(e, 0, tokens, 1, &worst);
    check_y(e, 1, tokens, 0, &worst);
    cudaFree(e->trail.stamps);
    e->trail.stamps = NULL;
    if (e->opt.rank == 0)
        printf("ok   %d pairs of batches in a row\n", pairs);
}

/* A message over the emulated network takes its latency and its bytes' time. */
static void test_pacing(struct env *e, const long long *offset_ns)
{
    int tokens = e->slots.shape.max_tokens;
    double worst = 0;
    long long *device_offset = device_alloc(e, (size_t)e->opt.ranks * 8);
    CHECK(e, cudaMemcpy(device_offset, offset_ns, (size_t)e->opt.ranks * 8,
                        cudaMemcpyHostToDevice) == cudaSuccess);
    struct how how = {.rounds = 1, .num_sms = 132, .fused = 1};
    make_inputs(e, UNIFORM, tokens, 5);
    make_reference(e, tokens);
    double ms[2];
    for (int paced = 0; paced < 2; paced++) {
        if (paced)
            how.pacing = (struct kernels_pacing){1.0, 300000, device_offset};
        float elapsed;
        launch_exchange(e, &how, tokens, e->main);
        CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
        CHECK(e, cudaEventRecord(e->event[0], e->main) == cudaSuccess);
        launch_exchange(e, &how, tokens, e->main);
        CHECK(e, cudaEventRecord(e->event[1], e->main) == cudaSuccess);
        finish(e);
        check_y(e, 0, tokens, paced == 0, &worst);
        CHECK(e, cudaEventElapsedTime(&elapsed, e->event[0], e->event[1]) == cudaSuccess);
        ms[paced] = elapsed;
    }
    if (e->opt.ranks > 1)
        CHECK(e, ms[1] > ms[0] + 0.55); /* twice 300 us of latency */
    if (e->opt.rank == 0)
        printf("ok   pacing: exchange %.3f ms, with 2 x 0.300 ms latency and 1 GB/s %.3f ms\n",
               ms[0], ms[1]);
    cudaFree(device_offset);
}

static void test_alltoall(struct env *e)
{
    size_t ranks = (size_t)e->opt.ranks, bytes = 4096;
    size_t counts[WORLD_MAX], offsets[WORLD_MAX];
    unsigned char *host = host_alloc(e, ranks * bytes), *in = device_alloc(e, ranks * bytes);
    unsigned char *out = device_alloc(e, ranks * bytes);
    for (size_t r = 0; r < ranks; r++) {
        counts[r] = bytes;
        offsets[r] = r * bytes;
        memset(host + r * bytes, (int)((size_t)e->opt.rank * 16 + r), bytes);
    }
    CHECK(e, cudaMemcpy(in, host, ranks * bytes, cudaMemcpyHostToDevice) == cudaSuccess);
    CHECK(e, kernels_comm_alltoall_open(e->comm, 4) == 0);
    CHECK(e, kernels_comm_alltoall_open(e->comm, 4) == 0);
    struct alltoall_args a = {e->comm, 4, in, out, counts, offsets, counts, offsets};
    CHECK(e, kernels_alltoall_launch(&a, e->main) == 0);
    finish(e);
    CHECK(e, cudaMemcpy(host, out, ranks * bytes, cudaMemcpyDeviceToHost) == cudaSuccess);
    for (size_t r = 0; r < ranks; r++)
        for (size_t i = 0; i < bytes; i++)
            CHECK(e, host[r * bytes + i] == (unsigned char)(r * 16 + (size_t)e->opt.rank));
    cudaFree(in);
    cudaFree(out);
    free(host);
    if (e->opt.rank == 0)
        printf("ok   NCCL all-to-all on 4 CTAs\n");
}

static void test_push(struct env *e)
{
    size_t bytes = 65536 + 48;
    if (e->opt.ranks < 2)
        return;
    unsigned char *host = host_alloc(e, bytes), *from = device_alloc(e, bytes);
    for (int copy = KERNELS_COPY_STORES; copy <= KERNELS_COPY_BULK; copy++) {
        for (size_t i = 0; i < bytes; i++)
            host[i] = (unsigned char)((size_t)(e->opt.rank * 31 + copy * 7) + i * 13 + i / 256);
        CHECK(e, cudaMemcpy(from, host, bytes, cudaMemcpyHostToDevice) == cudaSuccess);
        struct push_args a = {.comm = e->comm,
                              .ctas = 5,
                              .copy = (enum kernels_copy)copy,
                              .bytes = bytes,
                              .from = from};
        CHECK(e, kernels_push_launch(&a, e->main) == 0);
        CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
        finish(e);
        for (int r = 0; r < e->opt.ranks; r++) {
            if (r == e->opt.rank)
                continue;
            CHECK(e, cudaMemcpy(host, kernels_push_landing(e->comm, r, bytes), bytes,
                                cudaMemcpyDeviceToHost) == cudaSuccess);
            for (size_t i = 0; i < bytes; i++)
                CHECK(e,
                      host[i] == (unsigned char)((size_t)(r * 31 + copy * 7) + i * 13 + i / 256));
        }
        CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
        finish(e);
    }
    cudaFree(from);
    free(host);
    if (e->opt.rank == 0)
        printf("ok   pushes land\n");
}

/* Refused arguments, and grids that cannot be. */
static void test_refusals(struct env *e)
{
    struct how how = {.rounds = 1, .num_sms = 132, .fused = 1};
    struct dispatch_args d = dispatch_of(e, &how, 1);
    d.tokens = e->slots.shape.max_tokens + 1;
    CHECK(e, kernels_dispatch_send_launch(&d, e->main) == ERR_RANGE);
    d = dispatch_of(e, &how, 1);
    d.rounds = e->slots.experts_local + 1;
    CHECK(e, kernels_dispatch_send_launch(&d, e->main) == ERR_RANGE);
    if (e->slots.shape.experts >= 15) {
        d = dispatch_of(e, &how, 1);
        d.num_sms = 1;
        CHECK(e, kernels_dispatch_recv_launch(&d, e->main) == ERR_INFEASIBLE);
    }
    if (e->opt.rank == 0)
        printf("ok   bad arguments are refused\n");
}

/* A receive that nobody sends to must end with ERR_TIMEOUT. The handle is spent after it. */
static void test_timeout(struct env *e, const unsigned char *id)
{
    struct slots_shape shape = {
        .vranks = e->opt.ranks, .experts = 8, .hidden = 512, .topk = 2, .max_tokens = 8, .fp8 = 1};
    struct how how = {.rounds = 1, .num_sms = 132};
    env_open(e, shape, 0, 50000000, id);
    struct dispatch_args d = dispatch_of(e, &how, 1);
    CHECK(e, kernels_dispatch_recv_launch(&d, e->main) == 0);
    CHECK(e, cudaStreamSynchronize(e->main) == cudaSuccess);
    CHECK(e, kernels_comm_status(e->comm) == ERR_TIMEOUT);
    env_close(e);
    if (e->opt.rank == 0)
        printf("ok   a wait in vain ends with its reason\n");
}

/* Rank 0 makes an id for one more handle; all get it through the open one. */
static void next_id(struct env *e, unsigned char *id)
{
    unsigned char mine[KERNELS_COMM_ID_BYTES] = {0}, all[WORLD_MAX * KERNELS_COMM_ID_BYTES];
    if (e->opt.rank == 0)
        CHECK(e, kernels_comm_id(mine) == 0);
    CHECK(e, kernels_comm_gather(e->comm, mine, all, sizeof(mine)) == 0);
    memcpy(id, all, sizeof(mine));
}

static void run_tests(struct env *e, unsigned char *id)
{
    int w = e->opt.ranks;
    long long offset_ns[WORLD_MAX], trip_ns[WORLD_MAX];
    struct slots_shape tiny = {
        .vranks = w, .experts = 16, .hidden = 512, .topk = 4, .max_tokens = 32, .fp8 = 1};
    test_shape(e, "16 experts, 512 wide, FP8", tiny,
               e->opt.quick ? (const int[]){7, -1} : (const int[]){1, 7, 32, 0, RAGGED, RAGGED, -1},
               id);
    CHECK(e, kernels_comm_clocks(e->comm, offset_ns, trip_ns) == 0);
    test_alltoall(e);
    test_push(e);
    test_refusals(e);
    test_two_batches(e);
    test_drift(e);
    test_replays(e, e->opt.quick ? 3 : e->opt.replays);
    next_id(e, id);
    if (e->opt.quick) {
        env_close(e);
        return;
    }
    test_pacing(e, offset_ns);
    env_close(e);
    test_timeout(e, id);
}

static void run_large_tests(struct env *e, unsigned char *id)
{
    int w = e->opt.ranks;
    struct slots_shape deepseek = {
        .vranks = w, .experts = 64, .hidden = 7168, .topk = 8, .max_tokens = 128, .fp8 = 1};
    struct slots_shape bf16 = {
        .vranks = w, .experts = 32, .hidden = 2048, .topk = 6, .max_tokens = 512, .fp8 = 0};
    struct slots_shape wide = {
        .vranks = w, .experts = 128, .hidden = 2048, .topk = 8, .max_tokens = 512, .fp8 = 1};
    struct slots_shape folded = {
        .vranks = 4 * w, .experts = 64, .hidden = 1024, .topk = 8, .max_tokens = 48, .fp8 = 1};
    test_shape(e, "64 experts, 7168 wide, FP8", deepseek, (const int[]){1, 128, RAGGED, -1}, id);
    test_replays(e, e->opt.replays / 5);
    next_id(e, id);
    env_close(e);
    test_shape(e, "32 experts, 2048 wide, BF16", bf16, (const int[]){33, 512, RAGGED, -1}, id);
    next_id(e, id);
    env_close(e);
    test_shape(e, "128 experts, 2048 wide, FP8", wide, (const int[]){1, 512, RAGGED, -1}, id);
    next_id(e, id);
    env_close(e);
    test_shape(e, "slices: 4 virtual ranks per GPU", folded, (const int[]){16, 48, -1}, id);
    next_id(e, id);
    env_close(e);
}

struct series {
    double median_us, p95_us, min_us;
    int n;
};

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Times replays of a graph that holds `ops` operations; every replay counts as its slowest rank.
 * All ranks begin together. */
static struct series time_graph(struct env *e, void (*body)(struct env *, const void *),
                                const void *arg, int ops, int n)
{
    cudaGraphExec_t exec = capture_begin_end(e, body, arg);
    double mine[MAX_POINTS], worst[MAX_POINTS], *all = host_alloc(e, WORLD_MAX * sizeof(mine));
    for (int i = -3; i < n; i++) {
        float ms;
        CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
        CHECK(e, cudaEventRecord(e->event[0], e->main) == cudaSuccess);
        CHECK(e, cudaGraphLaunch(exec, e->main) == cudaSuccess);
        CHECK(e, cudaEventRecord(e->event[1], e->main) == cudaSuccess);
        finish(e);
        CHECK(e, cudaEventElapsedTime(&ms, e->event[0], e->event[1]) == cudaSuccess);
        if (i >= 0)
            mine[i] = ms * 1e3 / ops;
    }
    CHECK(e, cudaGraphExecDestroy(exec) == cudaSuccess);
    CHECK(e, kernels_comm_gather(e->comm, mine, all, (size_t)n * sizeof(double)) == 0);
    for (int i = 0; i < n; i++) {
        worst[i] = 0;
        for (int r = 0; r < e->opt.ranks; r++)
            worst[i] = fmax(worst[i], all[r * n + i]);
    }
    free(all);
    qsort(worst, (size_t)n, sizeof(double), compare_double);
    return (struct series){worst[n / 2], worst[n * 95 / 100], worst[0], n};
}

struct bench {
    FILE *csv;
    struct env *e;
};

static void report(struct bench *b, const char *op, const char *copy, int sms, int tokens,
                   int rounds, double bytes, struct series s)
{
    if (b->csv == NULL)
        return;
    fprintf(b->csv, "%s,%s,%d,%d,%d,%d,%d,%d,%.0f,%.3f,%.3f,%.3f,%d\n", op, copy, b->e->opt.ranks,
            b->e->slots.shape.experts, b->e->slots.shape.hidden, sms, tokens, rounds, bytes,
            s.median_us, s.p95_us, s.min_us, s.n);
    fflush(b->csv);
}

static const char *copy_name(enum kernels_copy copy)
{
    return copy == KERNELS_COPY_STORES ? "stores" : "bulk";
}

struct exchange_bench {
    struct how how;
    int tokens, ops;
    int dispatch, combine;
};

static void exchange_body(struct env *e, const void *arg)
{
    const struct exchange_bench *x = arg;
    for (int i = 0; i < x->ops; i++) {
        struct how how = x->how;
        how.parity = i % 2;
        struct dispatch_args d = dispatch_of(e, &how, x->tokens);
        struct combine_args c = combine_of(e, &how, x->tokens);
        if (x->dispatch && how.fused)
            CHECK(e, kernels_dispatch_fused_launch(&d, e->main) == 0);
        for (d.round = 0; x->dispatch && !how.fused && d.round < d.rounds; d.round++)
            CHECK(e, kernels_dispatch_send_launch(&d, e->main) == 0);
        for (d.round = 0; x->dispatch && !how.fused && d.round < d.rounds; d.round++)
            CHECK(e, kernels_dispatch_recv_launch(&d, e->main) == 0);
        if (x->combine && how.fused)
            CHECK(e, kernels_combine_fused_launch(&c, e->main) == 0);
        for (c.round = 0; x->combine && !how.fused && c.round < c.rounds; c.round++)
            CHECK(e, kernels_combine_send_launch(&c, e->main) == 0);
        if (x->combine && !how.fused)
            CHECK(e, kernels_combine_recv_launch(&c, e->main) == 0);
    }
}

/* Both parities hold a real exchange, so that a combine alone has rows to send. */
static void bench_prepare(struct env *e, int tokens)
{
    make_inputs(e, UNIFORM, tokens, 9);
    for (int parity = 0; parity < 2; parity++) {
        struct how how = {.rounds = 1, .num_sms = 132, .fused = 1, .parity = parity};
        launch_exchange(e, &how, tokens, e->main);
    }
    finish(e);
}

static double exchange_bytes(const struct env *e, int tokens, int combine)
{
    return (double)tokens * e->slots.shape.topk *
           (combine ? e->slots.row_bytes : e->slots.message_bytes);
}

static struct series bench_exchange(struct bench *b, struct how how, int tokens, int dispatch,
                                    int combine)
{
    struct exchange_bench x = {how, tokens, 20, dispatch, combine};
    struct series s = time_graph(b->e, exchange_body, &x, x.ops, 40);
    char op[64];
    snprintf(op, sizeof(op), "%s%s%s", dispatch ? "dispatch" : "", combine ? "combine" : "",
             how.fused ? "" : "_split");
    report(b, op, copy_name(how.copy), how.num_sms, tokens, how.rounds,
           (dispatch ? exchange_bytes(b->e, tokens, 0) : 0) +
               (combine ? exchange_bytes(b->e, tokens, 1) : 0),
           s);
    return s;
}

struct push_bench {
    struct push_args a;
    int ops;
};

static void push_body(struct env *e, const void *arg)
{
    const struct push_bench *x = arg;
    for (int i = 0; i < x->ops; i++) {
        struct push_args a = x->a;
        a.from = (const char *)x->a.from + (size_t)(i % 4) * x->a.bytes;
        CHECK(e, kernels_push_launch(&a, e->main) == 0);
    }
}

static void bench_pushes(struct bench *b, void *from)
{
    struct env *e = b->e;
    static const int sms[] = {1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 64, 132};
    static const size_t sizes[] = {16384, 131072, 1048576, 16777216};
    if (e->opt.ranks < 2)
        return;
    if (e->opt.rank == 0)
        printf("egress GB/s, all GPUs push to all others (stores / bulk)\n%12s", "SMs");
    for (size_t i = 0; e->opt.rank == 0 && i < 4; i++)
        printf("%16zu B", sizes[i]);
    for (size_t j = 0; j < sizeof(sms) / sizeof(sms[0]); j++) {
        if (e->opt.rank == 0)
            printf("\n%12d", sms[j]);
        for (size_t i = 0; i < 4; i++) {
            double rate[3] = {0};
            for (int copy = KERNELS_COPY_STORES; copy <= KERNELS_COPY_BULK; copy++) {
                int ops = sizes[i] > 2000000 ? 4 : 20;
                struct push_bench x = {{.comm = e->comm,
                                        .ctas = sms[j],
                                        .copy = (enum kernels_copy)copy,
                                        .bytes = sizes[i],
                                        .from = from},
                                       ops};
                struct series s = time_graph(e, push_body, &x, ops, sizes[i] > 2000000 ? 9 : 15);
                double bytes = (double)sizes[i] * (e->opt.ranks - 1);
                report(b, "push", copy_name((enum kernels_copy)copy), sms[j], 0, 1, bytes, s);
                rate[copy] = bytes / s.median_us * 1e-3;
            }
            if (e->opt.rank == 0)
                printf("   %6.1f /%6.1f", rate[1], rate[2]);
        }
    }
    if (e->opt.rank == 0)
        printf("\n");
}

static void bench_table(struct bench *b)
{
    struct env *e = b->e;
    double best[2] = {1e9, 1e9}, pair = 1e9;
    for (int copy = KERNELS_COPY_STORES; copy <= KERNELS_COPY_BULK; copy++) {
        struct how how = {.rounds = 1, .num_sms = 132, .fused = 1, .copy = (enum kernels_copy)copy};
        struct series d = bench_exchange(b, how, 128, 1, 0), c = bench_exchange(b, how, 128, 0, 1);
        struct series both = bench_exchange(b, how, 128, 1, 1);
        how.fused = 0;
        struct series sd = bench_exchange(b, how, 128, 1, 0);
        struct series sc = bench_exchange(b, how, 128, 0, 1);
        if (e->opt.rank == 0)
            printf("T=128 132 SMs %-6s median/p95 us (n=%d x 20): dispatch %.1f/%.1f combine "
                   "%.1f/%.1f both %.1f/%.1f; split %.1f %.1f\n",
                   copy_name(how.copy), d.n, d.median_us, d.p95_us, c.median_us, c.p95_us,
                   both.median_us, both.p95_us, sd.median_us, sc.median_us);
        best[0] = fmin(best[0], d.median_us);
        best[1] = fmin(best[1], c.median_us);
        pair = fmin(pair, both.median_us);
    }
    if (e->opt.rank == 0)
        printf("against DeepEP's 35 and 62 us (ratio, below 1 is faster): dispatch %.2f, combine "
               "%.2f, both %.2f; goal 98 us: %.1f\n",
               best[0] / 35, best[1] / 62, pair / 97, pair);
}

/* Sends and receives by SMs, tokens and rounds. */
static void bench_sweep(struct bench *b)
{
    static const int sms[] = {8, 16, 24, 32, 64, 132};
    for (int copy = KERNELS_COPY_STORES; copy <= KERNELS_COPY_BULK; copy++) {
        for (size_t i = 0; i < 6; i++) {
            struct how how = {
                .rounds = 1, .num_sms = sms[i], .fused = 1, .copy = (enum kernels_copy)copy};
            struct series d = bench_exchange(b, how, 128, 1, 0);
            struct series c = bench_exchange(b, how, 128, 0, 1);
            how.fused = 0;
            how.rounds = 4;
            struct series d4 = bench_exchange(b, how, 128, 1, 0);
            struct series c4 = bench_exchange(b, how, 128, 0, 1);
            if (b->e->opt.rank == 0)
                printf("%-6s %3d SMs: dispatch %6.1f combine %6.1f us; R=4 split %6.1f %6.1f\n",
                       copy_name(how.copy), sms[i], d.median_us, c.median_us, d4.median_us,
                       c4.median_us);
        }
    }
}

static void bench_tokens(struct bench *b)
{
    static const int tokens[] = {1, 8, 32, 64, 128};
    for (size_t i = 0; i < 5; i++) {
        bench_prepare(b->e, tokens[i]);
        struct how how = {.rounds = 1, .num_sms = 132, .fused = 1, .copy = KERNELS_COPY_BULK};
        struct series d = bench_exchange(b, how, tokens[i], 1, 0);
        struct series c = bench_exchange(b, how, tokens[i], 0, 1);
        if (b->e->opt.rank == 0)
            printf("T=%3d: dispatch %.1f combine %.1f us\n", tokens[i], d.median_us, c.median_us);
    }
}

/* Where the time of a kernel goes, from its stamps (rank 0's, medians of 21 launches). */
static void bench_stamps(struct env *e, enum kernels_copy copy)
{
    struct kernel_stamp zero, got, *stamp = device_alloc(e, sizeof(*stamp));
    double us[4][21], wait_us[4][21];
    struct how how = {.rounds = 1, .num_sms = 132, .copy = copy};
    for (int i = 0; i < 21; i++) {
        how.parity = i % 2;
        struct dispatch_args d = dispatch_of(e, &how, 128);
        struct combine_args c = combine_of(e, &how, 128);
        d.stamp = stamp;
        c.stamp = stamp;
        for (int op = 0; op < 4; op++) {
            stamp_reset(&zero);
            CHECK(e, cudaMemcpyAsync(stamp, &zero, sizeof(zero), cudaMemcpyHostToDevice, e->main) ==
                         cudaSuccess);
            CHECK(e, kernels_comm_barrier(e->comm, e->main) == 0);
            int err = op == 0   ? kernels_dispatch_send_launch(&d, e->main)
                      : op == 1 ? kernels_dispatch_recv_launch(&d, e->main)
                      : op == 2 ? kernels_combine_send_launch(&c, e->main)
                                : kernels_combine_recv_launch(&c, e->main);
            CHECK(e, err == 0);
            CHECK(e, cudaMemcpyAsync(&got, stamp, sizeof(got), cudaMemcpyDeviceToHost, e->main) ==
                         cudaSuccess);
            finish(e);
            us[op][i] = (double)(got.end_ns - got.start_ns) * 1e-3;
            wait_us[op][i] = (double)got.wait_max_ns * 1e-3;
        }
    }
    for (int op = 0; op < 4; op++) {
        qsort(us[op], 21, sizeof(double), compare_double);
        qsort(wait_us[op], 21, sizeof(double), compare_double);
    }
    if (e->opt.rank == 0)
        printf("stamps %-6s alone, us (waited): dispatch send %.1f recv %.1f (%.1f), combine send "
               "%.1f recv %.1f (%.1f)\n",
               copy_name(copy), us[0][10], us[1][10], wait_us[1][10], us[2][10], us[3][10],
               wait_us[3][10]);
    cudaFree(stamp);
}

struct hbm_bench {
    struct hbm_copy_args a;
};

static void hbm_body(struct env *e, const void *arg)
{
    const struct hbm_bench *x = arg;
    CHECK(e, kernels_hbm_copy_launch(&x->a, e->main) == 0);
}

static void bench_hbm(struct bench *b, void *memory, size_t bytes)
{
    static const int sms[] = {1, 4, 16, 32, 64, 132};
    for (size_t i = 0; i < 6; i++) {
        struct hbm_bench x = {{sms[i], (char *)memory + bytes / 2, memory, bytes / 2, NULL}};
        struct series s = time_graph(b->e, hbm_body, &x, 1, 9);
        report(b, "hbm_copy", "stores", sms[i], 0, 1, (double)bytes, s);
        if (b->e->opt.rank == 0)
            printf("%sHBM copy %d SMs %.0f GB/s%s", i ? ", " : "", sms[i],
                   (double)bytes / s.median_us * 1e-3, i == 5 ? " (read + written)\n" : "");
    }
}

static void run_bench(struct env *e, const unsigned char *id)
{
    struct bench b = {NULL, e};
    size_t scratch = (size_t)e->opt.ranks << 24, memory_bytes = (size_t)1 << 30;
    long long offset_ns[WORLD_MAX], trip_ns[WORLD_MAX];
    struct slots_shape shape = {.vranks = e->opt.ranks,
                                .experts = 64,
                                .hidden = 7168,
                                .topk = 8,
                                .max_tokens = 128,
                                .fp8 = 1};
    env_open(e, shape, scratch, 0, id);
    if (e->opt.rank == 0) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/comm_bench_%d.csv", e->opt.bench_dir, e->opt.ranks);
        b.csv = fopen(path, "w");
        CHECK(e, b.csv != NULL);
        fprintf(b.csv, "op,copy,ranks,experts,hidden,sms,tokens,rounds,bytes,median_us,p95_us,"
                       "min_us,n\n");
    }
    unsigned int *noise = host_alloc(e, 1 << 26);
    unsigned long long rng = (unsigned long long)e->opt.rank;
    for (int i = 0; i < 1 << 24; i++)
        noise[i] = rng_next(&rng);
    void *memory = device_alloc(e, memory_bytes);
    for (size_t at = 0; at < memory_bytes; at += 1 << 26)
        CHECK(e, cudaMemcpy((char *)memory + at, noise, 1 << 26, cudaMemcpyHostToDevice) ==
                     cudaSuccess);
    CHECK(e, kernels_comm_clocks(e->comm, offset_ns, trip_ns) == 0);
    for (int r = 1; e->opt.rank == 0 && r < e->opt.ranks; r++)
        printf("clock of rank %d: offset %lld ns, round trip %lld ns\n", r, offset_ns[r],
               trip_ns[r]);
    bench_hbm(&b, memory, memory_bytes);
    bench_pushes(&b, memory);
    bench_tokens(&b);
    bench_sweep(&b);
    bench_stamps(e, KERNELS_COPY_STORES);
    bench_stamps(e, KERNELS_COPY_BULK);
    bench_table(&b);
    if (b.csv != NULL)
        fclose(b.csv);
    cudaFree(memory);
    free(noise);
    env_close(e);
}

/* The two kernels and both in one graph, by the copies that AUTO means. The anchor is EP4's: fewer
 * GPUs send less over NVLink, so that their figures have none. */
static void speed_exchanges(struct env *e, FILE *csv)
{
    static const struct {
        const char *name;
        int dispatch, combine;
        double anchor_us, goal_ratio;
    } cases[] = {
        {"dispatch", 1, 0, 35, 0}, {"combine", 0, 1, 62, 0}, {"both", 1, 1, 97, 97.0 / 98}};
    int ranks = e->opt.ranks, tokens = 128;
    char shape[96];
    snprintf(shape, sizeof(shape), "EP%d h7168 64 experts top-8 128 tokens 132 SMs", ranks);
    bench_prepare(e, tokens);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct exchange_bench x = {{.rounds = 1, .num_sms = 132, .fused = 1},
                                   tokens,
                                   20,
                                   cases[i].dispatch,
                                   cases[i].combine};
        struct series s = time_graph(e, exchange_body, &x, x.ops, 100);
        double bytes = (cases[i].dispatch ? exchange_bytes(e, tokens, 0) : 0) +
                       (cases[i].combine ? exchange_bytes(e, tokens, 1) : 0);
        struct speed_row row = {cases[i].name,
                                shape,
                                s.median_us,
                                s.p95_us,
                                s.n,
                                bytes * (ranks - 1) / ranks,
                                cases[i].anchor_us,
                                cases[i].goal_ratio,
                                "DeepEP's low-latency kernels at EP4 (the issue)"};
        if (ranks != 4) {
            row.anchor_us = row.goal_ratio = 0;
            row.source = "none: the anchor is EP4's";
        }
        if (e->opt.rank == 0)
            speed_write(csv, &row);
    }
}

/* 16 MiB to each peer, all GPUs at once. The goal is a rate: 305 GB/s of egress. */
static void speed_pushes(struct env *e, FILE *csv, const void *from)
{
    size_t each = (size_t)16 << 20;
    double bytes = (double)each * (e->opt.ranks - 1);
    for (int copy = KERNELS_COPY_STORES; e->opt.ranks > 1 && copy <= KERNELS_COPY_BULK; copy++) {
        struct push_bench x = {{.comm = e->comm,
                                .ctas = 24,
                                .copy = (enum kernels_copy)copy,
                                .bytes = each,
                                .from = from},
                               4};
        struct series s = time_graph(e, push_body, &x, x.ops, 41);
        char shape[96];
        snprintf(shape, sizeof(shape), "%d GPUs 16 MiB to each peer 24 SMs %s", e->opt.ranks,
                 copy_name((enum kernels_copy)copy));
        struct speed_row row = {"push",        shape, s.median_us,
                                s.p95_us,      s.n,   bytes,
                                bytes / 305e3, 1,     "goal of 305 GB/s egress (the issue)"};
        if (e->opt.rank == 0)
            speed_write(csv, &row);
    }
}

static void run_speed(struct env *e, const unsigned char *id)
{
    struct slots_shape shape = {.vranks = e->opt.ranks,
                                .experts = 64,
                                .hidden = 7168,
                                .topk = 8,
                                .max_tokens = 128,
                                .fp8 = 1};
    size_t bytes = (size_t)64 << 20; /* four pushes take turns, so that none reads from the L2 */
    env_open(e, shape, (size_t)e->opt.ranks << 24, 0, id);
    FILE *csv = e->opt.rank == 0 ? speed_open(e->opt.csv) : NULL;
    CHECK(e, e->opt.rank != 0 || csv != NULL);
    unsigned int *noise = host_alloc(e, bytes);
    unsigned long long rng = (unsigned long long)e->opt.rank;
    for (size_t i = 0; i < bytes / 4; i++)
        noise[i] = rng_next(&rng);
    void *memory = device_alloc(e, bytes);
    CHECK(e, cudaMemcpy(memory, noise, bytes, cudaMemcpyHostToDevice) == cudaSuccess);
    speed_exchanges(e, csv);
    speed_pushes(e, csv, memory);
    if (csv != NULL)
        fclose(csv);
    cudaFree(memory);
    free(noise);
    env_close(e);
}

static int run_rank(struct options opt)
{
    struct env e = {.opt = opt};
    setvbuf(stdout, NULL, _IOLBF, 0);
    unsigned char id[KERNELS_COMM_ID_BYTES];
    CHECK(&e, cudaSetDevice(opt.rank) == cudaSuccess);
    CHECK(&e, cudaStreamCreateWithFlags(&e.main, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(&e, cudaStreamCreateWithFlags(&e.side, cudaStreamNonBlocking) == cudaSuccess);
    for (int i = 0; i < 2; i++)
        CHECK(&e, cudaEventCreate(&e.event[i]) == cudaSuccess);
    if (opt.rank == 0) {
        CHECK(&e, kernels_comm_id(id) == 0);
        CHECK(&e, write(3, id, sizeof(id)) == (ssize_t)sizeof(id));
    } else {
        CHECK(&e, world_read(3, id, sizeof(id), 120) == 0);
    }
    close(3);
    if (opt.csv != NULL || opt.bench_dir != NULL) {
        if (opt.csv != NULL)
            run_speed(&e, id);
        else
            run_bench(&e, id);
        return 0;
    }
    if (!opt.quick)
        run_large_tests(&e, id);
    run_tests(&e, id);
    return 0;
}

static int probe(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess)
        count = 0;
    return write(3, &count, sizeof(count)) == (ssize_t)sizeof(count) ? 0 : 1;
}

/* An option with a value that all ranks get too. */
static int take_option(struct options *opt, const char *name, const char *value)
{
    if (strcmp(name, "--bench") == 0)
        opt->bench_dir = value;
    else if (strcmp(name, "--csv") == 0)
        opt->csv = value;
    else if (strcmp(name, "--replays") == 0)
        opt->replays = atoi(value);
    else if (strcmp(name, "--deadline") == 0)
        opt->deadline_s = atof(value);
    else if (strcmp(name, "--seed") == 0)
        opt->seed = (unsigned int)strtoul(value, NULL, 0);
    else
        return 0;
    return 1;
}

int main(int argc, char **argv)
{
    struct options opt = {.rank = -1, .replays = 1000, .deadline_s = 10};
    int gpus = 0;
    char *pass[16] = {argv[0]};
    int passed = 1;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--probe") == 0)
            return probe();
        if (strcmp(argv[i], "--quick") == 0) {
            opt.quick = 1;
            pass[passed++] = argv[i];
        } else if (strcmp(argv[i], "--rank") == 0) {
            opt.rank = atoi(value);
            i++;
        } else if (strcmp(argv[i], "--ranks") == 0) {
            opt.ranks = atoi(value);
            i++;
        } else if (strcmp(argv[i], "--gpus") == 0) {
            gpus = atoi(value);
            i++;
        } else if (passed < 12 && i + 1 < argc && take_option(&opt, argv[i], value)) {
            pass[passed++] = argv[i++];
            pass[passed++] = argv[i];
        } else {
            fprintf(stderr,
                    "usage: %s [--gpus N] [--seed N] [--quick] [--replays N] [--deadline S] "
                    "[--bench DIR] [--csv FILE]\n",
                    argv[0]);
            return 2;
        }
    }
    if (opt.rank >= 0)
        return run_rank(opt);
    int found = world_gpus(argv[0]);
    if (found == 0) {
        printf("skipped: no GPU\n");
        return 0;
    }
    if (gpus < 1 || gpus > found)
        gpus = found;
    char seed[16];
    if (opt.seed == 0) {
        opt.seed = (unsigned int)time(NULL);
        snprintf(seed, sizeof(seed), "%u", opt.seed);
        pass[passed++] = (char *)"--seed";
        pass[passed++] = seed;
    }
    if (opt.csv == NULL && opt.bench_dir == NULL)
        printf("seed %u\n", opt.seed);
    fflush(stdout);
    int failed = world_run(pass, gpus, KERNELS_COMM_ID_BYTES, 240);
    printf("%s on %d GPUs\n", failed ? "FAILED" : "passed", gpus);
    return failed;
}
