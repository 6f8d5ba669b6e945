/* Attention and state-space measurements: kernels alone and whole modules of three engines. */
#include "calib/attn.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/attn.h"

#define WARM_UP_SHARE 1.25

/* DeepSeek-V3: the MLA modules are its shape with fewer or all heads. */
static const struct attn_shape mla_shape = {.kind = ATTN_MLA,
                                            .hidden = 7168,
                                            .q_lora_rank = 1536,
                                            .kv_lora_rank = 512,
                                            .qk_rope_head_dim = 64,
                                            .qk_head_dim = 192,
                                            .v_head_dim = 128};

/* The shapes behind the model names of the files, by a part of the name; public config files. */
static const struct {
    const char *module, *model;
    int heads;
    struct attn_shape shape;
} sparse_models[] = {
    {"dsa",
     "DeepSeek-V3.2",
     128,
     {.kind = ATTN_DSA,
      .hidden = 7168,
      .q_lora_rank = 1536,
      .kv_lora_rank = 512,
      .qk_rope_head_dim = 64,
      .qk_head_dim = 192,
      .v_head_dim = 128,
      .index_heads = 64,
      .index_head_dim = 128,
      .index_topk = 2048}},
    {"dsa",
     "GLM-5",
     64,
     {.kind = ATTN_DSA,
      .hidden = 6144,
      .q_lora_rank = 2048,
      .kv_lora_rank = 512,
      .qk_rope_head_dim = 64,
      .qk_head_dim = 256,
      .v_head_dim = 256,
      .index_heads = 32,
      .index_head_dim = 128,
      .index_topk = 2048}},
    {"dsv4_",
     "DeepSeek-V4-Flash",
     64,
     {.kind = ATTN_COMPRESSED,
      .hidden = 4096,
      .q_lora_rank = 1024,
      .qk_rope_head_dim = 64,
      .qk_head_dim = 512,
      .v_head_dim = 512,
      .window = 128,
      .o_groups = 8,
      .o_lora_rank = 1024,
      .index_heads = 64,
      .index_head_dim = 128,
      .index_topk = 512}},
    {"dsv4_",
     "DeepSeek-V4-Pro",
     128,
     {.kind = ATTN_COMPRESSED,
      .hidden = 7168,
      .q_lora_rank = 1536,
      .qk_rope_head_dim = 64,
      .qk_head_dim = 512,
      .v_head_dim = 512,
      .window = 128,
      .o_groups = 16,
      .o_lora_rank = 1024,
      .index_heads = 64,
      .index_head_dim = 128,
      .index_topk = 1024}},
    {"msa",
     "MiniMax-M3",
     64,
     {.kind = ATTN_MSA,
      .hidden = 6144,
      .kv_heads = 4,
      .qk_head_dim = 128,
      .v_head_dim = 128,
      .index_heads = 4,
      .index_head_dim = 128,
      .index_topk = 16,
      .index_block = 128}},
};

static struct data_attn *attn_new(struct cells *c, struct data_row *r, enum data_law law)
{
    struct data_attn *a = arena_alloc(c->set->arena, sizeof *a);

    if (!a) {
        c->err = true;
        return NULL;
    }
    r->law = law;
    r->attn = a;
    r->reference = true;
    cell_system(c, "system", r);
    cell_latency(c, "latency_us", r);
    return a;
}

/* Lower case, and nothing that a table's name may not hold. */
static void name_plain(char *text)
{
    for (; *text; text++)
        *text = (char)(isalnum((unsigned char)*text) || *text == '.' || *text == '-'
                           ? tolower((unsigned char)*text)
                           : '_');
}

static void family_add(struct data_attn *a, const char *text)
{
    size_t len = strlen(a->family);

    snprintf(a->family + len, sizeof a->family - len, ".%s", text);
}

static enum plan_dtype cell_type(struct cells *c, const char *col)
{
    static const struct {
        const char *name;
        enum plan_dtype dtype;
    } types[] = {{"bfloat16", DTYPE_BF16},
                 {"fp8", DTYPE_FP8},
                 {"fp8_e4m3", DTYPE_FP8},
                 {"fp8_block", DTYPE_FP8},
                 {"nvfp4", DTYPE_NVFP4}};

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(cell_text(c, col), types[i].name) == 0)
            return types[i].dtype;
    cell_bad(c, col, "is none of bfloat16, fp8, fp8_e4m3, fp8_block, nvfp4");
    return DTYPE_BF16;
}

static void cells_load(struct cells *c, struct law_attn_load *in)
{
    const char *phase = cell_text(c, "phase");

    in->prefill = strcmp(phase, "prefill") == 0;
    if (!in->prefill && strcmp(phase, "decode") != 0)
        cell_bad(c, "phase", "is neither prefill nor decode");
    in->requests = cell_int(c, "batch", 1, 1 << 20);
    in->q_len = cell_int(c, "q_len", 1, 1 << 24);
}

static void cells_cache(struct cells *c, struct law_attn_load *in)
{
    in->kv_len = cell_int(c, "kv_len", 1, 1 << 26);
    if (!c->err && in->kv_len < in->q_len)
        cell_bad(c, "kv_len", "is less than q_len");
    in->kv_bytes = cell_type(c, "kv_dtype") == DTYPE_BF16 ? 2 : 1;
}

/* "gqa fa3 decode fp8" of the part in front of the kernel and what follows. */
static void names_set(struct data_row *r, const char *kind, const char *engine, const char *kernel)
{
    struct data_attn *a = r->attn;
    const char *phase = a->load.prefill ? "prefill" : "decode";
    const char *cache = attn_kind_has_state(a->load.shape.kind) ? ""
                        : a->load.kv_bytes > 1                  ? ".bf16"
                                                                : ".fp8";
    char name[64];

    snprintf(name, sizeof name, "%.12s%s%.44s", engine, engine[0] ? "-" : "", kernel);
    name_plain(name);
    snprintf(a->family, sizeof a->family, "%s.%s.%s%s", kind, name, phase, cache);
    snprintf(a->kind, sizeof a->kind, "%.8s %.20s %s %.5s", kind, name, phase, cache + !!cache[0]);
}

void read_attn_gqa(struct cells *c, struct data_row *r)
{
    struct data_attn *a = attn_new(c, r, DATA_ATTN_GQA);
    struct attn_shape *s;
    char dim[16];

    if (!a)
        return;
    s = &a->load.shape;
    s->heads = cell_int(c, "heads", 1, 4096);
    s->kv_heads = cell_int(c, "kv_heads", 1, 4096);
    s->qk_head_dim = s->v_head_dim = cell_int(c, "head_dim", 8, 4096);
    s->window = (int)cell_optional(c, "window", 1 << 26);
    s->kind = s->window ? ATTN_WINDOW : ATTN_GQA;
    cells_load(c, &a->load);
    cells_cache(c, &a->load);
    a->load.tensor_dtype = cell_type(c, "dtype");
    if (!c->err && s->heads % s->kv_heads)
        cell_bad(c, "kv_heads", "does not divide heads");
    names_set(r, "gqa", "", cell_text(c, "kernel"));
    snprintf(dim, sizeof dim, "d%d", s->qk_head_dim);
    family_add(a, dim);
    snprintf(r->group, sizeof r->group, "%s %d/%d/%d w%d", a->load.prefill ? "prefill" : "decode",
             s->heads, s->kv_heads, s->qk_head_dim, s->window);
}

static void module_types(struct cells *c, struct data_attn *a)
{
    a->load.tensor_dtype = DTYPE_BF16;
    a->load.weight_dtype = cell_type(c, "gemm_dtype");
}

void read_attn_mla(struct cells *c, struct data_row *r)
{
    struct data_attn *a = attn_new(c, r, DATA_ATTN_MLA);
    bool kernel = strcmp(cell_text(c, "level"), "kernel") == 0;

    if (!a)
        return;
    a->load.shape = mla_shape;
    a->load.shape.heads = cell_int(c, "heads", 1, 4096);
    a->load.part = kernel ? LAW_ATTN_CORE : LAW_ATTN_MODULE;
    if (!kernel && strcmp(cell_text(c, "level"), "module") != 0)
        cell_bad(c, "level", "is neither kernel nor module");
    cells_load(c, &a->load);
    cells_cache(c, &a->load);
    module_types(c, a);
    a->load.expanded = a->load.prefill;
    names_set(r, kernel ? "mla_kernel" : "mla", cell_text(c, "engine"), cell_text(c, "kernel"));
    if (!kernel)
        family_add(a, a->load.weight_dtype == DTYPE_BF16  ? "w_bf16"
                      : a->load.weight_dtype == DTYPE_FP8 ? "w_fp8"
                                                          : "w_fp4");
    snprintf(r->coll, sizeof r->coll, "tp%d", cell_int(c, "tp", 1, 4096));
    snprintf(r->group, sizeof r->group, "%s %s %d heads", kernel ? "kernel" : "module",
             a->load.prefill ? "prefill" : "decode", a->load.shape.heads);
}

/* KV heads, index heads and output groups of the rank that holds so many of all query heads. */
static void sparse_shape(struct cells *c, struct attn_shape *s)
{
    const char *module = cell_text(c, "module"), *model = cell_text(c, "model");
    int heads = cell_int(c, "heads", 1, 4096), tp;

    for (size_t i = 0; i < sizeof sparse_models / sizeof *sparse_models; i++) {
        const char *name = sparse_models[i].module;

        if (strncmp(module, name, strlen(name)) != 0 || !strstr(model, sparse_models[i].model))
            continue;
        *s = sparse_models[i].shape;
        s->heads = sparse_models[i].heads;
        tp = s->heads / (heads > 0 ? heads : 1);
        *s = attn_of_rank(s, tp > 0 ? tp : 1);
        s->heads = heads;
        if (s->kind == ATTN_COMPRESSED) {
            s->compress_ratio = strcmp(module, "dsv4_csa") == 0 ? 4 : 128;
            s->index_heads = s->compress_ratio == 4 ? s->index_heads : 0;
        }
        return;
    }
    cell_bad(c, "model", "is of no shape known here for this module");
}

/* Models of one shape are measured apart: the end of the name tells them. */
static void model_set(struct cells *c, struct data_row *r)
{
    const char *model = cell_text(c, "model");
    size_t len = strlen(model), most = sizeof r->coll - 1;

    snprintf(r->coll, sizeof r->coll, "%s", len > most ? model + len - most : model);
}

/* Engines of other months served other models, and host time and kernels are theirs: a family is
 * one model's (by its hidden size), GLM-5.2 apart from GLM-5. */
static void sparse_family(struct cells *c, struct data_attn *a)
{
    char text[24];

    snprintf(text, sizeof text, "h%d%s", a->load.shape.hidden,
             strstr(cell_text(c, "model"), "-5.2") ? "s" : "");
    family_add(a, text);
}

void read_attn_sparse(struct cells *c, struct data_row *r)
{
    const char *kernel = cell_text(c, "kernel");
    struct data_attn *a = attn_new(c, r, DATA_ATTN_SPARSE);

    if (!a)
        return;
    sparse_shape(c, &a->load.shape);
    a->load.part = LAW_ATTN_MODULE;
    cells_load(c, &a->load);
    cells_cache(c, &a->load);
    module_types(c, a);
    a->load.shape.index_shared = strstr(kernel, "skip_indexer") != NULL;
    a->load.expanded = strstr(kernel, "dense_mha") != NULL;
    names_set(r, cell_text(c, "module"), cell_text(c, "engine"), kernel);
    model_set(c, r);
    sparse_family(c, a);
    snprintf(r->group, sizeof r->group, "%s %s %d/%d heads", cell_text(c, "module"),
             a->load.prefill ? "prefill" : "decode", a->load.shape.heads, a->load.shape.hidden);
}

void read_attn_linear(struct cells *c, struct data_row *r)
{
    const char *kind = cell_text(c, "kind"), *kernel = cell_text(c, "kernel");
    struct data_attn *a = attn_new(c, r, DATA_ATTN_STATE);
    struct attn_shape *s;

    if (!a)
        return;
    s = &a->load.shape;
    s->kind = strcmp(kind, "kda") == 0 ? ATTN_KDA : ATTN_GATED_DELTA;
    if (s->kind != ATTN_KDA && strcmp(kind, "gdn") != 0)
        cell_bad(c, "kind", "is neither gdn nor kda");
    s->hidden = cell_int(c, "d_model", 1, 1 << 20);
    s->state_k_heads = cell_int(c, "k_heads", 1, 4096);
    s->state_k_dim = cell_int(c, "k_head_dim", 1, 4096);
    s->state_v_heads = cell_int(c, "v_heads", 1, 4096);
    s->state_v_dim = cell_int(c, "v_head_dim", 1, 4096);
    s->state_bytes = 4;
    s->conv_kernel = 4;
    a->load.part = strstr(kernel, "conv1d") ? LAW_ATTN_CONV : LAW_ATTN_CORE;
    a->load.kv_bytes = 2;
    cells_load(c, &a->load);
    a->load.kv_len = a->load.q_len;
    names_set(r, kind, "", kernel);
    model_set(c, r);
    snprintf(r->group, sizeof r->group, "%s %s %d/%d heads %d", kind,
             a->load.prefill ? "prefill" : "decode", s->state_k_heads, s->state_v_heads, s->hidden);
}

int data_attn_compare(const struct data_attn *a, const struct data_attn *b)
{
    const struct law_attn_load *x = &a->load, *y = &b->load;
    const double u[] = {x->weight_dtype, x->tensor_dtype, x->requests, x->q_len, x->kv_len};
    const double w[] = {y->weight_dtype, y->tensor_dtype, y->requests, y->q_len, y->kv_len};
    int c = strcmp(a->family, b->family);

    if (c == 0)
        c = memcmp(&x->shape, &y->shape, sizeof x->shape);
    for (size_t i = 0; c == 0 && i < sizeof u / sizeof *u; i++)
        c = (u[i] > w[i]) - (u[i] < w[i]);
    return c;
}

double data_attn_size(const struct data_attn *a)
{
    return a->load.requests * a->load.q_len * a->load.kv_len;
}

/* Rows of one kernel and shape stand together, so that only these are compared. */
static int row_compare(const void *x, const void *y)
{
    const struct data_row *a = *(struct data_row *const *)x, *b = *(struct data_row *const *)y;
    int c = strcmp(a->system, b->system);

    c = c ? c : strcmp(a->attn->family, b->attn->family);
    c = c ? c : memcmp(&a->attn->load.shape, &b->attn->load.shape, sizeof a->attn->load.shape);
    return c ? c
             : (a->attn->load.weight_dtype > b->attn->load.weight_dtype) -
                   (a->attn->load.weight_dtype < b->attn->load.weight_dtype);
}

static bool no_less_work(const struct law_attn_load *a, const struct law_attn_load *b)
{
    return a->requests >= b->requests && a->q_len >= b->q_len && a->kv_len >= b->kv_len;
}

int read_attn_finish(struct data_set *set)
{
    struct data_row **rows = malloc((set->n + 1) * sizeof *rows);
    size_t n = 0;

    if (!rows)
        return ERR_NOMEM;
    for (size_t i = 0; i < set->n; i++)
        if (set->rows[i].attn)
            rows[n++] = &set->rows[i];
    qsort(rows, n, sizeof *rows, row_compare);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && row_compare(&rows[i], &rows[end]) == 0;)
            end++;
        for (size_t j = i; j < end; j++)
            for (size_t k = i; k < end; k++)
                if (rows[j]->latency_us > WARM_UP_SHARE * rows[k]->latency_us &&
                    no_less_work(&rows[k]->attn->load, &rows[j]->attn->load))
                    rows[j]->reference = false;
    }
    free(rows);
    return 0;
}
