/* The CSV formats of the public data folder, and the one our own microbenchmarks write. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <gsl/gsl_rng.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/skew.h"
#include "base/log.h"
#include "calib/fused.h"
#include "calib/attn.h"
#include "calib/draws.h"
#include "calib/read_cells.h"
#include "calib/read_comm.h"
#include "calib/read_gemm.h"
#include "calib/read_peo.h"

static void check_ranks(struct cells *c, const struct data_row *r)
{
    if (!c->err && (r->nodes > r->ranks || r->ranks % r->nodes != 0))
        cell_bad(c, "nodes", "does not divide ep");
    if (!c->err && r->topk > r->experts)
        cell_bad(c, "topk", "is more than num_experts");
}

static void read_low_latency(struct cells *c, struct data_row *r)
{
    const char *phase = cell_text(c, "phase");

    cell_system(c, "system", r);
    r->nodes = cell_int(c, "nodes", 1, 1024);
    r->ranks = cell_int(c, "ep", 1, 4096);
    r->hidden = cell_int(c, "hidden", 128, 1 << 20);
    r->experts = cell_int(c, "num_experts", 1, 1 << 16);
    r->topk = cell_int(c, "topk", 1, 64);
    r->tokens = cell_int(c, "tokens_per_rank", 1, 1 << 24);
    r->bytes = cell_number(c, "bytes_per_rank", 1, 1e13);
    cell_latency(c, "latency_us", r);
    if (strcmp(phase, "dispatch") == 0)
        r->law = DATA_LL_DISPATCH;
    else if (strcmp(phase, "combine") == 0)
        r->law = DATA_LL_COMBINE;
    else
        cell_bad(c, "phase", "is neither dispatch nor combine");
    check_ranks(c, r);
    r->dtype = cell_dtype(c);
    r->num_local = r->ranks ? r->experts / r->ranks : 0;
    snprintf(r->group, sizeof r->group, "EP%d %d/%d/%d", r->ranks, r->hidden, r->experts, r->topk);
    /* The legacy file does not say on which GPU its single node ran, and 10 routes are masked: the
     * later one-node campaigns are the reference, this one only over several nodes. */
    r->reference = strcmp(r->system, "hopper") != 0 || r->nodes > 1;
}

static void read_normal(struct cells *c, struct data_row *r)
{
    const char *phase = cell_text(c, "phase");

    cell_system(c, "system", r);
    r->nodes = cell_int(c, "nodes", 1, 1024);
    r->ranks = cell_int(c, "ep", 1, 4096);
    r->hidden = cell_int(c, "hidden", 128, 1 << 20);
    r->experts = cell_int(c, "num_experts", 1, 1 << 16);
    r->topk = cell_int(c, "topk", 1, 64);
    r->tokens = cell_int(c, "tokens_per_rank", 1, 1 << 24);
    r->num_sms = cell_int(c, "num_sms", 1, 1024);
    r->notify_us = cell_number(c, "notify_us", 0, CELL_MAX_US);
    cell_latency(c, "transmit_us", r);
    r->latency_us += r->notify_us;
    if (strcmp(phase, "dispatch") == 0)
        r->law = DATA_NORMAL_DISPATCH;
    else if (strcmp(phase, "combine") == 0)
        r->law = DATA_NORMAL_COMBINE;
    else
        cell_bad(c, "phase", "is neither dispatch nor combine");
    check_ranks(c, r);
    r->dtype = r->law == DATA_NORMAL_DISPATCH ? DTYPE_FP8 : DTYPE_BF16;
    snprintf(r->group, sizeof r->group, "EP%d %d/%d/%d %d SMs", r->ranks, r->hidden, r->experts,
             r->topk, r->num_sms);
    r->reference = true;
}

/* Bandwidths of normal kernels, which by the test's own definition say how long the transmitting
 * kernel took; the last correction of the table. */
static void read_readme_normal(struct cells *c, struct data_row *r)
{
    if (strcmp(cell_text(c, "date"), "2025-04-22") != 0) {
        r->law = DATA_LAW_COUNT;
        return;
    }
    r->dtype = r->law == DATA_NORMAL_DISPATCH ? DTYPE_FP8 : DTYPE_BF16;
    if (cell_text(c, "num_sms")[0])
        r->num_sms = cell_int(c, "num_sms", 1, 1024);
    else
        r->num_sms = 24; /* as all its tables were measured */
    r->node_limit = 4;
    r->kernel_only = true;
    r->num_local = r->ranks > 0 ? r->experts / r->ranks : 0;
    r->latency_us = read_bandwidth_us(r, cell_number(c, "bandwidth_GBps", 0.1, 1e4));
    snprintf(r->group, sizeof r->group, "EP%d %d/%d/%d %d SMs", r->ranks, r->hidden, r->experts,
             r->topk, r->num_sms);
}

/* DeepEP's own tables: H800, 256 experts. Rows that a later table replaced are left out. */
static void read_readme(struct cells *c, struct data_row *r)
{
    const char *kernel = cell_text(c, "kernel"), *date = cell_text(c, "date");

    snprintf(r->system, sizeof r->system, "h800");
    r->ranks = cell_int(c, "ep", 1, 4096);
    r->nodes = (r->ranks + 7) / 8;
    r->hidden = cell_int(c, "hidden", 128, 1 << 20);
    r->topk = cell_int(c, "topk", 1, 64);
    r->tokens = cell_int(c, "tokens_per_rank", 1, 1 << 24);
    r->experts = 256;
    r->reference = true;
    if (strcmp(kernel, "ll_dispatch") == 0)
        r->law = DATA_LL_DISPATCH;
    else if (strcmp(kernel, "ll_combine") == 0)
        r->law = DATA_LL_COMBINE;
    else
        r->law = strcmp(kernel, "normal_dispatch") == 0  ? DATA_NORMAL_DISPATCH
                 : strcmp(kernel, "normal_combine") == 0 ? DATA_NORMAL_COMBINE
                                                         : DATA_LAW_COUNT;
    if (r->law == DATA_NORMAL_DISPATCH || r->law == DATA_NORMAL_COMBINE) {
        read_readme_normal(c, r);
        return;
    }
    if (r->law == DATA_LAW_COUNT || strcmp(date, "2025-06-05") < 0) {
        r->law = DATA_LAW_COUNT;
        return;
    }
    r->dtype = r->law == DATA_LL_DISPATCH ? DTYPE_FP8 : DTYPE_BF16;
    r->bytes = (double)r->tokens * r->topk *
               (r->law == DATA_LL_DISPATCH ? 16 + r->hidden + r->hidden / 32 : 2 * r->hidden);
    cell_latency(c, "latency_us", r);
    if (r->ranks > 8 && r->ranks % 8 != 0)
        cell_bad(c, "ep", "is no whole number of nodes");
    snprintf(r->group, sizeof r->group, "EP%d %d/%d/%d", r->ranks, r->hidden, r->experts, r->topk);
}

#define SPREAD_DRAWS 16

/* Rows per group: DeepGEMM's benchmarks draw each expert's rows from 0.7..1.3 of the mean, once per
 * measurement, and do not print them. We predict the mean over draws of our own (each group's share
 * of the range in another order per draw); how far one draw strays is stated as the row's sigma. */
static int draw_spread(struct data_set *set, struct data_row *r, int mean, bool spread)
{
    int draws = spread && r->groups < 64 ? SPREAD_DRAWS : 1;

    r->num_local = r->groups;
    r->num_draws = draws;
    r->expert_rows = arena_alloc(set->arena, (size_t)(draws * r->groups) * sizeof *r->expert_rows);
    if (!r->expert_rows)
        return ERR_NOMEM;
    for (int d = 0; d < draws; d++)
        for (int i = 0; i < r->groups; i++) {
            /* Stratified in each group over the draws; 7 is prime to the 16 draws. */
            double u = draws > 1 ? ((d * (2 * i + 1) + 7 * i) % draws + 0.5) / draws
                                 : (i + 0.5) / r->groups;

            r->expert_rows[d * r->groups + i] = spread ? (int32_t)(mean * (0.7 + 0.6 * u)) : mean;
        }
    /* A uniform draw of width 0.6 has a standard deviation of 0.6/sqrt(12). */
    r->sigma = spread ? 0.6 / sqrt(12.0 * r->groups) : 0;
    return 0;
}

static void read_grouped(struct cells *c, struct data_row *r)
{
    const char *layout = cell_text(c, "layout"), *note = cell_text(c, "note");

    cell_system(c, "system", r);
    r->groups = cell_int(c, "groups", 1, 1 << 14);
    r->rows = cell_int(c, "tokens_per_group", 1, 1 << 24);
    r->n = cell_int(c, "n", 1, 1 << 20);
    r->k = cell_int(c, "k", 1, 1 << 20);
    cell_latency(c, "latency_us", r);
    r->dtype = cell_dtype(c);
    if (strcmp(layout, "masked") == 0)
        r->law = DATA_MASKED;
    else if (strcmp(layout, "contiguous") == 0)
        r->law = DATA_CONTIGUOUS;
    else if (strcmp(layout, "dense") == 0)
        r->law = r->dtype == DTYPE_BF16 ? DATA_DENSE_BF16 : DATA_DENSE_BLOCK;
    else
        cell_bad(c, "layout", "is not masked, contiguous or dense");
    /* DeepGEMM's README tables use equal groups and older kernels: shown, not fitted. */
    r->reference = !strstr(note, "README") || r->law == DATA_DENSE_BLOCK;
    snprintf(r->group, sizeof r->group, "%dx%d %.30s", r->n, r->k,
             strstr(note, "README") ? strstr(note, "README") : "");
    if (!c->err && r->law != DATA_DENSE_BLOCK && r->law != DATA_DENSE_BF16 &&
        draw_spread(c->set, r, r->rows, !strstr(note, "README")) != 0)
        c->err = true;
    if (r->law == DATA_DENSE_BLOCK)
        r->reference = strstr(note, "2025-04-09") != NULL;
}

/* Balanced, as the collector counts: an even share each, what does not divide left out; of fewer
 * rows than experts one each for the first ones. */
static void ffn_balanced(struct data_row *r, int32_t *rows)
{
    long total = (long)r->tokens * r->topk, each = total / r->num_local;

    for (int i = 0; i < r->num_local; i++)
        rows[i] = (int32_t)(each > 0 ? each : i < total);
}

#define FFN_DRAWS 8

/* The power-law rows were drawn at random and only the heaviest rank was timed: we draw some of our
 * own from the same distribution and predict their mean. */
static int ffn_draw(struct data_set *set, struct data_row *r, double alpha)
{
    gsl_rng *rng = NULL;
    double *count = NULL;

    r->num_draws = alpha > 0 ? FFN_DRAWS : 1;
    r->expert_rows =
        arena_alloc(set->arena, (size_t)(r->num_draws * r->num_local) * sizeof *r->expert_rows);
    if (!r->expert_rows)
        return ERR_NOMEM;
    if (alpha <= 0) {
        ffn_balanced(r, r->expert_rows);
        return 0;
    }
    rng = gsl_rng_alloc(gsl_rng_mt19937);
    count = arena_alloc(set->arena, (size_t)r->experts * sizeof *count);
    if (rng && count) {
        gsl_rng_set(rng, 1);
        for (int d = 0; d < r->num_draws; d++) {
            if (draws_power_law(rng, alpha, (double)r->tokens * r->ranks, r, count) != 0) {
                gsl_rng_free(rng);
                return ERR_NOMEM;
            }
            draws_heaviest(count, r->ranks, r->num_local, r->expert_rows + d * r->num_local);
        }
    }
    if (rng)
        gsl_rng_free(rng);
    return rng && count ? 0 : ERR_NOMEM;
}

static void ffn_distribution(struct cells *c, struct data_row *r)
{
    const char *dist = cell_text(c, "distribution");
    double alpha = 0;

    if (strncmp(dist, "power_law_", 10) == 0 && sscanf(dist + 10, "%lf", &alpha) == 1 && alpha > 0)
        alpha = alpha == 1 ? 1.0001 : alpha;
    else if (strcmp(dist, "uniform") != 0)
        cell_bad(c, "distribution", "is neither uniform nor power_law_<exponent>");
    if (!c->err && r->experts % r->ranks != 0)
        cell_bad(c, "ep", "does not divide num_experts");
    if ((double)r->tokens * r->ranks * r->topk > 1 << 30)
        cell_bad(c, "tokens_per_rank", "is absurdly large");
    if (c->err)
        return;
    r->num_local = r->experts / r->ranks;
    snprintf(r->group, sizeof r->group, "EP%d %.16s", r->ranks, dist);
    /* Only the balanced rows are known exactly; the others test how imbalance is predicted. */
    r->reference = alpha == 0;
    r->sigma = alpha > 0 ? 0.1 : 0;
    if (ffn_draw(c->set, r, alpha) != 0)
        c->err = true;
}

static void ffn_shape(struct cells *c, struct data_row *r)
{
    cell_system(c, "system", r);
    r->hidden = cell_int(c, "hidden", 128, 1 << 20);
    r->inter = cell_int(c, "inter", 16, 1 << 20);
    r->topk = cell_int(c, "topk", 1, 64);
    r->experts = cell_int(c, "num_experts", 1, 1 << 16);
    r->ranks = cell_int(c, "ep", 1, 4096);
    r->tokens = cell_int(c, "tokens_per_rank", 1, 1 << 24);
    cell_latency(c, "latency_us", r);
}

static void read_ffn(struct cells *c, struct data_row *r)
{
    r->law = DATA_FFN;
    ffn_shape(c, r);
    if (cell_dtype(c) != DTYPE_FP8)
        cell_bad(c, "dtype", "is not fp8: the masked FFN's law knows no other");
    r->dtype = DTYPE_FP8;
    if (!c->err)
        ffn_distribution(c, r);
}

/* SGLang's collector does not align the balanced rows of its contiguous layout: a block of 128 that
 * rows of several experts share is multiplied with the weights of the first. */
static void contiguous_blocks(struct data_row *r)
{
    long sum = 0, blocks, at = 0;

    for (int i = 0; i < r->num_local; i++)
        sum += r->expert_rows[i];
    blocks = (sum + 127) / 128;
    for (int i = 0; i < r->num_local; i++) {
        long upto = (i + 1) * blocks / r->num_local * 128, end = upto < sum ? upto : sum;

        r->expert_rows[i] = (int32_t)(end - at);
        at = end;
    }
}

/* All engines' FFNs. The masked and contiguous rows are DeepGEMM's as SGLang calls it; there the
 * file's tokens_per_rank counts the tokens of all ranks (the collector writes num_token * ep). */
static void read_engine_ffn(struct cells *c, struct data_row *r)
{
    const char *layout = cell_text(c, "layout");
    bool masked = strcmp(layout, "masked") == 0;

    ffn_shape(c, r);
    r->dtype = DTYPE_FP8;
    r->law = masked ? DATA_FFN : DATA_FFN_CONTIGUOUS;
    if (!masked && strcmp(layout, "contiguous") != 0) {
        if (strcmp(layout, "fused") == 0)
            read_fused(c, r);
        else
            cell_bad(c, "layout", "is not masked, contiguous or fused");
        return;
    }
    if (!c->err && r->tokens % r->ranks != 0)
        cell_bad(c, "tokens_per_rank", "is no multiple of ep");
    if (c->err)
        return;
    r->tokens /= r->ranks;
    ffn_distribution(c, r);
    r->sustained = false;
    if (masked || c->err)
        return;
    /* Start, host and gather show only where ranks are uneven or many. */
    r->reference = true;
    if (r->sigma == 0)
        contiguous_blocks(r);
}

static void dense_shape(struct cells *c, struct data_row *r)
{
    cell_system(c, "system", r);
    r->rows = cell_int(c, "m", 1, 1 << 24);
    r->n = cell_int(c, "n", 1, 1 << 24);
    r->k = cell_int(c, "k", 1, 1 << 24);
    cell_latency(c, "latency_us", r);
    snprintf(r->group, sizeof r->group, "%dx%d", r->n, r->k);
}

static bool dense_dtype(const char *dtype, struct data_row *r)
{
    if (strcmp(dtype, "bfloat16") == 0 || strcmp(dtype, "bf16") == 0)
        r->law = DATA_DENSE_BF16;
    else if (strcmp(dtype, "fp8") == 0)
        r->law = DATA_DENSE_FP8;
    else if (strcmp(dtype, "fp8_block") == 0)
        r->law = DATA_DENSE_BLOCK;
    else if (strcmp(dtype, "nvfp4") == 0)
        r->law = DATA_DENSE_NVFP4;
    else
        return false;
    r->dtype = r->law == DATA_DENSE_BF16    ? DTYPE_BF16
               : r->law == DATA_DENSE_NVFP4 ? DTYPE_NVFP4
                                            : DTYPE_FP8;
    return true;
}

static void read_dense(struct cells *c, struct data_row *r)
{
    dense_shape(c, r);
    if (!dense_dtype(cell_text(c, "dtype"), r))
        cell_bad(c, "dtype", "is not bfloat16, fp8, fp8_block or nvfp4");
    r->quantised = r->law != DATA_DENSE_BF16;
    r->reference = true;
}

/* Kernels alone, without the quantisation before them. */
static void read_dense_kernel(struct cells *c, struct data_row *r)
{
    dense_shape(c, r);
    r->reference = dense_dtype(cell_text(c, "dtype"), r);
    if (!r->reference)
        r->law = DATA_SHOWN;
}

static bool is_collective(const char *name)
{
    static const char *const names[] = {"all_reduce",  "all_gather", "reduce_scatter", "all_to_all",
                                        "all_to_allv", "alltoall",   "broadcast",      "reduce",
                                        "gather",      "scatter",    "sendrecv",       "hypercube"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void read_collective(struct cells *c, struct data_row *r)
{
    const char *name = cell_text(c, "collective");

    r->law = DATA_COLLECTIVE;
    cell_system(c, "system", r);
    r->ranks = cell_int(c, "num_gpus", 2, 4096);
    r->bytes = cell_number(c, "bytes", 1, 1e13);
    cell_latency(c, "latency_us", r);
    if (!is_collective(name))
        cell_bad(c, "collective", "is no collective of nccl-tests");
    snprintf(r->coll, sizeof r->coll, "%.15s", strcmp(name, "alltoall") == 0 ? "all_to_all" : name);
    /* One dtype makes the tables; the other is the unseen test of them. */
    r->reference = strcmp(cell_text(c, "dtype"), "half") == 0;
    snprintf(r->group, sizeof r->group, "%s x%d %.8s", r->coll, r->ranks, cell_text(c, "dtype"));
}

struct bench_kind {
    const char *name;
    enum data_law law;
    enum data_part part;
};

static const struct bench_kind bench_kinds[] = {
    {"ll_dispatch_send", DATA_LL_DISPATCH, DATA_SEND},
    {"ll_dispatch_recv", DATA_LL_DISPATCH, DATA_RECV},
    {"ll_dispatch", DATA_LL_DISPATCH, DATA_FUSED},
    {"ll_combine_send", DATA_LL_COMBINE, DATA_SEND},
    {"ll_combine_recv", DATA_LL_COMBINE, DATA_RECV},
    {"ll_combine", DATA_LL_COMBINE, DATA_FUSED},
    {"gemm_masked", DATA_MASKED, DATA_FUSED},
    {"gemm_contiguous", DATA_CONTIGUOUS, DATA_FUSED},
    {"gemm_bf16", DATA_DENSE_BF16, DATA_FUSED},
    {"act_quant", DATA_ACT, DATA_FUSED},
    {"push", DATA_PUSH, DATA_FUSED},
    {"hbm_copy", DATA_HBM_COPY, DATA_FUSED},
    {"launch_gap_graph", DATA_GRAPH_GAP, DATA_FUSED},
    {"launch_gap_cross", DATA_CROSS_GAP, DATA_FUSED},
    {"launch_eager", DATA_EAGER_LAUNCH, DATA_FUSED},
    {"flag_rtt", DATA_FLAG, DATA_FUSED},
    {"interference", DATA_INTERFERENCE, DATA_FUSED},
    {"interference_dispatch_send", DATA_STRETCH, DATA_SEND},
    {"interference_dispatch_recv", DATA_STRETCH, DATA_RECV},
    {"interference_combine_send", DATA_STRETCH, DATA_SEND},
    {"interference_combine_recv", DATA_STRETCH, DATA_RECV},
    {"interference_a2a_dispatch", DATA_A2A_BESIDE, DATA_FUSED},
    {"interference_a2a_combine", DATA_A2A_BESIDE, DATA_FUSED},
    {"router", DATA_ROUTER, DATA_FUSED},
    {"a2a_dispatch", DATA_A2A, DATA_FUSED},
    {"a2a_combine", DATA_A2A, DATA_FUSED},
    {"dedup_dispatch", DATA_DEDUP_DISPATCH, DATA_FUSED},
    {"dedup_combine", DATA_DEDUP_COMBINE, DATA_FUSED},
    {"attn_core", DATA_ATTN_CORE, DATA_FUSED},
    {"attn_side", DATA_ATTN_SIDE, DATA_FUSED},
    {"a2a", DATA_LAW_COUNT, DATA_FUSED}, /* without pack and unpack: to look at, no law has it */
    {"gemm_fp8", DATA_DENSE_FP8, DATA_FUSED},
    {"gemm_fp8_block", DATA_DENSE_BLOCK, DATA_FUSED},
    {"dense_expert", DATA_DENSE_BLOCK, DATA_FUSED}, /* or DATA_DENSE_BF16, by dtype */
};

static const struct bench_kind *bench_kind_of(const char *name)
{
    for (size_t i = 0; i < sizeof bench_kinds / sizeof *bench_kinds; i++)
        if (strcmp(bench_kinds[i].name, name) == 0)
            return &bench_kinds[i];
    return NULL;
}

static void bench_group(const char *kind, struct data_row *r)
{
    switch (r->law) {
    case DATA_LL_DISPATCH:
    case DATA_LL_COMBINE:
        snprintf(r->group, sizeof r->group, "%s E%d R%d %dSM%s", kind, r->experts, r->rounds,
                 r->num_sms, r->skew > 0 ? " skewed" : "");
        break;
    case DATA_MASKED:
    case DATA_CONTIGUOUS:
    case DATA_DENSE_BF16:
    case DATA_DENSE_FP8:
    case DATA_DENSE_BLOCK:
        snprintf(r->group, sizeof r->group, "%s %dx%d %dSM%s", kind, r->n, r->k, r->num_sms,
                 r->block_m > 0 ? " counted"
                 : r->skew > 0  ? " skewed"
                                : "");
        break;
    case DATA_ATTN_CORE:
        snprintf(r->group, sizeof r->group, "%s %d heads, %d keys", kind, r->groups, r->tokens);
        break;
    default:
        snprintf(r->group, sizeof r->group, "%s %dSM", kind, r->num_sms);
    }
}

static bool is_interference(enum data_law law)
{
    return law == DATA_INTERFERENCE || law == DATA_STRETCH || law == DATA_A2A_BESIDE;
}

/* The shapes a kind needs; everything else may be empty. */
static void bench_check(struct cells *c, const struct data_row *r)
{
    bool comm = r->law == DATA_LL_DISPATCH || r->law == DATA_LL_COMBINE ||
                r->law == DATA_DEDUP_DISPATCH || r->law == DATA_DEDUP_COMBINE;
    bool gemm = r->law == DATA_MASKED || r->law == DATA_CONTIGUOUS || r->law == DATA_DENSE_BF16 ||
                r->law == DATA_DENSE_FP8 || r->law == DATA_DENSE_BLOCK;

    if (comm && (r->tokens < 1 || r->experts < 1 || r->hidden < 128 || r->topk < 1 || r->ranks < 1))
        cell_bad(c, "kind", "needs tokens, experts, hidden, topk and ranks");
    if (comm && !c->err && r->experts % (r->ranks * r->rounds) != 0)
        cell_bad(c, "experts", "is not divisible by ranks * rounds");
    if (gemm && (r->rows < 1 || r->n < 1 || r->k < 1))
        cell_bad(c, "kind", "needs rows, n and k");
    if ((r->law == DATA_PUSH || r->law == DATA_HBM_COPY || r->law == DATA_A2A) && r->bytes < 1)
        cell_bad(c, "kind", "needs bytes");
    if (r->law == DATA_ROUTER && (r->tokens < 1 || r->experts < 1))
        cell_bad(c, "kind", "needs tokens and experts");
    if (r->law == DATA_ACT && (r->rows < 1 || r->inter < 1))
        cell_bad(c, "kind", "needs rows and inter");
    if (r->law == DATA_ATTN_CORE &&
        (r->rows < 1 || r->tokens < 1 || r->groups < 1 || r->n < 1 || r->k < 1 || r->bytes < 1))
        cell_bad(c, "kind", "needs rows, tokens, groups, n, k and bytes");
    if (r->law == DATA_ATTN_SIDE && (r->rows < 1 || r->bytes < 1))
        cell_bad(c, "kind", "needs rows and bytes");
    if (is_interference(r->law) && !(r->alone_us > 0))
        cell_bad(c, "kind", "needs alone_us");
    if (r->law == DATA_STRETCH && (r->tokens < 1 || r->experts < 1 || r->hidden < 128 ||
                                   r->inter < 1 || r->topk < 1 || r->ranks < 1 || r->num_sms < 1))
        cell_bad(c, "kind", "needs num_sms, tokens, experts, hidden, inter, topk and ranks");
}

/* Rows of the GEMM's experts where tokens choose evenly: quantiles of a Poisson distribution. */
static int poisson_rows(struct data_set *set, struct data_row *r)
{
    double mean = (double)r->tokens * r->topk * r->ranks / r->experts, below = exp(-mean);
    double term = below;
    int rows = 0;

    r->num_draws = 1;
    r->groups = r->num_local;
    r->rows = (int)ceil(mean);
    r->expert_rows = arena_alloc(set->arena, (size_t)r->num_local * sizeof *r->expert_rows);
    if (!r->expert_rows)
        return ERR_NOMEM;
    for (int i = 0; i < r->num_local; i++) {
        while (below < (i + 0.5) / r->num_local && term > 0)
            below += term *= mean / ++rows;
        r->expert_rows[i] = mean < 500 ? rows : (int32_t)mean;
    }
    return 0;
}

/* Rows of a GEMM's experts: all alike, or as base/skew.h spreads them. */
static int rows_known(struct data_set *set, struct data_row *r)
{
    int rows[SKEW_MAX_EXPERTS];
    int rc = draw_spread(set, r, r->rows, false);

    if (rc == 0 && r->skew > 0 && r->groups <= SKEW_MAX_EXPERTS) {
        skew_rows(r->groups, r->rows * r->groups, r->skew, INT32_MAX, rows);
        for (int i = 0; i < r->groups; i++)
            r->expert_rows[i] = rows[i];
    }
    return rc;
}

/* What the two kernels of an interference are: the one slowed is the row's. */
static void bench_interference(struct cells *c, const char *slowed, struct data_row *r)
{
    bool compute = strcmp(slowed, "compute") == 0;

    if (r->law != DATA_STRETCH) {
        snprintf(r->coll, sizeof r->coll, "%.15s", slowed);
        /* Without the time that both ran, a GEMM's loss says nothing. */
        r->reference = !compute || r->overlap_us > 0;
        return;
    }
    if (compute) {
        r->law = DATA_INTERFERENCE;
        snprintf(r->coll, sizeof r->coll, "compute");
        return;
    }
    snprintf(r->coll, sizeof r->coll, "%s",
             strstr(cell_text(c, "kind"), "combine") ? "combine" : "dispatch");
    if (!c->err && poisson_rows(c->set, r) != 0)
        c->err = true;
}

static void read_bench(struct cells *c, struct data_row *r)
{
    const struct bench_kind *kind = bench_kind_of(cell_text(c, "kind"));
    const char *dtype = cell_text(c, "dtype");

    if (!kind) {
        cell_bad(c, "kind", "is unknown");
        return;
    }
    r->law = kind->law;
    r->part = kind->part;
    if (r->law == DATA_LAW_COUNT)
        return;
    snprintf(r->system, sizeof r->system, "%.15s", cell_text(c, "system"));
    r->num_sms = (int)cell_optional(c, "num_sms", 1024);
    r->tokens = (int)cell_optional(c, "tokens", 1 << 24);
    r->experts = (int)cell_optional(c, "experts", 1 << 16);
    r->rounds = (int)cell_optional(c, "rounds", 1 << 10);
    r->round = (int)cell_optional(c, "round", 1 << 10);
    r->hidden = (int)cell_optional(c, "hidden", 1 << 20);
    r->inter = (int)cell_optional(c, "inter", 1 << 20);
    r->rows = (int)cell_optional(c, "rows", 1 << 24);
    r->groups = (int)cell_optional(c, "groups", 1 << 14);
    r->n = (int)cell_optional(c, "n", 1 << 24);
    r->k = (int)cell_optional(c, "k", 1 << 24);
    r->topk = (int)cell_optional(c, "topk", 64);
    r->ranks = (int)cell_optional(c, "ranks", 4096);
    r->bytes = cell_optional(c, "bytes", 1e13);
    r->block_m = (int)cell_optional(c, "block_m", 256);
    r->skew = cell_optional(c, "skew", 10);
    r->hot_rows = (int)cell_optional(c, "hot_rows", 1 << 24);
    r->alone_us = cell_optional(c, "alone_us", CELL_MAX_US);
    r->overlap_us = cell_optional(c, "overlap_us", CELL_MAX_US);
    r->wait_us = cell_optional(c, "wait_us", CELL_MAX_US);
    cell_latency(c, "latency_us", r);
    r->nodes = 1;
    r->rounds = r->rounds < 1 ? 1 : r->rounds;
    r->groups = r->groups < 1 ? 1 : r->groups;
    /* Launches and copies have none, and that of an interference is the kernel slowed. */
    r->dtype = dtype[0] && !is_interference(r->law) ? cell_dtype(c) : DTYPE_BF16;
    if (strcmp(kind->name, "dense_expert") == 0 && r->dtype == DTYPE_BF16)
        r->law = DATA_DENSE_BF16;
    r->reference = true;
    bench_check(c, r);
    if (r->ranks > 0)
        r->num_local = r->experts / r->ranks;
    bench_group(kind->name, r);
    if (!c->err && (r->law == DATA_MASKED || r->law == DATA_CONTIGUOUS) &&
        rows_known(c->set, r) != 0)
        c->err = true;
    if (!c->err && is_interference(r->law))
        bench_interference(c, dtype, r);
    if (r->law == DATA_A2A)
        snprintf(r->coll, sizeof r->coll, "%s", kind->name + strlen("a2a_"));
}

#define MAX_COLS 20
struct format {
    const char *name;
    const char *cols[MAX_COLS]; /* all must be there */
    void (*read)(struct cells *c, struct data_row *r);
    bool repeats; /* holds repeated measurements of one shape */
    int (*read_all)(struct data_set *set, const struct csv *csv); /* instead: rows make sense
                                                                     together only */
};

static const struct format formats[] = {
    {"deepep_ll",
     {"system", "nodes", "ep", "hidden", "num_experts", "topk", "tokens_per_rank", "phase", "dtype",
      "bytes_per_rank", "latency_us"},
     read_low_latency,
     false,
     NULL},
    {"deepep_normal",
     {"system", "nodes", "ep", "hidden", "num_experts", "topk", "tokens_per_rank", "phase",
      "num_sms", "transmit_us", "notify_us"},
     read_normal,
     false,
     NULL},
    {"deepep_readme",
     {"date", "kernel", "hw", "ep", "tokens_per_rank", "hidden", "topk", "dtype", "latency_us",
      "bandwidth_GBps"},
     read_readme,
     false,
     NULL},
    {"grouped_gemm",
     {"system", "layout", "groups", "tokens_per_group", "n", "k", "dtype", "latency_us"},
     read_grouped,
     false,
     NULL},
    {"moe_ffn_masked",
     {"system", "hidden", "inter", "topk", "num_experts", "ep", "tokens_per_rank", "distribution",
      "dtype", "latency_us"},
     read_ffn,
     false,
     NULL},
    {"attn_gqa",
     {"system", "phase", "kernel", "batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim",
      "dtype", "kv_dtype", "window", "latency_us"},
     read_attn_gqa,
     false,
     NULL},
    {"attn_mla",
     {"system", "level", "phase", "engine", "kernel", "batch", "q_len", "kv_len", "heads",
      "gemm_dtype", "kv_dtype", "latency_us"},
     read_attn_mla,
     false,
     NULL},
    {"attn_sparse",
     {"system", "module", "phase", "model", "engine", "kernel", "batch", "q_len", "kv_len", "heads",
      "gemm_dtype", "kv_dtype", "latency_us"},
     read_attn_sparse,
     false,
     NULL},
    {"attn_linear",
     {"system", "kind", "phase", "kernel", "batch", "q_len", "d_model", "k_heads", "k_head_dim",
      "v_heads", "v_head_dim", "latency_us"},
     read_attn_linear,
     false,
     NULL},
    {"moe_ffn",
     {"system", "engine", "kernel", "layout", "dtype", "hidden", "inter", "topk", "num_experts",
      "num_slots", "tp", "ep", "tokens_per_rank", "distribution", "latency_us"},
     read_engine_ffn,
     true,
     NULL},
    {"gemm_kernels",
     {"system", "kernel", "dtype", "m", "n", "k", "latency_us"},
     read_dense_kernel,
     false,
     NULL},
    {"gemm", {"system", "dtype", "m", "n", "k", "latency_us"}, read_dense, false, NULL},
    {"nccl",
     {"system", "collective", "dtype", "num_gpus", "bytes", "latency_us"},
     read_collective,
     false,
     NULL},
    {"peo_spans",
     {"shape", "tokens_per_rank", "schedule", "num_rounds", "sms", "replay", "kernel", "stream",
      "start_us", "dur_us"},
     NULL,
     true,
     read_peo_spans},
    {"deepgemm",
     {"system", "kernel", "dtype", "groups", "n", "k", "mean_rows", "distribution", "rows_sum",
      "rows_max", "blocks64", "blocks128", "num_sms", "latency_us", "note"},
     read_deepgemm,
     true,
     NULL},
    {"deepgemm_power",
     {"kernel", "dtype", "groups", "n", "k", "mean_rows", "num_sms", "t_ms", "call_us"},
     read_deepgemm_power,
     true,
     NULL},
    {"public_deepep_v1",
     {"kind", "source", "version", "hw", "nodes", "ep", "nic", "phase", "tokens", "bw_GBps",
      "bw_what", "us", "send_us", "recv_us", "notify_us", "ranks_read"},
     read_public_v1,
     true,
     NULL},
    {"public_deepep_v2",
     {"source", "version", "hw", "nodes", "ep", "mode", "op", "tokens", "so_GBps", "us",
      "epilogue_us"},
     read_public_v2,
     true,
     NULL},
    {"public_other_a2a",
     {"source", "library", "version", "hw", "nodes", "ep", "nic", "phase", "tokens", "GBps", "us",
      "us_pm"},
     read_public_other,
     true,
     NULL},
    {"public_nccl_tests",
     {"source", "collective", "version", "hw", "nodes", "gpus", "nic", "bytes", "us", "busbw_GBps"},
     read_public_nccl,
     true,
     NULL},
    {"custom_allreduce",
     {"system", "engine", "kernel", "dtype", "num_gpus", "bytes", "latency_us"},
     read_custom_allreduce,
     true,
     NULL},
    {"a2a_nvl",
     {"system", "op", "kernel", "dtype", "hidden", "topk", "num_experts", "ep", "tokens_per_rank",
      "latency_us"},
     read_a2a_nvl,
     false,
     NULL},
    {"megamoe",
     {"system", "version", "phase", "dtype", "hidden", "inter", "topk", "num_experts", "ep",
      "tokens_per_rank", "distribution", "latency_us"},
     read_megamoe,
     true,
     NULL},
    {"public_megamoe",
     {"source", "hw", "ep", "model", "hidden", "inter", "dtype", "tokens_per_rank", "what", "us"},
     read_public_megamoe,
     true,
     NULL},
    {"public_trace",
     {"start_us", "dur_us", "stream", "kernel", "ctas", "grid"},
     read_public_trace,
     true,
     NULL},
    {"public_trace_summary",
     {"stream", "kernel", "grid", "n", "total_us", "median_us"},
     read_public_trace,
     true,
     NULL},
    {"microbench",
     {"kind", "dtype", "num_sms", "tokens", "experts", "rounds", "rows", "bytes", "latency_us"},
     read_bench,
     true,
     NULL},
};

static int format_missing(const struct format *f, const struct csv *csv, int *num)
{
    int missing = 0;

    for (*num = 0; *num < MAX_COLS && f->cols[*num]; (*num)++)
        missing += csv_col(csv, f->cols[*num]) < 0;
    return missing;
}

static const struct format *format_of(const struct csv *csv, const struct format **nearest)
{
    const struct format *best = NULL;
    double share = 0;
    int most = 0;

    *nearest = NULL;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        int num, missing = format_missing(&formats[i], csv, &num);

        if (missing == 0 && num > most) {
            best = &formats[i];
            most = num;
        }
        if (1.0 - (double)missing / num > share) {
            *nearest = &formats[i];
            share = 1.0 - (double)missing / num;
        }
    }
    return best;
}

static int fail_format(const struct csv *csv, const struct format *nearest)
{
    char list[256] = "";
    size_t at = 0;

    for (int i = 0; nearest && i < MAX_COLS && nearest->cols[i] && at < sizeof list - 32; i++)
        if (csv_col(csv, nearest->cols[i]) < 0)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%.30s", at ? ", " : "",
                                   nearest->cols[i]);
    if (nearest)
        log_error_at(csv->path, 1, "no known format; nearest is %s, which needs the column%s %s",
                     nearest->name, strchr(list, ',') ? "s" : "", list);
    else
        log_error_at(csv->path, 1, "no known format of measurements");
    return ERR_PARSE;
}

int read_csv(struct data_set *set, const struct csv *csv)
{
    const struct format *nearest, *f = format_of(csv, &nearest);

    if (!f)
        return fail_format(csv, nearest);
    set->format = f->name;
    set->repeats = f->repeats;
    set->runs = f->read == read_public_trace;
    if (f->read_all)
        return f->read_all(set, csv);
    for (size_t i = 0; i < csv->num_rows; i++) {
        struct cells c = {set, csv, i, false};
        struct data_row r = {.line = csv->line[i], .rounds = 1};

        if (csv->bad[i]) {
            data_bad(set, r.line, "the row has another number of cells than the header");
            continue;
        }
        f->read(&c, &r);
        if (!c.err && r.law != DATA_LAW_COUNT && !data_add(set, &r))
            return ERR_NOMEM;
    }
    return read_attn_finish(set);
}
