/* validate/bench/comm.c: microbenchmarks of what GPUs do together. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/skew.h"
#include "base/stats.h"
#include "kernels/dedup.h"
#include "kernels/delay.h"
#include "kernels/grouped_gemm.h"
#include "kernels/rows.h"
#include "plan/plan.h"
#include "validate/gpu_a2a.h"
#include "validate/bench/bench.h"

#define PUSH_MAX   ((size_t)16 << 20)
#define MAX_ROUNDS 8

struct dispatch_args bench_dispatch_args(struct bench *b, int round, int rounds, int num_sms)
{
    struct gpu_layer *l = b->s->layer;
    struct gpu_half *h = &l->half[0];

    return (struct dispatch_args){.comm = l->comm,
                                  .round = round,
                                  .rounds = rounds,
                                  .num_sms = num_sms,
                                  .tokens = l->inputs.tokens,
                                  .x = l->x,
                                  .topk_idx = l->topk_idx,
                                  .topk_idx_bytes = 4,
                                  .topk_weights = l->topk_weights,
                                  .packed_x = h->packed_x,
                                  .packed_scales = h->packed_scales,
                                  .scale_row = l->shape.hidden / 128,
                                  .scale_group = 1,
                                  .sources = h->sources,
                                  .rows = h->rows,
                                  .segments = h->segments};
}

struct combine_args bench_combine_args(struct bench *b, int round, int rounds, int num_sms)
{
    struct gpu_layer *l = b->s->layer;
    struct gpu_half *h = &l->half[0];

    return (struct combine_args){.comm = l->comm,
                                 .round = round,
                                 .rounds = rounds,
                                 .num_sms = num_sms,
                                 .y_packed = h->y_packed,
                                 .sources = h->sources,
                                 .rows = h->rows,
                                 .segments = h->segments,
                                 .tokens = l->inputs.tokens,
                                 .topk_idx = l->topk_idx,
                                 .topk_idx_bytes = 4,
                                 .topk_weights = l->topk_weights,
                                 .y = l->y};
}

/* Uniform choices, all different, of every rank's tokens. The caller frees r->expert. */
static int routing_draw(const struct bench *b, int tokens, struct plan_routing *r)
{
    const struct gpu_shape *shape = &b->s->layer->shape;
    size_t num = (size_t)b->s->ranks * (size_t)tokens;
    uint64_t state = 7 + (uint64_t)tokens;

    *r = (struct plan_routing){
        .ranks = b->s->ranks, .tokens = tokens, .topk = shape->topk, .experts = shape->experts};
    r->expert = malloc(num * (size_t)shape->topk * sizeof *r->expert);
    if (!r->expert)
        return ERR_NOMEM;
    for (size_t t = 0; t < num; t++)
        for (int k = 0; k < shape->topk; k++) {
            int32_t *e = r->expert + t * (size_t)shape->topk;
            bool taken;

            do {
                e[k] = (int32_t)(data_random(&state) % (uint64_t)shape->experts);
                taken = false;
                for (int j = 0; j < k; j++)
                    taken |= e[j] == e[k];
            } while (taken);
        }
    return 0;
}

/* Choices without repeats, likelier the larger its expert's share among those of its rank: of
 * exponential clocks of these rates the first topk ring. All ranks' experts have the same shares.
 */
static int routing_draw_skewed(const struct bench *b, int tokens, double skew,
                               struct plan_routing *r)
{
    double share[SLOTS_MAX_EXPERTS], rings[SLOTS_MAX_EXPERTS];
    uint64_t state = 11 + (uint64_t)tokens;
    int err = routing_draw(b, tokens, r), locals = r->experts / r->ranks;

    skew_shares(locals, skew, share);
    for (int t = 0; !err && t < r->ranks * r->tokens; t++) {
        for (int e = 0; e < r->experts; e++) {
            double u = ((double)(data_random(&state) >> 11) + 0.5) * 0x1p-53;

            rings[e] = -log(u) / share[e % locals];
        }
        for (int k = 0; k < r->topk; k++) {
            int first = 0;

            for (int e = 1; e < r->experts; e++)
                if (rings[e] < rings[first])
                    first = e;
            r->expert[t * r->topk + k] = first;
            rings[first] = INFINITY;
        }
    }
    return err;
}

/* Most choices of one expert by one rank's tokens. */
static int routing_hot_rows(const struct plan_routing *r)
{
    int most = 0;

    for (int rank = 0; rank < r->ranks; rank++) {
        int count[SLOTS_MAX_EXPERTS] = {0};

        for (int i = 0; i < r->tokens * r->topk; i++) {
            int e = r->expert[rank * r->tokens * r->topk + i];

            most = ++count[e] > most ? count[e] : most;
        }
    }
    return most;
}

int bench_inputs_skewed(struct bench *b, int tokens, double skew, int *hot_rows)
{
    struct plan_routing r;
    int err = routing_draw_skewed(b, tokens, skew, &r);

    if (!err)
        *hot_rows = routing_hot_rows(&r);
    if (!err)
        err = gpu_inputs(b->s, &r, tokens, 1);
    free(r.expert);
    return err;
}

int bench_inputs_draw(struct bench *b, int tokens)
{
    struct plan_routing r;
    int err = routing_draw(b, tokens, &r);

    if (!err)
        err = gpu_inputs(b->s, &r, tokens, 1);
    free(r.expert);
    return err;
}

/* The one receive of several rounds has all SMs, as in every plan. */
static int combine_recv_sms(const struct bench *b, int rounds, int num_sms)
{
    return rounds > 1 ? b->s->sm_count : num_sms;
}

int bench_barrier(struct bench *b)
{
    return kernels_comm_barrier(b->s->control, b->s->main);
}

/* One exchange in phases with barriers between them, so that every receive finds its data. Stamps:
 * dispatch send of each round, dispatch receive, combine send, then the combine receive. */
static int phases_pass(struct bench *b, int rounds, int num_sms, int hot_rows)
{
    int at = 0, err = bench_stamps_reset(b);
    cudaStream_t stream = b->s->main;

    if (!err)
        err = bench_barrier(b);
    for (int phase = 0; phase < 2; phase++) {
        for (int r = 0; !err && r < rounds; r++) {
            struct dispatch_args a = bench_dispatch_args(b, r, rounds, num_sms);

            a.hot_rows = hot_rows;
            a.stamp = b->stamps + at++;
            err = phase ? kernels_dispatch_recv_launch(&a, stream)
                        : kernels_dispatch_send_launch(&a, stream);
        }
        if (!err)
            err = bench_barrier(b);
    }
    for (int r = 0; !err && r < rounds; r++) {
        struct combine_args a = bench_combine_args(b, r, rounds, num_sms);

        a.stamp = b->stamps + at++;
        err = kernels_combine_send_launch(&a, stream);
    }
    if (!err)
        err = bench_barrier(b);
    if (!err) {
        struct combine_args a = bench_combine_args(b, 0, 1, combine_recv_sms(b, rounds, num_sms));

        a.stamp = b->stamps + at;
        err = kernels_combine_recv_launch(&a, stream);
    }
    return err ? err : bench_stamps_read(b);
}

/* Can every kernel of these rounds run on so few SMs? */
bool bench_grid_possible(const struct bench *b, int rounds, int num_sms)
{
    const struct gpu_layer *l = b->s->layer;
    struct kernels_grid grid;

    return l->slots.experts_local % rounds == 0 &&
           kernels_comm_grid(l->shape.experts / rounds, num_sms, 1, &grid) == 0;
}

/* What the repetitions of a point of an exchange gave, n0 of round 0 and n1 of later ones. */
struct phases {
    double us[3][2][64], wait_us[2], combine_us[BENCH_REPS], combine_wait_us;
    int n0, n1;
};

static int phases_report(struct bench *b, struct bench_row row, const struct phases *p)
{
    static const char *const kinds[] = {"ll_dispatch_send", "ll_dispatch_recv", "ll_combine_send"};
    int err = 0;

    for (int kind = 0; !err && kind < 3; kind++) {
        row.kind = kinds[kind];
        row.dtype = kind < 2 ? "fp8" : "bf16";
        for (row.round = 0; !err && row.round < 2; row.round++) {
            int n = row.round ? p->n1 : p->n0;

            row.wait_us = kind == 1 && n > 0 ? p->wait_us[row.round] / n : 0;
            if (n > 0)
                err = bench_report(b, &row, p->us[kind][row.round], n);
        }
    }
    row.kind = "ll_combine_recv";
    row.dtype = "bf16";
    row.num_sms = combine_recv_sms(b, row.rounds, row.num_sms);
    row.rounds = 1;
    row.round = 0;
    row.wait_us = p->combine_wait_us / BENCH_REPS;
    return err ? err : bench_report(b, &row, p->combine_us, BENCH_REPS);
}

static void phases_take(const struct bench *b, int rounds, int rep, struct phases *p)
{
    for (int r = 0; r < rounds; r++) {
        for (int kind = 0; kind < 3; kind++)
            p->us[kind][r > 0][r > 0 ? p->n1 + r - 1 : p->n0] = bench_us(b, kind * rounds + r);
        p->wait_us[r > 0] += bench_wait_us(b, rounds + r);
    }
    p->combine_us[rep] = bench_us(b, 3 * rounds);
    p->combine_wait_us += bench_wait_us(b, 3 * rounds);
    p->n0++;
    p->n1 += rounds - 1;
}

static int phases_point(struct bench *b, struct bench_row row)
{
    struct phases p = {0};
    int err = 0;

    for (int rep = -1; !err && rep < BENCH_REPS; rep++) {
        err = phases_pass(b, row.rounds, row.num_sms, row.hot_rows);
        if (!err && rep >= 0)
            phases_take(b, row.rounds, rep, &p);
    }
    return err ? err : phases_report(b, row, &p);
}

/* Dispatch and combine as one kernel each, of either exchange. */
static int fused_point(struct bench *b, struct bench_row row, bool dedup)
{
    int (*dispatch)(const struct dispatch_args *, cudaStream_t) =
        dedup ? kernels_dedup_dispatch_launch : kernels_dispatch_fused_launch;
    int (*combine)(const struct combine_args *, cudaStream_t) =
        dedup ? kernels_dedup_combine_launch : kernels_combine_fused_launch;
    double us[2][BENCH_REPS];
    int err = 0;

    for (int rep = -1; !err && rep < BENCH_REPS; rep++) {
        struct dispatch_args d = bench_dispatch_args(b, 0, 1, row.num_sms);
        struct combine_args c = bench_combine_args(b, 0, 1, row.num_sms);

        d.hot_rows = row.hot_rows;
        d.stamp = b->stamps;
        c.stamp = b->stamps + 1;
        err = bench_stamps_reset(b);
        if (!err)
            err = bench_barrier(b);
        if (!err)
            err = dispatch(&d, b->s->main);
        if (!err)
            err = bench_barrier(b);
        if (!err)
            err = combine(&c, b->s->main);
        if (!err)
            err = bench_stamps_read(b);
        for (int i = 0; !err && rep >= 0 && i < 2; i++)
            us[i][rep] = bench_us(b, i);
    }
    row.kind = dedup ? "dedup_dispatch" : "ll_dispatch";
    row.dtype = "fp8";
    if (!err)
        err = bench_report(b, &row, us[0], BENCH_REPS);
    row.kind = dedup ? "dedup_combine" : "ll_combine";
    row.dtype = "bf16";
    return err ? err : bench_report(b, &row, us[1], BENCH_REPS);
}

int bench_exchange(struct bench *b, const int *tokens, int num_tokens)
{
    static const int points[][2] = {{1, 132}, {1, 100}, {1, 64}, {1, 32}, {1, 24},
                                    {2, 132}, {2, 100}, {2, 32}, {2, 16}, {4, 132},
                                    {4, 64},  {4, 32},  {4, 24}, {4, 16}, {4, 8},
                                    {8, 132}, {8, 64},  {8, 32}, {8, 16}, {8, 8}};
    const struct gpu_shape *shape = &b->s->layer->shape;
    int err = 0;

    for (int t = 0; !err && t < num_tokens; t++) {
        err = bench_inputs_draw(b, tokens[t]);
        for (size_t i = 0; !err && i < sizeof points / sizeof *points; i++) {
            struct bench_row row = {.num_sms = points[i][1],
                                    .tokens = tokens[t],
                                    .experts = shape->experts,
                                    .rounds = points[i][0],
                                    .hidden = shape->hidden,
                                    .topk = shape->topk};

            if (!bench_grid_possible(b, points[i][0], points[i][1]))
                continue;
            err = phases_point(b, row);
            if (!err && points[i][0] == 1)
                err = fused_point(b, row, false);
        }
    }
    return err;
}

/* The same under skewed choices. */
int bench_exchange_skewed(struct bench *b)
{
    static const int sms[] = {132, 100, 64, 32, 24};
    static const int tokens[] = {32, 128, 512};
    static const double skews[] = {0.5, 0.8, 1.2};
    const struct gpu_shape *shape = &b->s->layer->shape;
    int err = 0;

    for (int t = 0; !err && t < 9 && tokens[t / 3] <= shape->max_tokens; t++) {
        struct bench_row row = {.tokens = tokens[t / 3],
                                .experts = shape->experts,
                                .rounds = 1,
                                .hidden = shape->hidden,
                                .topk = shape->topk,
                                .skew = skews[t % 3]};

        err = bench_inputs_skewed(b, row.tokens, row.skew, &row.hot_rows);
        for (int i = 0; !err && i < 5; i++) {
            row.num_sms = sms[i];
            if (!bench_grid_possible(b, 1, row.num_sms))
                continue;
            err = phases_point(b, row);
            if (!err)
                err = fused_point(b, row, false);
        }
    }
    return err;
}

int bench_dedup(struct bench *b, const int *tokens, int num_tokens)
{
    static const int sms[] = {132, 64, 24};
    const struct gpu_shape *shape = &b->s->layer->shape;
    int err = 0;

    for (int t = 0; !err && t < num_tokens; t++) {
        err = bench_inputs_draw(b, tokens[t]);
        for (int i = 0; !err && i < 3; i++) {
            struct bench_row row = {.num_sms = sms[i],
                                    .tokens = tokens[t],
                                    .experts = shape->experts,
                                    .rounds = 1,
                                    .hidden = shape->hidden,
                                    .topk = shape->topk};

            err = fused_point(b, row, true);
        }
    }
    return err;
}

static int push_start(struct bench *b, const void *args)
{
    int err = bench_barrier(b);

    return err ? err : kernels_push_launch(args, b->s->main);
}

static int push_points(struct bench *b, struct kernels_comm *comm)
{
    static const int sms[] = {1, 2, 4, 8, 12, 16, 24, 32, 64, 100, 132};
    static const size_t sizes[] = {4096, (size_t)64 << 10, (size_t)1 << 20, PUSH_MAX};
    void *from = NULL;
    int err = gpu_alloc(&from, PUSH_MAX);

    for (int i = 0; !err && i < 4; i++)
        for (int j = 0; !err && j < 11; j++) {
            struct push_args a = {
                .comm = comm, .ctas = sms[j], .bytes = sizes[i], .from = from, .stamp = b->stamps};
            struct bench_row row = {
                .kind = "push", .num_sms = sms[j], .bytes = (double)sizes[i] * (b->s->ranks - 1)};

            err = bench_repeat(b, push_start, &a, &row);
        }
    cudaFree(from);
    return err;
}

/* NCCL's all-to-all on few CTAs; bytes: what a rank sends in all, its own share included. */
static int alltoall_point(struct bench *b, int ctas, size_t bytes, const void *send, void *recv)
{
    struct gpu_session *s = b->s;
    size_t counts[GPU_MAX_RANKS], offsets[GPU_MAX_RANKS];
    struct alltoall_args a = {s->control, ctas, send, recv, counts, offsets, counts, offsets};
    struct bench_row row = {.kind = "a2a", .num_sms = ctas, .bytes = (double)bytes};
    cudaEvent_t event[2] = {NULL, NULL};
    double us[BENCH_REPS];
    int err = 0;

    for (int r = 0; r < s->ranks; r++) {
        counts[r] = bytes / (size_t)s->ranks;
        offsets[r] = counts[r] * (size_t)r;
    }
    for (int i = 0; !err && i < 2; i++)
        err = GPU(cudaEventCreate(&event[i]));
    for (int rep = -2; !err && rep < BENCH_REPS; rep++) {
        float ms = 0;

        err = bench_barrier(b);
        if (!err)
            err = kernels_alltoall_launch(&a, s->main); /* takes up the ranks' skew */
        if (!err)
            err = GPU(cudaEventRecord(event[0], s->main));
        for (int i = 0; !err && i < 4; i++)
            err = kernels_alltoall_launch(&a, s->main);
        if (!err)
            err = GPU(cudaEventRecord(event[1], s->main));
        if (!err)
            err = gpu_wait(s, s->main);
        if (!err)
            err = GPU(cudaEventElapsedTime(&ms, event[0], event[1]));
        if (!err && rep >= 0)
            us[rep] = (double)ms * 1e3 / 4;
    }
    for (int i = 0; i < 2; i++)
        if (event[i])
            cudaEventDestroy(event[i]);
    return err ? err : bench_report(b, &row, us, BENCH_REPS);
}

static int alltoall_points(struct bench *b)
{
    static const int ctas[] = {4, 8, 16, 32};
    size_t most = (size_t)64 << 20;
    void *memory = NULL;
    int err = gpu_alloc(&memory, 2 * most);

    for (int i = 0; !err && i < 4; i++) {
        err = kernels_comm_alltoall_open(b->s->control, ctas[i]);
        for (size_t bytes = (size_t)64 << 10; !err && bytes <= most; bytes *= 4)
            err = alltoall_point(b, ctas[i], bytes, memory, (char *)memory + most);
    }
    cudaFree(memory);
    return err;
}

int bench_links(struct bench *b)
{
    struct gpu_shape shape = {.vranks = b->s->ranks,
                              .experts = b->s->ranks,
                              .hidden = 512,
                              .topk = 1,
                              .max_tokens = 1,
                              .fp8 = true};
    struct bench_row row = {.kind = "flag_rtt"};
    struct kernels_comm *comm = NULL;
    double trip_us = 0;
    int err = 0;

    if (b->s->ranks < 2)
        return 0;
    for (int r = 1; r < b->s->ranks; r++)
        trip_us += (double)b->s->clock_trip_ns[r] * 1e-3 / (b->s->ranks - 1);
    err = bench_report(b, &row, &trip_us, 1);
    if (!err)
        err = gpu_comm_open(b->s, &shape, PUSH_MAX * (size_t)b->s->ranks, &comm);
    if (!err)
        err = push_points(b, comm);
    kernels_comm_close(comm);
    return err ? err : alltoall_points(b);
}

/* A plan that holds nothing but the all-to-alls of its rounds. */
static int a2a_plan(const struct bench *b, const struct plan_routing *r, int rounds, int num_sms,
                    struct plan **out)
{
    const struct gpu_shape *shape = &b->s->layer->shape;
    int each = shape->experts / b->s->ranks / rounds;
    int err = plan_new(out, b->s->ranks, shape->experts, b->s->sm_count);

    if (!err)
        err = plan_batch_add(*out, r, 0, r->tokens);
    for (int i = 0; err >= 0 && i < 2 * rounds; i++) {
        struct plan_op op = {.kind = i < rounds ? OP_A2A_DISPATCH : OP_A2A_COMBINE,
                             .sms = num_sms,
                             .round = i % rounds,
                             .num_rounds = rounds,
                             .first_expert = i % rounds * each,
                             .num_experts = each,
                             .n = shape->hidden,
                             .dtype = i < rounds ? DTYPE_FP8 : DTYPE_BF16,
                             .comm = COMM_NCCL};

        err = plan_op_add(*out, &op);
    }
    return err < 0 ? err : 0;
}

/* All dispatches, then all combines; a stamp spans pack, all-to-all and unpack of one. */
static int a2a_pass(struct bench *b, struct gpu_a2a *a, const struct plan *plan)
{
    int err = bench_stamps_reset(b);

    if (!err)
        err = bench_barrier(b);
    for (int i = 0; !err && i < plan->num_ops; i++)
        err = gpu_a2a_launch(a, b->s, &plan->ops[i], b->s->main, b->stamps + i);
    return err ? err : bench_stamps_read(b);
}

int bench_a2a_open(struct bench *b, int tokens, int rounds, int num_sms, struct bench_a2a *out)
{
    struct plan_routing r;
    int err = routing_draw(b, tokens, &r);

    *out = (struct bench_a2a){NULL, NULL};
    if (!err)
        err = a2a_plan(b, &r, rounds, num_sms, &out->plan);
    if (!err)
        err = gpu_a2a_open(&out->a2a, b->s, out->plan, NULL);
    free(r.expert);
    return err;
}

void bench_a2a_close(struct bench_a2a *x)
{
    gpu_a2a_close(x->a2a);
    plan_free(x->plan);
    *x = (struct bench_a2a){NULL, NULL};
}

/* Of several rounds' combines the last one alone adds up what came back: it has a line of its own.
 */
static int a2a_report(struct bench *b, struct bench_row row, double us[3][64], const int *n)
{
    double rows = (double)row.tokens * row.topk / row.rounds;
    int err = 0;

    for (int i = 0; !err && i < 3; i++) {
        row.kind = i ? "a2a_combine" : "a2a_dispatch";
        row.dtype = i ? "bf16" : "fp8";
        row.round = i == 2 ? row.rounds - 1 : 0;
        row.bytes = rows * (double)KERNELS_ROWS_MESSAGE(row.hidden, i == 0);
        if (n[i] > 0)
            err = bench_report(b, &row, us[i], n[i]);
    }
    return err;
}

static int a2a_point(struct bench *b, int tokens, int rounds, int num_sms)
{
    const struct gpu_shape *shape = &b->s->layer->shape;
    double us[3][64];
    struct bench_row row = {.num_sms = num_sms,
                            .tokens = tokens,
                            .experts = shape->experts,
                            .rounds = rounds,
                            .hidden = shape->hidden,
                            .topk = shape->topk};
    struct bench_a2a x;
    int n[3] = {0, 0, 0}, err = bench_a2a_open(b, tokens, rounds, num_sms, &x);

    for (int rep = -1; !err && rep < BENCH_FEW_REPS; rep++) {
        err = a2a_pass(b, x.a2a, x.plan);
        for (int i = 0; !err && rep >= 0 && i < x.plan->num_ops; i++) {
            int kind = i < rounds ? 0 : i < 2 * rounds - 1 ? 1 : 2;

            us[kind][n[kind]++] = bench_us(b, i);
        }
    }
    if (!err)
        err = a2a_report(b, row, us, n);
    bench_a2a_close(&x);
    return err;
}

int bench_a2a(struct bench *b)
{
    static const int tokens[] = {64, 512, 2048}, rounds[] = {1, 2, 4};
    static const int sms[] = {8, 16, 32};
    int err = 0;

    for (int t = 0; !err && t < 3; t++) {
        err = bench_inputs_draw(b, tokens[t]);
        for (int i = 0; !err && i < 9; i++)
            err = a2a_point(b, tokens[t], rounds[i / 3], sms[i % 3]);
    }
    return err;
}
