/* validate/bench/dense.c: microbenchmarks of library GEMMs, which leave no stamps: router,
 * shared expert, and one GEMM per expert beside the grouped GEMM of the same rows. */
#include <string.h>

#include "base/err.h"
#include "kernels/grouped_gemm.h"
#include "kernels/topk.h"
#include "validate/bench/bench.h"
#include "validate/gpu_experts.h"

#define EXPERTS      8 /* GEMMs of one rank's experts: their weights are larger than the L2 */
#define EXPERT_CHAIN 3 /* passes over them in one graph */
#define MOST_ROWS    4096

/* Reports the time of each of `each` kernels of a launch, without the gaps that follow them. */
static int chain_report(struct bench *b, const struct bench_row *row, double *us, int each)
{
    for (int i = 0; i < BENCH_REPS; i++)
        us[i] = us[i] / each - b->s->gap_ns * 1e-3;
    return bench_report(b, row, us, BENCH_REPS);
}

/* The router's top-k behind the gate GEMM: with the gap between the two. */
static int router_point(struct bench *b, int tokens, int num_sms)
{
    const struct gpu_layer *l = b->s->layer;
    struct topk_args a = {.tokens = tokens,
                          .experts = l->shape.experts,
                          .stride = l->shape.experts,
                          .k = l->shape.topk,
                          .num_sms = num_sms,
                          .logits = l->dense.logits,
                          .index = l->dense.choices,
                          .weight = l->dense.choice_weights,
                          .stamp = b->stamps};
    struct bench_row row = {.kind = "router",
                            .num_sms = num_sms,
                            .tokens = tokens,
                            .experts = l->shape.experts,
                            .hidden = l->shape.hidden,
                            .topk = l->shape.topk};
    double us[BENCH_REPS];
    int err = 0;

    for (int rep = -1; !err && rep < BENCH_REPS; rep++) {
        err = bench_stamps_reset(b);
        if (!err)
            err = kernels_topk_launch(&a, b->s->main);
        if (!err)
            err = bench_stamps_read(b);
        if (!err && rep >= 0)
            us[rep] = bench_us(b, 0) + b->s->gap_ns * 1e-3;
    }
    return err ? err : bench_report(b, &row, us, BENCH_REPS);
}

int bench_router(struct bench *b)
{
    static const int tokens[] = {1, 16, 64, 128, 256, 512, 1024, 2048, 4096},
                     sms[] = {132, 100, 32};
    int err = gpu_dense_open(b->s, b->s->layer->shape.inter);

    for (int i = 0; !err && i < 9 && tokens[i] <= b->s->layer->shape.max_tokens; i++)
        for (int s = 0; !err && s < 3; s++)
            err = router_point(b, tokens[i], sms[s]);
    return err;
}

/* --- one GEMM per expert, or one for all ------------------------------------------------------
 */

struct experts_launch {
    struct gpu_session *s;
    struct gpu_experts *experts;
    struct grouped_gemm_args grouped;
};

static int launch_experts(void *self, cudaStream_t stream)
{
    const struct experts_launch *x = self;

    return gpu_experts_launch(x->experts, x->s, 0, stream, NULL);
}

static int launch_grouped(void *self, cudaStream_t stream)
{
    const struct experts_launch *x = self;

    return kernels_grouped_gemm_launch(&x->grouped, stream);
}

static int experts_point(struct bench *b, bool up, int rows, int num_sms)
{
    const struct gpu_shape *l = &b->s->layer->shape;
    struct gpu_experts_shape shape = {
        .up = up, .count = EXPERTS, .num_sms = num_sms < b->s->sm_count ? num_sms : 0};
    struct experts_launch x = {.s = b->s,
                               .grouped = bench_gemm_args(b, up, 0, EXPERTS, num_sms, rows)};
    struct bench_chain dense = {launch_experts, &x, EXPERT_CHAIN};
    struct bench_chain grouped = {launch_grouped, &x, EXPERT_CHAIN};
    struct bench_row row = {.kind = "dense_expert",
                            .dtype = l->fp8 ? "fp8" : "bf16",
                            .num_sms = num_sms,
                            .rows = rows,
                            .groups = EXPERTS,
                            .n = up ? 2 * l->inter : l->hidden,
                            .k = up ? l->hidden : l->inter};
    double us[BENCH_REPS];
    int each[EXPERTS], err;

    for (int i = 0; i < EXPERTS; i++)
        each[i] = rows;
    err = gpu_experts_open(&x.experts, b->s, &shape, each);
    if (!err)
        err = bench_rows_set(b, rows);
    if (!err)
        err = bench_chain_time(b, &dense, us);
    if (!err)
        err = chain_report(b, &row, us, EXPERTS);
    row.kind = "gemm_masked";
    if (!err)
        err = bench_chain_time(b, &grouped, us);
    if (!err)
        err = chain_report(b, &row, us, 1);
    gpu_experts_close(x.experts);
    return err;
}

/* What the down GEMM reads: the bytes and scales of the other operand will do. */
static int act_operands(struct bench *b)
{
    struct gpu_layer *l = b->s->layer;
    struct gpu_half *h = &l->half[0];
    size_t rows = (size_t)l->slots.experts_local * (size_t)l->slots.rows_max;
    size_t values = rows * (size_t)l->shape.inter;
    int err = GPU(
        cudaMemcpy(h->act, h->packed_x, values * (l->shape.fp8 ? 1 : 2), cudaMemcpyDeviceToDevice));

    return err ? err
               : GPU(cudaMemcpy(h->act_scales, h->packed_scales, values / 128 * sizeof(float),
                                cudaMemcpyDeviceToDevice));
}

/* From few rows per expert to many: where one GEMM per expert begins to pay. Sets the layer. */
int bench_crossover(struct bench *b)
{
    /* DeepSeek-V2 (where EPS-MoE's authors put it at 2048 to 4096 rows), DeepSeek-V3, Qwen3-235B.
     */
    static const int shapes[][2] = {{5120, 1536}, {7168, 2048}, {4096, 1536}};
    static const int rows[] = {64, 128, 256, 512, 1024, 2048, MOST_ROWS}, sms[] = {132, 116};
    int err = 0;

    for (int x = 0; !err && x < (b->quick ? 1 : 3) * 2; x++) {
        struct gpu_shape shape = {.vranks = b->s->ranks,
                                  .experts = EXPERTS * b->s->ranks,
                                  .hidden = shapes[x / 2][0],
                                  .inter = shapes[x / 2][1],
                                  .topk = 1,
                                  .max_tokens = MOST_ROWS / b->s->ranks,
                                  .fp8 = x % 2 == 0};

        err = gpu_layer_open(b->s, &shape, 1);
        if (!err)
            err = bench_operands(b);
        if (!err)
            err = act_operands(b);
        for (int i = 0; !err && i < (b->quick ? 3 : 7) * 2; i++)
            for (int up = 1; !err && up >= 0; up--)
                err = experts_point(b, up, rows[i / 2], sms[i % 2]);
    }
    return err;
}
