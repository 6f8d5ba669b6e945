#include "model/law/attn_family.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static const struct {
    const char *name;
    enum attn_kind kind;
    bool module, csa;
} kinds[] = {
    {"gqa", ATTN_GQA, false, false},
    {"mla", ATTN_MLA, true, false},
    {"dsa", ATTN_DSA, true, false},
    {"dsv4_csa", ATTN_COMPRESSED, true, true},
    {"dsv4_hca", ATTN_COMPRESSED, true, false},
    {"msa", ATTN_MSA, true, false},
    {"gdn", ATTN_GATED_DELTA, false, false},
    {"kda", ATTN_KDA, false, false},
};

/* By how a kernel's name begins; GQA's name no engine but the library: all of them serve SGLang. */
static const struct {
    const char *prefix;
    enum plan_attn_engine engine;
} engines[] = {{"sglang", ATTN_ENGINE_SGLANG},
               {"vllm", ATTN_ENGINE_VLLM},
               {"trtllm", ATTN_ENGINE_TRTLLM},
               {"fa3", ATTN_ENGINE_AUTO},
               {"flashinfer", ATTN_ENGINE_AUTO}};

/* Kernels that an engine prefers less than its others of the kind. */
static const char *const later[] = {"flashinfer", "mtp", "sigmoid", "kda_fused_decode"};

/* The next part of a dotted name, copied; where it ends. */
static const char *next_part(const char *name, char *part, size_t size)
{
    size_t len = strcspn(name, ".");

    snprintf(part, size, "%.*s", (int)len, name);
    return name[len] ? name + len + 1 : name + len;
}

static void parse_kernel(struct law_attn_family_entry *e, const char *kernel)
{
    e->expanded = strstr(kernel, "dense_mha") != NULL;
    e->shares_index = strstr(kernel, "skip_indexer") != NULL;
    e->conv = strstr(kernel, "conv1d") != NULL;
    e->engine = ATTN_ENGINE_AUTO;
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++)
        if (strncmp(kernel, engines[i].prefix, strlen(engines[i].prefix)) == 0)
            e->engine = engines[i].engine;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        e->rank += strstr(kernel, later[i]) != NULL;
}

static void parse_more(struct law_attn_family_entry *e, const char *part)
{
    if (strcmp(part, "bf16") == 0 || strcmp(part, "fp8") == 0)
        e->cache_bytes = part[0] == 'b' ? 2 : 1;
    else if (part[0] == 'd')
        e->head_dim = atoi(part + 1);
    else if (part[0] == 'h')
        e->hidden = atoi(part + 1);
    if (strncmp(part, "w_", 2) == 0) {
        e->weights_said = true;
        e->weights = strcmp(part, "w_fp8") == 0   ? DTYPE_FP8
                     : strcmp(part, "w_fp4") == 0 ? DTYPE_NVFP4
                                                  : DTYPE_BF16;
    }
}

/* False: no family of a kind that modules are priced by (kernels of MLA alone are not). */
static bool parse(struct law_attn_family_entry *e, const char *name)
{
    char part[80];
    size_t i = 0;

    name = next_part(name, part, sizeof part);
    while (i < sizeof kinds / sizeof *kinds && strcmp(kinds[i].name, part) != 0)
        i++;
    if (i == sizeof kinds / sizeof *kinds)
        return false;
    e->kind = kinds[i].kind;
    e->module = kinds[i].module;
    e->csa = kinds[i].csa;
    name = next_part(name, part, sizeof part);
    parse_kernel(e, part);
    name = next_part(name, part, sizeof part);
    e->prefill = strcmp(part, "prefill") == 0;
    while (*name) {
        name = next_part(name, part, sizeof part);
        parse_more(e, part);
    }
    return true;
}

int law_attn_families_open(const struct hw_profile *p, struct law_attn_families *out)
{
    out->num = 0;
    out->entry = calloc((size_t)p->num_tables + 1, sizeof *out->entry);
    if (!out->entry)
        return ERR_NOMEM;
    for (int i = 0; i < p->num_tables; i++) {
        const struct hw_table *t = &p->tables[i];
        struct law_attn_family_entry e = {.table = t, .assumed = !hw_origin_is_own(t->origin)};

        if (strncmp(t->name, "attn.", 5) == 0 && t->n == LAW_ATTN_PARAM_COUNT &&
            parse(&e, t->name + 5))
            out->entry[out->num++] = e;
    }
    return 0;
}

void law_attn_families_close(struct law_attn_families *f)
{
    free(f->entry);
    f->entry = NULL;
    f->num = 0;
}

static bool fits(const struct law_attn_family_entry *e, const struct law_attn_load *in)
{
    const struct attn_shape *s = &in->shape;
    enum attn_kind kind = s->kind == ATTN_WINDOW ? ATTN_GQA : s->kind;
    bool all_keys = s->kind == ATTN_DSA && in->prefill && in->kv_len <= s->index_topk;

    if (e->kind != kind || e->prefill != in->prefill || e->conv != (in->part == LAW_ATTN_CONV))
        return false;
    if (kind == ATTN_COMPRESSED && e->csa != (s->index_heads > 0))
        return false;
    /* While a prompt has no more keys than are selected, some engines run dense attention. */
    if (e->expanded)
        return all_keys;
    return kind != ATTN_DSA || e->shares_index == s->index_shared;
}

static double apart(double a, double b)
{
    return a > 0 && b > 0 ? fabs(log(a / b)) : 0;
}

/* How far the family is from what is asked for; 0: measured so. */
static double distance(const struct law_attn_family_entry *e, const struct law_attn_load *in,
                       bool *stands_in)
{
    double d = e->assumed ? 30 : 0;

    *stands_in = false;
    if (e->cache_bytes > 0 && e->cache_bytes != in->kv_bytes) {
        d += 100;
        *stands_in = true;
    }
    if (e->weights_said && e->weights != in->weight_dtype) {
        d += 20 + (e->weights == DTYPE_BF16 || in->weight_dtype == DTYPE_BF16 ? 5 : 0);
        *stands_in = true;
    }
    if (apart(e->head_dim, in->shape.qk_head_dim) > 1e-6) {
        d += 10 * (1 + apart(e->head_dim, in->shape.qk_head_dim));
        *stands_in = true;
    }
    return d + apart(e->hidden, in->shape.hidden);
}

/* Without a wish: TensorRT-LLM's, measured for every type of cache and weights; then SGLang's. */
static double engine_distance(enum plan_attn_engine have, enum plan_attn_engine want)
{
    if (have == ATTN_ENGINE_AUTO || have == want)
        return 0;
    if (want != ATTN_ENGINE_AUTO)
        return 50;
    return have == ATTN_ENGINE_TRTLLM ? 0.01 : have == ATTN_ENGINE_SGLANG ? 0.02 : 0.03;
}

const struct law_attn_family_entry *law_attn_choose(const struct law_attn_families *f,
                                                    enum plan_attn_engine engine,
                                                    struct law_attn_load *in, bool *stands_in)
{
    const struct law_attn_family_entry *best = NULL;
    double least = HUGE_VAL;

    *stands_in = false;
    for (int i = 0; i < f->num; i++) {
        const struct law_attn_family_entry *e = &f->entry[i];
        bool other;
        double d;

        if (!fits(e, in))
            continue;
        d = distance(e, in, &other) + engine_distance(e->engine, engine) + 0.3 * e->rank -
            (e->expanded ? 1 : 0);
        if (d < least) {
            least = d;
            best = e;
            *stands_in = other;
        }
    }
    if (best) {
        in->expanded = in->prefill && (best->expanded || in->shape.kind == ATTN_MLA);
        in->part = in->part == LAW_ATTN_CONV ? LAW_ATTN_CONV
                   : best->module            ? LAW_ATTN_MODULE
                                             : LAW_ATTN_CORE;
    }
    return best;
}
