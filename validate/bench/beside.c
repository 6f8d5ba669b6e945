/* validate/bench/beside.c: what a communication kernel and an expert GEMM do to each other's
 * time. One part of an exchange (all its rounds, on n SMs), or the library's all-to-alls, runs
 * beside the gate+up GEMM on the others; then each alone. */
#include "base/err.h"
#include "base/stats.h"
#include "kernels/delay.h"
#include "kernels/grouped_gemm.h"
#include "validate/gpu_a2a.h"
#include "validate/bench/bench.h"

/* The GEMM runs this long before the first communication kernel starts. */
#define HEAD_START_NS 10000

enum beside_part {
    PART_DISPATCH_SEND,
    PART_DISPATCH_RECV,
    PART_COMBINE_SEND,
    PART_COMBINE_RECV,
    PART_A2A_DISPATCH, /* by the library, with packing and unpacking */
    PART_A2A_COMBINE
};

static const char *const part_kinds[] = {"interference_dispatch_send", "interference_dispatch_recv",
                                         "interference_combine_send",  "interference_combine_recv",
                                         "interference_a2a_dispatch",  "interference_a2a_combine"};

struct beside {
    enum beside_part part;
    int rounds, num_sms;
    struct bench_a2a a2a; /* the parts of the library alone */
    cudaEvent_t event[2];
};

enum beside_run { RUN_TOGETHER, RUN_COMM, RUN_GEMM };

static bool is_library(enum beside_part part)
{
    return part >= PART_A2A_DISPATCH;
}

static int library_launch(struct bench *b, const struct beside *x, struct kernel_stamp *stamp)
{
    int first = x->part == PART_A2A_COMBINE ? x->rounds : 0, err = 0;

    for (int r = 0; !err && r < x->rounds; r++)
        err = gpu_a2a_launch(x->a2a.a2a, b->s, &x->a2a.plan->ops[first + r], b->s->main, stamp + r);
    return err;
}

/* One part of the exchange in all its rounds; stamps from `stamp` on, or none. */
static int part_launch(struct bench *b, enum beside_part part, int rounds, int num_sms,
                       struct kernel_stamp *stamp)
{
    int err = 0;

    for (int r = 0; !err && r < rounds; r++) {
        struct dispatch_args d = bench_dispatch_args(b, r, rounds, num_sms);
        struct combine_args c = bench_combine_args(b, r, rounds, num_sms);

        d.stamp = c.stamp = stamp ? stamp + r : NULL;
        if (part == PART_DISPATCH_SEND)
            err = kernels_dispatch_send_launch(&d, b->s->main);
        else if (part == PART_DISPATCH_RECV)
            err = kernels_dispatch_recv_launch(&d, b->s->main);
        else if (part == PART_COMBINE_SEND)
            err = kernels_combine_send_launch(&c, b->s->main);
        else
            return kernels_combine_recv_launch(&c, b->s->main); /* one for all rounds */
    }
    return err;
}

/* The parts from first to last on all SMs, with barriers, so that every receive finds its data. */
static int parts_between(struct bench *b, const struct beside *x, int first, int last)
{
    int err = 0;

    if (is_library(x->part)) /* needs no other part */
        return 0;
    for (int p = first; !err && p <= last; p++) {
        err = part_launch(b, (enum beside_part)p, x->rounds, b->s->sm_count, NULL);
        if (!err)
            err = bench_barrier(b);
    }
    return err;
}

static int gemm_launch(struct bench *b, int num_sms)
{
    const struct gpu_layer *l = b->s->layer;
    int mean = l->inputs.tokens * l->shape.topk * b->s->ranks / l->shape.experts;
    struct grouped_gemm_args g =
        bench_gemm_args(b, true, 0, l->slots.experts_local, num_sms, mean + mean / 4 + 1);

    g.stamp = b->stamps;
    return kernels_grouped_gemm_launch(&g, b->side);
}

/* Stamp 0: the GEMM; from 1 on: the part's kernels. */
static int beside_pass(struct bench *b, const struct beside *x, enum beside_run run)
{
    struct gpu_session *s = b->s;
    struct delay_args head_start = {.ctas = 1, .min_ns = HEAD_START_NS};
    int err = bench_stamps_reset(b);

    if (!err)
        err = bench_barrier(b);
    if (!err)
        err = parts_between(b, x, 0, (int)x->part - 1);
    if (!err)
        err = GPU(cudaEventRecord(x->event[0], s->main));
    if (!err)
        err = GPU(cudaStreamWaitEvent(b->side, x->event[0], 0));
    if (!err && run != RUN_COMM)
        err = gemm_launch(b, s->sm_count - x->num_sms);
    if (!err)
        err = GPU(cudaEventRecord(x->event[1], b->side));
    if (!err && run == RUN_GEMM)
        err = GPU(cudaStreamWaitEvent(s->main, x->event[1], 0));
    if (!err)
        err = kernels_delay_launch(&head_start, s->main);
    if (!err)
        err = is_library(x->part) ? library_launch(b, x, b->stamps + 1)
                                  : part_launch(b, x->part, x->rounds, x->num_sms, b->stamps + 1);
    if (!err)
        err = GPU(cudaStreamWaitEvent(s->main, x->event[1], 0));
    if (!err)
        err = bench_barrier(b);
    if (!err)
        err = parts_between(b, x, (int)x->part + 1, PART_COMBINE_RECV);
    return err ? err : bench_stamps_read(b);
}

/* Of the part's kernels that lie within the GEMM, or of as many from the first on: their time. */
static double within_us(const struct bench *b, const struct beside *x, int *count, bool find)
{
    double sum = 0;
    int most = x->part == PART_COMBINE_RECV ? 1 : x->rounds;

    for (int i = 0; i < most; i++) {
        if (find && b->got[1 + i].end_ns > b->got[0].end_ns)
            break;
        if (!find && i == *count)
            break;
        sum += bench_us(b, 1 + i);
        if (find)
            *count = i + 1;
    }
    return sum;
}

/* How long any of the part's kernels ran beside the GEMM. */
static double overlap_us(const struct bench *b, const struct beside *x)
{
    const struct kernel_stamp *gemm = &b->got[0];
    double sum = 0;
    int most = x->part == PART_COMBINE_RECV ? 1 : x->rounds;

    for (int i = 1; i <= most; i++) {
        const struct kernel_stamp *comm = &b->got[i];
        unsigned long long begin =
            comm->start_ns > gemm->start_ns ? comm->start_ns : gemm->start_ns;
        unsigned long long end = comm->end_ns < gemm->end_ns ? comm->end_ns : gemm->end_ns;

        sum += end > begin ? (double)(end - begin) * 1e-3 : 0;
    }
    return sum;
}

/* The mean over ranks of each rank's median. */
static int median_over_ranks(struct bench *b, double *us, double *out)
{
    double all[GPU_MAX_RANKS], middle = stats_median(us, BENCH_FEW_REPS);
    int err = gpu_gather(b->s, &middle, all, sizeof middle);

    *out = 0;
    for (int r = 0; !err && r < b->s->ranks; r++)
        *out += all[r] / b->s->ranks;
    return err;
}

enum beside_sample { GEMM_BESIDE, GEMM_ALONE, COMM_BESIDE, COMM_ALONE, OVERLAP, SAMPLES };

static int samples_take(struct bench *b, const struct beside *x, double us[][BENCH_FEW_REPS],
                        bool *none)
{
    int err = 0;

    for (int rep = -1; !err && rep < BENCH_FEW_REPS; rep++) {
        int at = rep < 0 ? 0 : rep, count = 0;

        err = beside_pass(b, x, RUN_TOGETHER);
        us[GEMM_BESIDE][at] = bench_us(b, 0);
        us[COMM_BESIDE][at] = within_us(b, x, &count, true);
        us[OVERLAP][at] = overlap_us(b, x);
        *none |= count == 0;
        if (!err)
            err = beside_pass(b, x, RUN_COMM);
        us[COMM_ALONE][at] = within_us(b, x, &count, false);
        if (!err)
            err = beside_pass(b, x, RUN_GEMM);
        us[GEMM_ALONE][at] = bench_us(b, 0);
    }
    return err;
}

static int beside_report(struct bench *b, struct bench_row row, double us[][BENCH_FEW_REPS],
                         bool none)
{
    double together;
    int err = median_over_ranks(b, us[OVERLAP], &together);

    row.dtype = "compute";
    row.overlap_us = together;
    if (!err)
        err = median_over_ranks(b, us[GEMM_ALONE], &row.alone_us);
    if (!err)
        err = bench_report(b, &row, us[GEMM_BESIDE], BENCH_FEW_REPS);
    row.dtype = "comm";
    if (!err)
        err = median_over_ranks(b, us[COMM_ALONE], &row.alone_us);
    if (!err)
        err = median_over_ranks(b, us[COMM_BESIDE], &row.overlap_us);
    return err || none ? err : bench_report(b, &row, us[COMM_BESIDE], BENCH_FEW_REPS);
}

/* A kernel that does not end within the GEMM on some rank says nothing: all ranks must agree. */
static int none_agree(struct bench *b, bool *none)
{
    double all[GPU_MAX_RANKS], mine = *none;
    int err = gpu_gather(b->s, &mine, all, sizeof mine);

    for (int r = 0; !err && r < b->s->ranks; r++)
        *none |= all[r] > 0;
    return err;
}

static int beside_point(struct bench *b, struct beside *x)
{
    const struct gpu_shape *shape = &b->s->layer->shape;
    double us[SAMPLES][BENCH_FEW_REPS];
    bool none = false;
    struct bench_row row = {.kind = part_kinds[x->part],
                            .num_sms = x->num_sms,
                            .tokens = b->s->layer->inputs.tokens,
                            .experts = shape->experts,
                            .rounds = x->part == PART_COMBINE_RECV ? 1 : x->rounds,
                            .hidden = shape->hidden,
                            .inter = shape->inter,
                            .topk = shape->topk};
    int err = samples_take(b, x, us, &none);

    if (!err)
        err = none_agree(b, &none);
    return err ? err : beside_report(b, row, us, none);
}

static int beside_open(struct beside *x)
{
    int err = 0;

    *x = (struct beside){.event = {NULL, NULL}};
    for (int i = 0; !err && i < 2; i++)
        err = GPU(cudaEventCreateWithFlags(&x->event[i], cudaEventDisableTiming));
    return err;
}

static void beside_close(struct beside *x)
{
    for (int i = 0; i < 2; i++)
        if (x->event[i])
            cudaEventDestroy(x->event[i]);
}

int bench_interference(struct bench *b)
{
    static const int tokens[] = {16, 128, 512};
    static const int points[][2] = {{2, 16}, {2, 32}, {4, 16}, {4, 32}, {8, 8}, {8, 64}};
    const struct gpu_layer *l = b->s->layer;
    struct beside x;
    int err = beside_open(&x);

    for (int t = 0; !err && t < 3 && tokens[t] <= l->shape.max_tokens; t++) {
        err = bench_inputs_draw(b, tokens[t]);
        for (int i = 0; !err && i < (b->quick ? 1 : 6); i++)
            for (int part = 0; !err && part <= PART_COMBINE_RECV; part++) {
                x.part = (enum beside_part)part;
                x.rounds = points[i][0];
                x.num_sms = points[i][1];
                if (bench_grid_possible(b, x.rounds, x.num_sms) &&
                    (part != PART_COMBINE_RECV || bench_grid_possible(b, 1, x.num_sms)))
                    err = beside_point(b, &x);
            }
    }
    beside_close(&x);
    return err;
}

/* The library's all-to-alls of a few rounds beside the GEMM of all local experts. */
int bench_a2a_beside(struct bench *b)
{
    static const int tokens[] = {512, 1024, 2048}, sms[] = {8, 16, 32};
    struct beside x;
    int err = beside_open(&x);

    x.rounds = 4;
    for (int i = 0; !err && i < 9 && tokens[i / 3] <= b->s->layer->shape.max_tokens; i++) {
        x.num_sms = sms[i % 3];
        if (i % 3 == 0)
            err = bench_inputs_draw(b, tokens[i / 3]);
        err = err ? err : bench_a2a_open(b, tokens[i / 3], x.rounds, x.num_sms, &x.a2a);
        for (int part = PART_A2A_DISPATCH; !err && part <= PART_A2A_COMBINE; part++) {
            x.part = (enum beside_part)part;
            err = beside_point(b, &x);
        }
        bench_a2a_close(&x.a2a);
    }
    beside_close(&x);
    return err;
}
