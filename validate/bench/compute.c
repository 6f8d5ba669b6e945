/* validate/bench/compute.c: microbenchmarks of what one GPU does alone. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/skew.h"
#include "kernels/delay.h"
#include "kernels/grouped_gemm.h"
#include "kernels/silu_mul_quant.h"
#include "validate/bench/bench.h"

#define DENSE_ROTATED   ((size_t)128 << 20) /* weights in a chain: well past the L2 */
#define DENSE_CHAIN_MIN 10
#define DENSE_CHAIN_MAX 160
#define EMPTY_CHAIN     32

static int act_launch(struct bench *b, int first, int count, int num_sms,
                      struct kernel_stamp *stamp)
{
    struct gpu_layer *l = b->s->layer;
    struct gpu_half *h = &l->half[0];
    struct silu_mul_quant_args a = {.dtype = GEMM_FP8,
                                    .num_experts = l->slots.experts_local,
                                    .first_expert = first,
                                    .expert_count = count,
                                    .max_rows = l->slots.rows_max,
                                    .inter = l->shape.inter,
                                    .num_sms = num_sms,
                                    .in = h->gate_up,
                                    .out = h->act,
                                    .scale = h->act_scales,
                                    .scale_row_stride = 1,
                                    .scale_k_stride = l->slots.rows_max,
                                    .rows = h->rows,
                                    .stamp = stamp};

    return kernels_silu_mul_quant_launch(&a, b->s->main);
}

/* All rounds of the expert FFN one after another, as a layer runs them, so that no round finds its
 * weights in the L2. stamps: 3 per round. */
static int ffn_launch(struct bench *b, int rounds, int num_sms, int rows, const int *each)
{
    int count = b->s->layer->slots.experts_local / rounds, err = 0;

    for (int r = 0; !err && r < rounds; r++) {
        struct grouped_gemm_args up = bench_gemm_args(b, true, r * count, count, num_sms, rows);
        struct grouped_gemm_args down = bench_gemm_args(b, false, r * count, count, num_sms, rows);

        up.rows_each = down.rows_each = each ? each + r * count : NULL;
        up.stamp = b->stamps + 3 * r;
        down.stamp = b->stamps + 3 * r + 2;
        err = kernels_grouped_gemm_launch(&up, b->s->main);
        if (!err)
            err = act_launch(b, r * count, count, num_sms, b->stamps + 3 * r + 1);
        if (!err)
            err = kernels_grouped_gemm_launch(&down, b->s->main);
    }
    return err;
}

static int ffn_pass(struct bench *b, int rounds, int num_sms, int rows, const int *each)
{
    int err = bench_stamps_reset(b);

    if (!err)
        err = ffn_launch(b, rounds, num_sms, rows, each);
    return err ? err : bench_stamps_read(b);
}

#define GAP_ROUNDS 4

/* From the end of a kernel to the start of the next of the same stream in a graph, both as layers
 * have them: with shared memory to set up, which kernels that do nothing have not. */
static int gap_point(struct bench *b)
{
    struct bench_row row = {.kind = "launch_gap_graph"};
    double us[3 * GAP_ROUNDS - 1];
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    int ended, err = bench_rows_set(b, 16);

    if (!err)
        err = GPU(cudaStreamBeginCapture(b->s->main, cudaStreamCaptureModeThreadLocal));
    if (err)
        return err;
    err = ffn_launch(b, GAP_ROUNDS, b->s->sm_count, 16, NULL);
    ended = GPU(cudaStreamEndCapture(b->s->main, &graph));
    err = err ? err : ended;
    if (!err)
        err = GPU(cudaGraphInstantiate(&exec, graph, 0));
    for (int rep = 0; !err && rep < 3; rep++) {
        err = bench_stamps_reset(b);
        if (!err)
            err = GPU(cudaGraphLaunch(exec, b->s->main));
        if (!err)
            err = bench_stamps_read(b);
    }
    for (int i = 0; !err && i < 3 * GAP_ROUNDS - 1; i++)
        us[i] = (double)(long long)(b->got[i + 1].start_ns - b->got[i].end_ns) * 1e-3;
    if (exec)
        cudaGraphExecDestroy(exec);
    if (graph)
        cudaGraphDestroy(graph);
    return err ? err : bench_report(b, &row, us, 3 * GAP_ROUNDS - 1);
}

static int ffn_point(struct bench *b, int rounds, int num_sms, int rows, double skew)
{
    const struct gpu_layer *l = b->s->layer;
    int count = l->slots.experts_local / rounds, n = 0, err, each[SLOTS_MAX_EXPERTS];
    int hidden = l->shape.hidden, inter = l->shape.inter, reps = rounds > 2 ? 3 : 5;
    double us[3][64];

    for (int r = 0; r < rounds; r++)
        skew_rows(count, rows * count, skew, l->slots.rows_max, each + r * count);
    err = bench_rows_upload(b, each);
    for (int rep = -1; !err && rep < reps; rep++) {
        err = ffn_pass(b, rounds, num_sms, rows, skew > 0 ? each : NULL);
        for (int r = 0; !err && rep >= 0 && r < rounds; r++, n++)
            for (int i = 0; i < 3; i++)
                us[i][n] = bench_us(b, 3 * r + i);
    }
    struct bench_row up = {.kind = "gemm_masked",
                           .dtype = "fp8",
                           .num_sms = num_sms,
                           .rows = rows,
                           .groups = count,
                           .n = 2 * inter,
                           .k = hidden,
                           .skew = skew};
    struct bench_row act = {.kind = "act_quant",
                            .dtype = "fp8",
                            .num_sms = num_sms,
                            .rows = rows,
                            .groups = count,
                            .inter = inter};
    struct bench_row down = up;

    down.n = hidden;
    down.k = inter;
    if (!err)
        err = bench_report(b, &up, us[0], n);
    if (!err && skew == 0)
        err = bench_report(b, &act, us[1], n);
    return err ? err : bench_report(b, &down, us[2], n);
}

struct act_args {
    int num_sms;
};

static int act_start(struct bench *b, const void *args)
{
    return act_launch(b, 0, 1, ((const struct act_args *)args)->num_sms, b->stamps);
}

/* The activation of a shared expert: one group. */
static int act_points(struct bench *b)
{
    static const int rows[] = {16, 32, 64, 128, 256, 512, 1024};
    struct act_args a = {b->s->sm_count};
    int err = 0;

    for (int i = 0; !err && i < 7 && rows[i] <= b->s->layer->slots.rows_max; i++) {
        struct bench_row row = {.kind = "act_quant",
                                .dtype = "fp8",
                                .num_sms = a.num_sms,
                                .rows = rows[i],
                                .groups = 1,
                                .inter = b->s->layer->shape.inter};

        err = bench_rows_set(b, rows[i]);
        if (!err)
            err = bench_repeat(b, act_start, &a, &row);
    }
    return err;
}

#define COUNTED_M 64 /* as sbo asks for */

/* Both GEMMs with tiles of COUNTED_M rows, each counted when it is done. Stamps: up, down. */
static int counted_pass(struct bench *b, int num_sms, int *counts, size_t bytes)
{
    int count = b->s->layer->slots.experts_local, err = bench_stamps_reset(b);

    for (int i = 0; !err && i < 2; i++) {
        struct grouped_gemm_args a = bench_gemm_args(b, i == 0, 0, count, num_sms, 0);

        a.block_m = COUNTED_M;
        a.tile_done = counts;
        a.stamp = b->stamps + i;
        err = GPU(cudaMemsetAsync(counts, 0, bytes, b->s->main));
        if (!err)
            err = kernels_grouped_gemm_launch(&a, b->s->main);
    }
    return err ? err : bench_stamps_read(b);
}

static int counted_point(struct bench *b, int num_sms, int rows, int *counts, size_t bytes)
{
    const struct gpu_layer *l = b->s->layer;
    struct bench_row row = {.kind = "gemm_masked",
                            .dtype = "fp8",
                            .num_sms = num_sms,
                            .rows = rows,
                            .groups = l->slots.experts_local,
                            .block_m = COUNTED_M};
    double us[2][BENCH_FEW_REPS];
    int err = bench_rows_set(b, rows);

    for (int rep = -1; !err && rep < BENCH_FEW_REPS; rep++) {
        err = counted_pass(b, num_sms, counts, bytes);
        for (int i = 0; !err && rep >= 0 && i < 2; i++)
            us[i][rep] = bench_us(b, i);
    }
    for (int i = 0; !err && i < 2; i++) {
        row.n = i ? l->shape.hidden : 2 * l->shape.inter;
        row.k = i ? l->shape.inter : l->shape.hidden;
        err = bench_report(b, &row, us[i], BENCH_FEW_REPS);
    }
    return err;
}

static int counted_points(struct bench *b)
{
    static const int sms[] = {132, 124, 100}, rows[] = {8, 32, 64, 96, 128, 192, 256, 512};
    const struct slots *slots = &b->s->layer->slots;
    size_t blocks = (size_t)(slots->rows_max + COUNTED_M - 1) / COUNTED_M;
    size_t bytes = blocks * (size_t)slots->experts_local * sizeof(int);
    void *counts = NULL;
    int err = gpu_alloc(&counts, bytes);

    for (int s = 0; !err && s < (b->quick ? 1 : 3); s++)
        for (int m = 0; !err && m < (b->quick ? 2 : 8); m++)
            if (rows[m] <= slots->rows_max)
                err = counted_point(b, sms[s], rows[m], counts, bytes);
    cudaFree(counts);
    return err;
}

/* Rows as unevenly spread as a skewed router spreads them. */
static int skewed_points(struct bench *b)
{
    static const double skews[] = {0.8, 1.2};
    static const int rounds[] = {1, 4}, sms[] = {132, 100}, rows[] = {8, 24, 64};
    int locals = b->s->layer->slots.experts_local, err = 0;

    for (int i = 0; !err && i < (b->quick ? 1 : 2 * 2 * 2 * 3); i++) {
        int r = rounds[i / 2 % 2], m = rows[i / 8];

        if (locals % r == 0 && locals / r > 3 && m <= b->s->layer->slots.rows_max)
            err = ffn_point(b, r, sms[i / 4 % 2], m, skews[i % 2]);
    }
    return err;
}

int bench_experts(struct bench *b)
{
    static const int rounds[] = {1, 2, 4, 8}, sms[] = {132, 124, 116, 100, 68};
    static const int rows[] = {1, 4, 8, 16, 32, 64, 96, 128, 192, 256};
    int locals = b->s->layer->slots.experts_local, err = 0;

    if (locals % GAP_ROUNDS == 0)
        err = gap_point(b);
    for (int r = 0; !err && r < (b->quick ? 1 : 4); r++)
        for (int s = 0; !err && s < (b->quick ? 1 : 5); s++)
            for (int m = 0; !err && m < (b->quick ? 4 : 10); m++)
                if (locals % rounds[r] == 0 && rows[m] <= b->s->layer->slots.rows_max)
                    err = ffn_point(b, rounds[r], sms[s], rows[m], 0);
    if (!err)
        err = skewed_points(b);
    if (!err)
        err = act_points(b);
    return err ? err : counted_points(b);
}

/* Library GEMMs leave no stamps: a chain of them in one graph, each with other weights, since a
 * layer streams far more than the L2 holds between two uses of the same. */
struct dense_chain {
    void *weights;
    size_t bytes; /* of one copy */
    int copies;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t event[2];
};

static int chain_weights(struct dense_chain *c, const struct dense_gemm_shape *shape,
                         const void *from)
{
    int err;

    c->bytes = (size_t)shape->n * (size_t)shape->k * (shape->dtype == GEMM_BF16 ? 2 : 1);
    c->copies = (int)(DENSE_ROTATED / c->bytes) + 1;
    c->copies = c->copies < DENSE_CHAIN_MIN ? DENSE_CHAIN_MIN : c->copies;
    c->copies = c->copies > DENSE_CHAIN_MAX ? DENSE_CHAIN_MAX : c->copies;
    err = gpu_alloc(&c->weights, c->bytes * (size_t)c->copies);
    for (int i = 0; !err && i < c->copies; i++)
        err = GPU(cudaMemcpy((char *)c->weights + c->bytes * (size_t)i, from, c->bytes,
                             cudaMemcpyDeviceToDevice));
    return err;
}

static int chain_open(struct dense_chain *c, struct bench *b, const struct gpu_dense_entry *e,
                      struct dense_gemm_args a)
{
    struct gpu_session *s = b->s;
    int ended, err = chain_weights(c, &e->shape, a.b);

    if (!err)
        err = GPU(cudaStreamBeginCapture(s->main, cudaStreamCaptureModeThreadLocal));
    if (err)
        return err;
    for (int i = 0; !err && i < c->copies; i++) {
        a.b = (const char *)c->weights + c->bytes * (size_t)i;
        err = kernels_dense_gemm_launch(e->gemm, &a, s->main);
    }
    ended = GPU(cudaStreamEndCapture(s->main, &c->graph));
    err = err ? err : ended;
    if (!err)
        err = GPU(cudaGraphInstantiate(&c->exec, c->graph, 0));
    for (int i = 0; !err && i < 2; i++)
        err = GPU(cudaEventCreate(&c->event[i]));
    return err;
}

static void chain_close(struct dense_chain *c)
{
    for (int i = 0; i < 2; i++)
        if (c->event[i])
            cudaEventDestroy(c->event[i]);
    if (c->exec)
        cudaGraphExecDestroy(c->exec);
    if (c->graph)
        cudaGraphDestroy(c->graph);
    cudaFree(c->weights);
}

/* One launch's share of the chain, less the gap between kernels. */
static int chain_time(const struct dense_chain *c, struct bench *b, double *us)
{
    struct gpu_session *s = b->s;
    float ms = 0;
    int err = GPU(cudaGraphLaunch(c->exec, s->main)); /* hides the start of the next */

    if (!err)
        err = GPU(cudaEventRecord(c->event[0], s->main));
    if (!err)
        err = GPU(cudaGraphLaunch(c->exec, s->main));
    if (!err)
        err = GPU(cudaEventRecord(c->event[1], s->main));
    if (!err)
        err = gpu_wait(s, s->main);
    if (!err)
        err = GPU(cudaEventElapsedTime(&ms, c->event[0], c->event[1]));
    *us = (double)ms * 1e3 / c->copies - s->gap_ns * 1e-3;
    return err;
}

int bench_dense_point(struct bench *b, struct gpu_dense_entry *e, const struct dense_gemm_args *a,
                      struct bench_row *row)
{
    struct dense_chain c = {0};
    double us[BENCH_REPS], first;
    int err = chain_open(&c, b, e, *a);

    for (int rep = -2; !err && rep < BENCH_REPS; rep++)
        err = chain_time(&c, b, rep < 0 ? &first : &us[rep]);
    chain_close(&c);
    row->dtype = e->shape.dtype == GEMM_BF16 ? "bf16" : "fp8";
    row->kind = e->shape.dtype == GEMM_BF16             ? "gemm_bf16"
                : e->shape.scaling == DENSE_SCALE_BLOCK ? "gemm_fp8_block"
                                                        : "gemm_fp8";
    return err ? err : bench_report(b, row, us, BENCH_REPS);
}

/* The GEMMs of a router and of a shared expert as wide as a routed one. */
int bench_dense(struct bench *b, int least)
{
    static const int tokens[] = {16, 32, 64, 128, 256, 512, 1024, 2048};
    struct gpu_layer *l = b->s->layer;
    int hidden = l->shape.hidden, inter = l->shape.inter, err = gpu_dense_open(b->s, inter);
    const struct gpu_dense_memory *d = &l->dense;

    for (int i = 0; !err && i < 8 && tokens[i] <= l->shape.max_tokens; i++) {
        if (tokens[i] < least)
            continue;

        struct dense_gemm_args args[3] = {{.a = d->x, .b = d->router, .c = d->logits},
                                          {.a = d->x,
                                           .a_scale = d->x_scales,
                                           .b = d->up,
                                           .b_scale = d->up_scales,
                                           .c = d->gate_up},
                                          {.a = d->act,
                                           .a_scale = d->act_scales,
                                           .b = d->down,
                                           .b_scale = d->down_scales,
                                           .c = d->out}};
        int n[3] = {l->shape.experts, 2 * inter, hidden}, k[3] = {hidden, hidden, inter};

        for (int j = 0; !err && j < 3; j++) {
            struct dense_gemm_shape shape = {
                .dtype = j ? GEMM_FP8 : GEMM_BF16, .m = tokens[i], .n = n[j], .k = k[j]};
            struct bench_row row = {
                .num_sms = b->s->sm_count, .rows = tokens[i], .groups = 1, .n = n[j], .k = k[j]};
            struct gpu_dense_entry *e;

            gpu_dense_room(b->s, 1);
            err = gpu_dense_find(b->s, shape, &e);
            if (!err)
                err = bench_dense_point(b, e, &args[j], &row);
        }
    }
    return err;
}

static int copy_start(struct bench *b, const void *args)
{
    return kernels_hbm_copy_launch(args, b->s->main);
}

static int copy_points(struct bench *b)
{
    static const int sms[] = {1, 2, 4, 8, 16, 32, 64, 100, 132};
    static const size_t sizes[] = {(size_t)1 << 20, (size_t)16 << 20, (size_t)256 << 20};
    void *memory = NULL;
    int err = gpu_alloc(&memory, (size_t)512 << 20);

    for (int i = 0; !err && i < 3; i++)
        for (int j = 0; !err && j < 9; j++) {
            struct hbm_copy_args a = {.ctas = sms[j],
                                      .to = (char *)memory + ((size_t)256 << 20),
                                      .from = memory,
                                      .bytes = sizes[i],
                                      .stamp = b->stamps};
            struct bench_row row = {
                .kind = "hbm_copy", .num_sms = sms[j], .bytes = 2.0 * (double)sizes[i]};

            err = bench_repeat(b, copy_start, &a, &row);
        }
    cudaFree(memory);
    return err;
}

/* Empty kernels launched by the host one by one: from start to start. */
static int eager_point(struct bench *b)
{
    struct bench_row row = {.kind = "launch_eager"};
    double us[EMPTY_CHAIN - 8];
    int err = bench_stamps_reset(b);

    for (int i = 0; !err && i < EMPTY_CHAIN; i++) {
        struct delay_args a = {.ctas = b->s->sm_count, .stamp = b->stamps + i};

        err = kernels_delay_launch(&a, b->s->main);
    }
    if (!err)
        err = bench_stamps_read(b);
    for (int i = 0; !err && i < EMPTY_CHAIN - 8; i++)
        us[i] = (double)(long long)(b->got[i + 8].start_ns - b->got[i + 7].start_ns) * 1e-3;
    return err ? err : bench_report(b, &row, us, EMPTY_CHAIN - 8);
}

/* Across streams: from the end of a kernel to the start of one that waited for it by an event. */
static int cross_point(struct bench *b)
{
    struct bench_row row = {.kind = "launch_gap_cross"};
    cudaStream_t stream[2] = {b->s->main, b->side};
    cudaEvent_t event[EMPTY_CHAIN] = {NULL};
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    double us[EMPTY_CHAIN - 1];
    int ended, err = 0;

    for (int i = 0; !err && i < EMPTY_CHAIN; i++)
        err = GPU(cudaEventCreateWithFlags(&event[i], cudaEventDisableTiming));
    if (!err)
        err = GPU(cudaStreamBeginCapture(b->s->main, cudaStreamCaptureModeThreadLocal));
    if (err)
        return err;
    for (int i = 0; !err && i < EMPTY_CHAIN - 1; i++) { /* an odd number ends on the first stream */
        struct delay_args a = {.ctas = b->s->sm_count, .stamp = b->stamps + i};

        if (i)
            err = GPU(cudaStreamWaitEvent(stream[i % 2], event[i - 1], 0));
        if (!err)
            err = kernels_delay_launch(&a, stream[i % 2]);
        if (!err)
            err = GPU(cudaEventRecord(event[i], stream[i % 2]));
    }
    ended = GPU(cudaStreamEndCapture(b->s->main, &graph));
    err = err ? err : ended;
    if (!err)
        err = GPU(cudaGraphInstantiate(&exec, graph, 0));
    for (int rep = 0; !err && rep < 2; rep++) {
        err = bench_stamps_reset(b);
        if (!err)
            err = GPU(cudaGraphLaunch(exec, b->s->main));
        if (!err)
            err = bench_stamps_read(b);
    }
    for (int i = 0; !err && i < EMPTY_CHAIN - 2; i++)
        us[i] = (double)(long long)(b->got[i + 1].start_ns - b->got[i].end_ns) * 1e-3;
    for (int i = 0; i < EMPTY_CHAIN; i++)
        cudaEventDestroy(event[i]);
    if (exec)
        cudaGraphExecDestroy(exec);
    if (graph)
        cudaGraphDestroy(graph);
    return err ? err : bench_report(b, &row, us, EMPTY_CHAIN - 2);
}

int bench_machine(struct bench *b)
{
    int err = cross_point(b);

    if (!err)
        err = eager_point(b);
    return err ? err : copy_points(b);
}
