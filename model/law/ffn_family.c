#include "model/law/ffn_family.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Kernels that widen 4-bit weights on their way (Marlin, machete) multiply in BF16: where a GPU has
 * no 4-bit tensor cores, an engine without a 4-bit family of its own has its BF16 one, with fewer
 * bytes to read. */
enum { WEIGHTS_ALONE = 8, OTHER_ENGINE = 16 };

/* The types of weights that families have, and for which types of ops they stand; a type's own
 * family first. A8 beats A16 where both were measured, since engines take it there. */
static const struct {
    enum plan_dtype dtype;
    const char *name;
    int rank;
} types[] = {
    {DTYPE_BF16, "bfloat16", 0},
    {DTYPE_FP8, "fp8_block", 0},
    {DTYPE_FP8, "fp8", 1},
    {DTYPE_NVFP4, "nvfp4", 0},
    {DTYPE_MXFP4, "w4a8_mxfp4_mxfp8", 0},
    {DTYPE_MXFP4, "w4a8_mxfp4_fp8", 1},
    {DTYPE_MXFP4, "w4a16_mxfp4", 2},
    {DTYPE_W4A16, "w4a16_mxfp4", 0},
    {DTYPE_W4A8, "w4a8_mxfp4_fp8", 0},
    {DTYPE_W4A8, "w4a8_mxfp4_mxfp8", 1},
    {DTYPE_W4A8, "w4a16_mxfp4", 2},
    {DTYPE_W4A16, "bfloat16", WEIGHTS_ALONE},
    {DTYPE_MXFP4, "bfloat16", WEIGHTS_ALONE},
    {DTYPE_W4A8, "bfloat16", WEIGHTS_ALONE},
};

static const struct {
    const char *prefix;
    enum plan_attn_engine engine;
} engines[] = {
    {"sglang-", ATTN_ENGINE_SGLANG}, {"vllm-", ATTN_ENGINE_VLLM}, {"trtllm-", ATTN_ENGINE_TRTLLM}};

static bool is_left_out(const char *name)
{
    return strstr(name, "nongated") || strstr(name, "wideep");
}

static enum plan_attn_engine engine_of(const char *name)
{
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++)
        if (strncmp(name, engines[i].prefix, strlen(engines[i].prefix)) == 0)
            return engines[i].engine;
    return ATTN_ENGINE_AUTO;
}

/* FlashInfer's port of TensorRT-LLM's generated kernels is in all three engines, and so are
 * Triton's that widen weights. */
static bool is_shared(const char *name, int rank)
{
    return rank == WEIGHTS_ALONE || strstr(name, "flashinfer_trtllm");
}

static void add(struct law_ffn_families *f, const struct hw_table *t, bool four_bit_cores)
{
    const char *weights = strrchr(t->name, '.') + 1;

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(weights, types[i].name) == 0 &&
            (types[i].rank != WEIGHTS_ALONE || (!four_bit_cores && strstr(t->name, "triton"))))
            f->entry[f->num++] =
                (struct law_ffn_family){.param = t->y,
                                        .engine = engine_of(t->name + 4),
                                        .dtype = types[i].dtype,
                                        .rank = types[i].rank,
                                        .shared = is_shared(t->name, types[i].rank),
                                        .assumed = !hw_origin_is_own(t->origin)};
}

int law_ffn_families_open(const struct hw_profile *p, struct law_ffn_families *out)
{
    bool four_bit_cores;
    size_t most = (size_t)p->num_tables * (sizeof types / sizeof *types) + 1;

    out->num = 0;
    four_bit_cores = p->f[HW_GPU_FP4_TFLOPS].value > 0;
    out->entry = calloc(most, sizeof *out->entry);
    if (!out->entry)
        return ERR_NOMEM;
    for (int i = 0; i < p->num_tables; i++) {
        const struct hw_table *t = &p->tables[i];

        if (strncmp(t->name, "ffn.", 4) == 0 && t->n == LAW_FUSED_PARAMS && !is_left_out(t->name))
            add(out, t, four_bit_cores);
    }
    return 0;
}

void law_ffn_families_close(struct law_ffn_families *f)
{
    free(f->entry);
    f->entry = NULL;
    f->num = 0;
}

/* How far a family is from what is asked: an engine's own before others', then the type. */
static int distance(const struct law_ffn_family *e, enum plan_attn_engine engine,
                    enum plan_dtype dtype)
{
    bool own = engine == ATTN_ENGINE_AUTO || e->engine == engine || e->shared;

    return e->dtype == dtype ? e->rank + (own ? 0 : OTHER_ENGINE) : -1;
}

double law_ffn_us(const struct law_ffn_families *f, const double *v, enum plan_attn_engine engine,
                  const struct law_fused *in, bool *assumed)
{
    double usual[LAW_FUSED_PARAMS], best = HUGE_VAL;
    int nearest = -1;

    *assumed = true;
    for (int i = 0; i < f->num; i++) {
        int d = distance(&f->entry[i], engine, in->dtype);

        if (d >= 0 && (nearest < 0 || d < nearest))
            nearest = d;
    }
    for (int i = 0; i < f->num; i++)
        if (nearest >= 0 && distance(&f->entry[i], engine, in->dtype) == nearest) {
            double us = law_fused_us(v, f->entry[i].param, in);

            if (us < best) {
                best = us;
                *assumed = nearest > 0 || f->entry[i].assumed;
            }
        }
    if (nearest >= 0)
        return best;
    for (int i = 0; i < LAW_FUSED_PARAMS; i++)
        usual[i] = law_fused_info[i].usual;
    return law_fused_us(v, usual, in);
}
