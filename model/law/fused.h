/* model/law/fused.h: an engine's whole expert layer as one measured call (router's output to summed
 * rows): permutation, both grouped GEMMs, activation, reduction, whatever kernels it runs.
 *
 * Mechanism: the library takes the block of rows that is fastest for the rows at hand, pays for
 * padded rows, reads the weights of experts that have rows, and has a latency that few rows do not
 * shorten; rows and tokens move through HBM besides. A profile holds the parameters of each kernel
 * and dtype as "ffn.<kernel>.<dtype>", x = 1, 2, ... docs/model/gemm.md has data and errors. */
#ifndef PEOSIM_MODEL_LAW_FUSED_H
#define PEOSIM_MODEL_LAW_FUSED_H

#include <stdbool.h>

#include "plan/plan.h"

enum law_fused_param {
    LAW_FUSED_FIXED_US,
    LAW_FUSED_EXPERT_NS, /* more per expert of the model */
    LAW_FUSED_TILE_US,   /* a GEMM's shortest time */
    LAW_FUSED_TILE_K_US, /* more per 1024 of its k */
    LAW_FUSED_RATE,      /* share of the nominal rate that full blocks reach */
    LAW_FUSED_HALF,      /* rows of a block that reaches half of it */
    LAW_FUSED_HBM,       /* weights: share of nominal HBM bandwidth */
    LAW_FUSED_CORNER,    /* how sharply rate and HBM meet, (a^c + b^c)^(1/c) */
    LAW_FUSED_ROW,       /* rows in and out of the GEMMs: share of nominal HBM bandwidth */
    LAW_FUSED_TOKEN,     /* tokens in and out of the layer: the same */
    LAW_FUSED_PARAMS
};
struct law_fused_info {
    double lo, hi, usual;
};
extern const struct law_fused_info law_fused_info[LAW_FUSED_PARAMS];

enum { LAW_FUSED_BLOCKS = 6 }; /* blocks of 8, 16, ... 256 rows */
struct law_fused {
    enum plan_dtype dtype; /* of the weights: NVFP4, MXFP4 (FP8 activations), W4A16 ... */
    bool gated;            /* gate and up, or up alone */
    double tokens, experts, hidden, inter; /* inter: of this rank */
    double rows, active;                   /* of this rank; its experts that have rows */
    double padded[LAW_FUSED_BLOCKS];       /* rows with each expert's filled up to blocks */
};
/* padded, rows and active of one draw of rows, added to *out. */
void law_fused_rows(const double *rows, int groups, struct law_fused *out);

/* v: the profile's fields. */
double law_fused_us(const double *v, const double *param, const struct law_fused *in);

#endif
