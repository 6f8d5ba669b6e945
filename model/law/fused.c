#include "model/law/fused.h"

#include <math.h>

#include "hw/fields.h"
#include "model/law/law.h"
#include "model/moe.h"

const struct law_fused_info law_fused_info[LAW_FUSED_PARAMS] = {
    [LAW_FUSED_FIXED_US] = {1, 300, 15}, [LAW_FUSED_EXPERT_NS] = {0.5, 500, 6},
    [LAW_FUSED_TILE_US] = {0.02, 50, 3}, [LAW_FUSED_TILE_K_US] = {0.01, 30, 1},
    [LAW_FUSED_RATE] = {0.01, 4, 0.6},   [LAW_FUSED_HALF] = {0.5, 1000, 30},
    [LAW_FUSED_HBM] = {0.02, 4, 0.8},    [LAW_FUSED_CORNER] = {1, 16, 2},
    [LAW_FUSED_ROW] = {0.02, 20, 1},     [LAW_FUSED_TOKEN] = {0.02, 20, 1},
};

void law_fused_rows(const double *rows, int groups, struct law_fused *out)
{
    for (int g = 0; g < groups; g++) {
        double block = 8;

        out->rows += rows[g];
        out->active += rows[g] > 0;
        for (int b = 0; b < LAW_FUSED_BLOCKS; b++, block *= 2)
            out->padded[b] += ceil(rows[g] / block) * block;
    }
}

/* FLOPs per us at the nominal rate. */
static double nominal(const double *v, enum plan_dtype dtype)
{
    double four = v[HW_GPU_FP4_TFLOPS] > 0 ? v[HW_GPU_FP4_TFLOPS] : v[HW_GPU_FP8_TFLOPS];

    return 1e6 * (dtype == DTYPE_NVFP4                          ? four
                  : dtype == DTYPE_BF16 || dtype == DTYPE_W4A16 ? v[HW_GPU_BF16_TFLOPS]
                                                                : v[HW_GPU_FP8_TFLOPS]);
}

static double gemm_us(const double *v, const double *p, const struct law_fused *in, double n,
                      double k)
{
    double rate = p[LAW_FUSED_RATE] * nominal(v, in->dtype), block = 8, best = HUGE_VAL;
    double weights_us = in->active * n * k * moe_dtype_bytes(in->dtype) /
                        (p[LAW_FUSED_HBM] * v[HW_GPU_HBM_GBPS] * 1e3);

    for (int b = 0; b < LAW_FUSED_BLOCKS; b++, block *= 2) {
        double us = 2 * in->padded[b] * n * k / (rate * block / (block + p[LAW_FUSED_HALF]));

        best = fmin(best, us);
    }
    return law_corner(law_corner(best, weights_us, p[LAW_FUSED_CORNER]),
                      p[LAW_FUSED_TILE_US] + p[LAW_FUSED_TILE_K_US] * k / 1024, 2);
}

/* BF16 rows of the layer's width in and out of the experts, 6 bytes a channel of the activation;
 * of tokens the same 6 in all. */
static double move_us(const double *v, const double *p, const struct law_fused *in)
{
    double rows = in->rows * (4 * in->hidden + 6 * in->inter) / p[LAW_FUSED_ROW];
    double tokens = in->tokens * 6 * in->hidden / p[LAW_FUSED_TOKEN];

    return (rows + tokens) / (v[HW_GPU_HBM_GBPS] * 1e3);
}

double law_fused_us(const double *v, const double *p, const struct law_fused *in)
{
    return p[LAW_FUSED_FIXED_US] + p[LAW_FUSED_EXPERT_NS] * in->experts / 1e3 +
           gemm_us(v, p, in, (in->gated ? 2 : 1) * in->inter, in->hidden) +
           gemm_us(v, p, in, in->hidden, in->inter) + move_us(v, p, in);
}
