#include "model/law_gemm.h"

#include <float.h>
#include <math.h>

struct tile {
    int m, n;
};

static double ceil_div(double a, double b)
{
    return ceil(a / b);
}

static double dtype_bytes(enum plan_dtype dtype)
{
    return dtype == DTYPE_BF16 ? 2 : 1;
}

static void work_init(const double *v, int grid, struct cost_work *out)
{
    *out = (struct cost_work){.grid = grid, .waves = 1, .push_GBps = 1};
    out->hbm_GBps = fmin(grid * v[HW_GPU_SM_HBM_GBPS], v[HW_GPU_HBM_GBPS]);
}

static int grid_of(double tiles, int sms)
{
    return tiles < 1 ? 1 : tiles < sms ? (int)tiles : sms;
}

static double grouped_tiles_m(const struct law_grouped *in, int block_m)
{
    double tiles = 0;

    for (int i = 0; i < in->groups; i++)
        tiles += (in->rows[i] + block_m - 1) / block_m;
    return tiles;
}

static double grouped_tile_ns(const double *v, const struct law_grouped *in, struct tile t)
{
    double eff = v[in->layout == GEMM_MASKED ? HW_GROUPED_MASKED_EFF : HW_GROUPED_CONTIG_EFF];
    double nominal = v[in->dtype == DTYPE_BF16 ? HW_GPU_BF16_TFLOPS : HW_GPU_FP8_TFLOPS];
    double sm_flops_ns = nominal * 1e3 / in->num_sms * eff *
                         law_power(v[HW_GROUPED_POWER_DROP], in->sms, in->num_sms);
    double kblocks = ceil_div(in->k, 128);

    return v[HW_GROUPED_TILE_NS] +
           kblocks * fmax(v[HW_GROUPED_KBLOCK_NS], 2.0 * t.m * t.n * 128 / sm_flops_ns);
}

static double grouped_bytes(const struct law_grouped *in, double *flops)
{
    double rows = 0, active = 0, width = dtype_bytes(in->dtype);

    for (int i = 0; i < in->groups; i++) {
        rows += in->rows[i];
        active += in->rows[i] > 0;
    }
    *flops = 2 * rows * in->n * in->k;
    return active * in->n * in->k * width + rows * (in->k * width + in->n * 2.0);
}

void law_grouped_work(const double *v, const struct law_grouped *in, struct cost_work *out)
{
    static const struct tile tiles[] = {{64, 64},  {64, 96},  {64, 128},  {64, 160},
                                        {128, 64}, {128, 96}, {128, 128}, {128, 160}};
    double best = DBL_MAX, m64 = grouped_tiles_m(in, 64), m128 = grouped_tiles_m(in, 128);
    int grid = 1, waves = 1;

    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        double num = (tiles[i].m == 64 ? m64 : m128) * ceil_div(in->n, tiles[i].n);
        double w = ceil_div(num, in->sms), ns = w * grouped_tile_ns(v, in, tiles[i]);

        if (in->layout == GEMM_CONTIGUOUS && tiles[i].m == 64)
            continue;
        if (ns < best) {
            best = ns;
            grid = grid_of(num, in->sms);
            waves = w < 1 ? 1 : (int)w;
        }
    }
    work_init(v, grid, out);
    out->hbm_GBps = fmin(out->hbm_GBps, v[HW_GROUPED_HBM_EFF] * v[HW_GPU_HBM_GBPS]);
    out->head.fixed_ns = v[HW_GROUPED_FIXED_US] * 1e3;
    out->head.sm_ns = best;
    out->head.hbm_bytes = grouped_bytes(in, &out->flops);
    out->waves = waves;
}

static double dense_tile_ns(const double *v, const struct law_dense *in, struct tile t)
{
    static const int eff[] = {HW_GEMM_BF16_EFF, HW_GEMM_FP8_EFF, HW_GEMM_BLOCK_EFF};
    double nominal = v[in->dtype == LAW_DENSE_BF16 ? HW_GPU_BF16_TFLOPS : HW_GPU_FP8_TFLOPS];
    double width = in->dtype == LAW_DENSE_BF16 ? 2 : 1;
    double sm_flops_ns = nominal * 1e3 / in->num_sms * v[eff[in->dtype]] *
                         law_power(v[HW_GEMM_POWER_DROP], in->sms, in->num_sms);
    double block_k = 64 / width, kblocks = ceil_div(in->k, block_k);

    return v[HW_GEMM_TILE_NS] +
           kblocks * fmax(v[HW_GEMM_KBLOCK_NS], 2.0 * t.m * t.n * block_k / sm_flops_ns);
}

void law_dense_work(const double *v, const struct law_dense *in, struct cost_work *out)
{
    static const struct tile tiles[] = {{64, 64},   {64, 128},  {128, 64}, {128, 128},
                                        {128, 256}, {256, 128}, {64, 256}, {64, 32}};
    double best = DBL_MAX, width = in->dtype == LAW_DENSE_BF16 ? 2 : 1;
    int grid = 1, waves = 1;

    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        double num = ceil_div(in->m, tiles[i].m) * ceil_div(in->n, tiles[i].n);
        double w = ceil_div(num, in->sms), ns = w * dense_tile_ns(v, in, tiles[i]);

        if (ns < best) {
            best = ns;
            grid = grid_of(num, in->sms);
            waves = w < 1 ? 1 : (int)w;
        }
    }
    work_init(v, grid, out);
    out->hbm_GBps = fmin(out->hbm_GBps, v[HW_GEMM_HBM_EFF] * v[HW_GPU_HBM_GBPS]);
    out->head.fixed_ns = v[HW_GEMM_FIXED_US] * 1e3;
    if (in->quantise)
        out->head.fixed_ns += v[HW_GEMM_QUANT_US] * 1e3;
    out->head.sm_ns = best;
    out->head.hbm_bytes =
        (double)in->n * in->k * width + (double)in->m * in->k * width + (double)in->m * in->n * 2;
    out->flops = 2.0 * in->m * in->n * in->k;
    out->waves = waves;
}

void law_act_work(const double *v, double rows, int inter, enum plan_dtype dtype, int sms,
                  struct cost_work *out)
{
    double bytes = rows * inter * (4 + dtype_bytes(dtype));

    work_init(v, grid_of(rows, sms), out);
    out->head.fixed_ns = v[HW_ACT_FIXED_US] * 1e3;
    out->head.sm_ns = fmax(
        ceil_div(rows, sms) * v[HW_ACT_ROW_NS],
        bytes / fmin(v[HW_ACT_HBM_EFF] * v[HW_GPU_HBM_GBPS], out->grid * v[HW_GPU_SM_HBM_GBPS]));
    out->head.hbm_bytes = bytes;
}

void law_topk_add(const double *v, int tokens, int sms, struct cost_work *out)
{
    out->tail.fixed_ns += v[HW_ROUTER_FIXED_US] * 1e3;
    out->tail.sm_ns += ceil_div(tokens, sms) * v[HW_ROUTER_TOKEN_NS];
}

void law_attn_work(const double *v, const struct law_attn *in, struct cost_work *out)
{
    double eff = v[in->prefill ? HW_ATTN_PREFILL_EFF : HW_ATTN_DECODE_EFF];
    double rate = v[HW_GPU_BF16_TFLOPS] * 1e3 * eff * in->sms / in->num_sms;

    work_init(v, in->sms, out);
    out->hbm_GBps = fmin(out->hbm_GBps, v[HW_ATTN_DECODE_HBM_EFF] * v[HW_GPU_HBM_GBPS]);
    out->flops = 2 * in->rows * in->heads * in->context * (in->qk_dim + in->v_dim);
    out->head.fixed_ns = v[HW_ATTN_FIXED_US] * 1e3;
    out->head.sm_ns = out->flops / rate;
    out->head.hbm_bytes = in->kv_bytes + in->rows * in->heads * (in->qk_dim + in->v_dim) * 2;
}
