#include "model/law/mega.h"

#include <math.h>

#include "model/moe.h"

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

int law_mega_block_m(enum law_mega_rules rules, double rows_per_expert)
{
    static const struct {
        double most;
        int block_m;
    } table[] = {{8.5, 16}, {16.5, 32}, {32.5, 64}, {64.5, 96}, {96.5, 128}};

    if (rules == LAW_MEGA_SM90)
        return rows_per_expert > 64 ? 128 : 64;
    for (size_t i = 0; i < sizeof table / sizeof *table && rules != LAW_MEGA_304; i++)
        if (rows_per_expert <= table[i].most)
            return table[i].block_m;
    return 192;
}

/* Of [least, 2 * least] the one whose last wave is the fullest. */
static int fullest_wave(int local, int least)
{
    double best = -1;
    int at = least;

    for (int k = least; k <= min_int(local, 2 * least); k++) {
        double full = local % k ? (double)(local % k) / k : 1;

        if (full > best) {
            best = full;
            at = k;
        }
    }
    return at;
}

static int next_divisor(int local, int from, int most)
{
    while (from < most && local % from)
        from++;
    return min_int(from, most);
}

/* The most that pull 304 takes: a divisor of at most 32. */
static int divisor_cap(int local)
{
    int most = min_int(32, local);

    while (most > 1 && local % most)
        most--;
    return most;
}

int law_mega_wave(enum law_mega_rules rules, const struct law_mega *in, int block_m, int n_blocks)
{
    double rows = (double)in->tokens * in->topk / in->local;
    int blocks =
        (rules == LAW_MEGA_304 ? 1 : ceil_div((int)fmax(ceil(rows), 1), block_m)) * n_blocks;
    int least = ceil_div(2 * in->num_sms, blocks);

    if (rules == LAW_MEGA_SM90 || (rules != LAW_MEGA_304 && rows < 1))
        return in->local;
    if (rules == LAW_MEGA_304)
        return next_divisor(in->local, min_int(least, divisor_cap(in->local)),
                            divisor_cap(in->local));
    if (least >= in->local)
        return in->local;
    if (rules == LAW_MEGA_316)
        return next_divisor(in->local, least, in->local);
    return blocks >= in->num_sms ? least : fullest_wave(in->local, least);
}

static double element_bytes(enum plan_dtype dtype)
{
    return dtype == DTYPE_BF16 ? 2 : 1;
}

static int block_n_of(const struct law_mega_gemm *in)
{
    return in->block_n > 0 ? in->block_n : LAW_MEGA_BLOCK_N;
}

/* Product of one valid row with block_n columns over 128 bytes of k. */
static double row_ns(const double *v, const struct law_mega_gemm *in)
{
    bool bf16 = in->dtype == DTYPE_BF16;
    double TFLOPS = v[bf16 ? HW_GPU_BF16_TFLOPS : HW_GPU_FP8_TFLOPS];
    double flops = 2.0 * block_n_of(in) * 128 / element_bytes(in->dtype);

    return flops * in->num_sms / (TFLOPS * 1e3 * v[HW_MEGA_EFF]);
}

/* Hopper: blocks of whole 64 rows, dealt one pass after another. */
static double wgmma_sm_ns(const double *v, const struct law_mega_gemm *in, double blocks,
                          int block_m)
{
    bool bf16 = in->dtype == DTYPE_BF16;
    double eff = v[block_m > 64 ? HW_MASKED_EFF : HW_MASKED_EFF64];
    double TFLOPS = v[bf16 ? HW_GPU_BF16_TFLOPS : HW_GPU_FP8_TFLOPS] * eff;
    double flops = 2.0 * block_m * block_n_of(in) * in->k;
    double kblocks = in->k * element_bytes(in->dtype) / 128;
    double block_ns = v[HW_MASKED_TILE_NS] + kblocks * v[HW_MASKED_KBLOCK_NS] +
                      flops * in->num_sms / (TFLOPS * 1e3);

    return ceil(blocks / in->sms) * block_ns;
}

/* The last of `waves` passes moves from the head to the tail. */
static void last_pass_behind(struct cost_work *w)
{
    double last = 1.0 / w->waves;

    w->tail = (struct cost_segment){0, w->head.sm_ns * last, w->head.hbm_bytes * last};
    w->head.sm_ns -= w->tail.sm_ns;
    w->head.hbm_bytes -= w->tail.hbm_bytes;
}

void law_mega_gemm_work(const double *v, const struct law_mega_gemm *in, bool follows,
                        struct cost_work *out)
{
    int block_m = in->block_m > 0 ? in->block_m : LAW_MEGA_BLOCK_N, n = block_n_of(in);
    double kblocks = in->k * element_bytes(in->dtype) / 128, across = ceil_div(in->n, n);
    double high = 0, valid = 0, rows = 0, active = 0, sm_ns, hbm_ns;
    bool hopper = v[HW_GPU_ARCH] < LAW_MEGA_BLACKWELL;

    for (int e = 0; e < in->groups; e++) {
        high += ceil_div(in->rows[e], block_m);
        valid += in->rows[e] / block_m * block_m + (in->rows[e] % block_m + 15) / 16 * 16;
        rows += in->rows[e];
        active += in->rows[e] > 0;
    }
    *out = (struct cost_work){.grid = in->sms, .waves = 1, .push_GBps = 1};
    out->flops = 2.0 * rows * in->n * in->k;
    out->hbm_GBps = v[hopper ? HW_MASKED_HBM_EFF : HW_MEGA_HBM_EFF] * v[HW_GPU_HBM_GBPS];
    out->head.hbm_bytes = active * in->n * in->k * moe_dtype_bytes(in->dtype) +
                          rows * in->k * element_bytes(in->dtype);
    sm_ns = high * across * (v[HW_MEGA_TILE_NS] + kblocks * v[HW_MEGA_KBLOCK_NS]) +
            valid * across * kblocks * row_ns(v, in);
    sm_ns = hopper ? wgmma_sm_ns(v, in, high * across, block_m) : sm_ns / in->sms;
    hbm_ns = out->head.hbm_bytes / out->hbm_GBps;
    out->head.sm_ns = law_corner(sm_ns, hbm_ns, v[hopper ? HW_MASKED_CORNER : HW_MEGA_CORNER]);
    if (high * across > in->sms)
        out->waves = (int)ceil(high * across / in->sms);
    if (follows)
        last_pass_behind(out);
}

void law_mega_pull_work(const double *v, int ranks, double open_tokens, bool first, int sms,
                        struct cost_work *out)
{
    *out = (struct cost_work){.grid = sms, .waves = 1};
    out->hbm_GBps = v[HW_GPU_HBM_GBPS];
    if (first)
        out->head.fixed_ns = v[HW_MEGA_FIXED_US] * 1e3 +
                             v[HW_MEGA_DOUBLE_US] * 1e3 * log2(fmax(ranks, 1)) +
                             v[HW_MEGA_TOKEN_NS] * open_tokens;
    out->push_GBps =
        cost_saturate(sms * v[HW_NET_PUSH_SM_GBPS], v[HW_MEGA_LINK_EFF] * v[HW_NET_NVLINK_GBPS]);
}

void law_mega_store_work(const double *v, int sms, struct cost_work *out)
{
    law_mega_pull_work(v, 1, 0, false, sms, out);
}

void law_mega_reduce_work(const double *v, double tokens, int topk, int hidden, int sms,
                          struct cost_work *out)
{
    double bytes = tokens * (topk + 1) * 2.0 * hidden;

    *out = (struct cost_work){.grid = sms, .waves = 1, .push_GBps = 1};
    out->hbm_GBps = v[HW_GPU_HBM_GBPS];
    out->tail.fixed_ns = v[HW_MEGA_BARRIER_US] * 1e3;
    out->tail.hbm_bytes = bytes;
    out->tail.sm_ns = bytes / (v[HW_LL_COMB_READ_EFF] * v[HW_GPU_HBM_GBPS]);
}

/* Of experts [first, first + num). */
static void wave_gemm(const double *v, const struct law_mega *in, int first, int num, int block_m,
                      bool up, struct cost_work *out)
{
    struct law_mega_gemm gemm = {.dtype = in->dtype,
                                 .rows = in->rows + first,
                                 .groups = num,
                                 .n = up ? 2 * in->inter : in->hidden,
                                 .k = up ? in->hidden : in->inter,
                                 .block_m = block_m,
                                 .block_n = LAW_MEGA_BLOCK_N,
                                 .sms = in->sms,
                                 .num_sms = in->num_sms};

    law_mega_gemm_work(v, &gemm, up, out);
}

/* How far the lanes of a kernel have come. */
struct lanes {
    double pulled, computed, stored;
};

static void wave_run(const double *v, const struct law_mega *in, int first, int num, int block_m,
                     double link_GBps, struct lanes *at)
{
    double element = element_bytes(in->dtype), away = 1 - 1.0 / in->ranks, rows = 0;
    double begun = at->pulled, HBM_GBps = law_hbm_GBps(v);
    struct cost_work up, down;

    for (int e = first; e < first + num; e++)
        rows += in->rows[e];
    wave_gemm(v, in, first, num, block_m, true, &up);
    wave_gemm(v, in, first, num, block_m, false, &down);
    at->pulled += rows * away * element * in->hidden / link_GBps;
    at->computed = fmax(at->computed, begun) + law_segment_ns(&up.head, HBM_GBps);
    at->computed = fmax(at->computed, at->pulled) + law_segment_ns(&up.tail, HBM_GBps);
    at->stored = fmax(at->stored, at->computed) + rows * away * 2 * in->hidden / link_GBps;
    at->computed += law_segment_ns(&down.head, HBM_GBps);
    at->stored = at->computed = fmax(at->stored, at->computed);
}

double law_mega_alone_ns(const double *v, const struct law_mega *in)
{
    int block_m =
        law_mega_block_m(in->rules, (double)in->tokens * in->ranks * in->topk / in->experts);
    int wave = law_mega_wave(in->rules, in, block_m, 2 * in->inter / LAW_MEGA_BLOCK_N);
    struct lanes at;
    struct cost_work w;

    law_mega_pull_work(v, in->ranks, in->tokens, true, in->sms, &w);
    at.pulled = at.computed = at.stored = w.head.fixed_ns;
    for (int first = 0; first < in->local; first += wave)
        wave_run(v, in, first, min_int(wave, in->local - first), block_m,
                 fmin(w.push_GBps, law_nvlink_GBps(v)), &at);
    law_mega_reduce_work(v, in->tokens, in->topk, in->hidden, in->sms, &w);
    return at.stored + v[HW_NET_NVLINK_LAT_US] * 1e3 + w.tail.fixed_ns +
           law_segment_ns(&(struct cost_segment){0, w.tail.sm_ns, w.tail.hbm_bytes},
                          law_hbm_GBps(v));
}
