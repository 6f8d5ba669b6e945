#include "validate/gpu_attn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

#define TABLE_BYTES ((size_t)16 << 20) /* random values, repeated as often as it takes */

int gpu_attn_check(const struct gpu_session *s, const struct plan *plan)
{
    const struct plan_attn *a = &plan->attn;
    int row = a->kv_lora_rank ? a->kv_lora_rank + a->qk_rope_head_dim
                              : a->kv_heads * (a->qk_head_dim + a->v_head_dim);
    const char *why = NULL;

    if (a->tp > 1)
        why = "attention over a tensor-parallel group is not built";
    else if (a->kv_lora_rank && plan_attn_is_prefill(a))
        why = "prompts of a latent cache (expanded heads) are not built";
    else if (a->kv_bytes_per_token != 2 * row)
        why = "the KV cache must be BF16 (attention.kv_dtype)";
    else if (a->heads % a->kv_heads)
        why = "its heads are not a multiple of its KV heads";
    for (int i = 0; !why && i < plan->num_batches; i++)
        if (plan->batches[i].num_tokens % a->q_tokens || plan->batches[i].first_token % a->q_tokens)
            why = "a batch holds a part of a request's tokens only";
    if (why && s->rank == 0)
        log_warn("%s: this plan cannot run on the GPUs here: %s", plan->policy, why);
    return why ? ERR_UNSUPPORTED : 0;
}

/* As computed in one step: MLA absorbed, all heads over one latent row; else key and value. */
static struct attention_shape shape_of(const struct plan *plan, int tokens)
{
    const struct plan_attn *a = &plan->attn;
    bool mla = a->kv_lora_rank > 0;
    int key = mla ? a->kv_lora_rank + a->qk_rope_head_dim : a->qk_head_dim;

    return (struct attention_shape){.requests = tokens / a->q_tokens,
                                    .q_tokens = a->q_tokens,
                                    .context_len = a->context_len,
                                    .heads = a->heads,
                                    .kv_heads = mla ? 1 : a->kv_heads,
                                    .qk_dim = key,
                                    .v_dim = mla ? a->kv_lora_rank : a->v_head_dim,
                                    .kv_width = mla ? key : key + a->v_head_dim,
                                    .v_first = mla ? 0 : key,
                                    .scale = 1 / sqrtf((float)a->qk_head_dim),
                                    .num_sms = plan->num_sms};
}

/* BF16 values of a normal distribution. */
static int values_alloc(void **out, size_t bytes, const void *table)
{
    int err = gpu_alloc(out, bytes);

    for (size_t at = 0; !err && at < bytes; at += TABLE_BYTES)
        err = GPU(cudaMemcpy((char *)*out + at, table,
                             bytes - at < TABLE_BYTES ? bytes - at : TABLE_BYTES,
                             cudaMemcpyDeviceToDevice));
    return err;
}

static int table_open(void **table)
{
    void *host = malloc(TABLE_BYTES);
    uint64_t state = 5;
    int err = host ? gpu_alloc(table, TABLE_BYTES) : ERR_NOMEM;

    if (!err) {
        data_fill(host, TABLE_BYTES / 2, false, 1.0, &state);
        err = gpu_upload(*table, host, TABLE_BYTES);
    }
    free(host);
    return err;
}

static int rotary_open(struct gpu_attn *a, int positions, int rope, int first)
{
    size_t angles = (size_t)positions * (size_t)rope / 2;
    float *host = malloc(2 * angles * sizeof *host);
    int err = host ? gpu_alloc((void **)&a->rotary, 2 * angles * sizeof *host) : ERR_NOMEM;

    for (size_t i = 0; !err && i < angles; i++) {
        size_t channel = i % ((size_t)rope / 2), position = i / ((size_t)rope / 2);
        double angle =
            (double)((size_t)first + position) * pow(10000, -2.0 * (double)channel / rope);

        host[2 * i] = (float)cos(angle);
        host[2 * i + 1] = (float)sin(angle);
    }
    if (!err)
        err = gpu_upload(a->rotary, host, 2 * angles * sizeof *host);
    free(host);
    return err;
}

/* The requests of each batch: their part of the operands, and the products over them. */
static int batches_open(struct gpu_attn *a, const struct plan *plan)
{
    const struct plan_attn *t = &plan->attn;
    bool mla = t->kv_lora_rank > 0;
    int rope = mla ? t->qk_rope_head_dim : t->qk_head_dim, first = mla ? t->kv_lora_rank : 0;
    int err = rotary_open(a, t->q_tokens, rope, t->context_len);

    for (int i = 0; !err && i < plan->num_batches; i++) {
        const struct plan_batch *b = &plan->batches[i];
        struct attention_shape before = shape_of(plan, b->first_token);
        size_t tokens = (size_t)b->first_token;
        struct attention_append_args append = {
            .shape = shape_of(plan, b->num_tokens),
            .rope = rope,
            .q_first = first,
            .k_first = first,
            .q_new = (char *)a->q_new + tokens * (size_t)(t->heads * rope) * 2,
            .kv_new = (char *)a->kv_new + tokens * (size_t)(before.kv_heads * before.kv_width) * 2,
            .rotary = a->rotary,
            .q = (char *)a->q + attention_q_bytes(&before),
            .kv = (char *)a->kv + attention_kv_bytes(&before)};

        a->batch[i].append = append;
        a->batch[i].out = (char *)a->core_out + attention_out_bytes(&before);
        err = kernels_attention_open(&a->batch[i].core, &append.shape);
    }
    return err;
}

struct operand {
    void **p;
    size_t bytes;
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int inputs_open(struct gpu_attn *a, const struct plan *plan, size_t rows, size_t widest)
{
    const struct plan_attn *t = &plan->attn;
    struct attention_shape all = shape_of(plan, a->tokens);
    size_t rope = (size_t)(t->kv_lora_rank ? t->qk_rope_head_dim : t->qk_head_dim);
    size_t hidden = (size_t)a->hidden, latents = (size_t)a->latents;
    const struct operand values[] = {
        {&a->q, attention_q_bytes(&all)},
        {&a->kv, attention_kv_bytes(&all)},
        {&a->q_new, rows * (size_t)t->heads * rope * 2},
        {&a->kv_new, rows * (size_t)(all.kv_heads * all.kv_width) * 2},
        {&a->core_out, larger(attention_out_bytes(&all), rows * widest * 2)},
        {&a->x, 2 * rows * hidden * 2},
        {&a->residual, 2 * rows * hidden * 2},
        {&a->latent, rows * latents * 2 + 16},
        {&a->weight, larger(hidden, latents) * 2},
    };
    void *table = NULL;
    int err = table_open(&table);

    for (size_t i = 0; !err && i < sizeof values / sizeof *values; i++)
        err = values_alloc(values[i].p, values[i].bytes, table);
    cudaFree(table);
    return err;
}

static int operands_open(struct gpu_attn *a, struct gpu_session *s, const struct plan *plan)
{
    size_t hidden = (size_t)a->hidden, rows = (size_t)a->tokens;
    size_t n = (size_t)gpu_attn_columns(plan_op_of_kind(plan, OP_ATTN_PROJ)->n);
    size_t heads = (size_t)plan_op_of_kind(plan, OP_ATTN_OUT)->k, widest = larger(hidden, heads);
    const struct operand results[] = {
        {&a->residual_out, 2 * rows * hidden * 2},
        {&a->normed, 2 * rows * hidden * 2},
        {&a->latent_out, rows * (size_t)a->latents * 2 + 16},
        {&a->projected, rows * n * 2},
        {&a->y, rows * hidden * 2},
        {&a->quantised, rows * widest},
        {(void **)&a->scales, rows * widest / 128 * sizeof *a->scales},
    };
    int err = inputs_open(a, plan, rows, widest);

    for (size_t i = 0; !err && i < sizeof results / sizeof *results; i++)
        err = gpu_alloc(results[i].p, results[i].bytes);
    if (!err)
        err = gpu_dense_values(s->layer, &a->w_proj, n * hidden * 2);
    if (!err)
        err = gpu_dense_values(s->layer, &a->w_out, hidden * heads * 2);
    return err ? err
               : gpu_dense_scales(s->layer, &a->weight_scales, larger(n, heads) * hidden / 16384);
}

/* The caches are what can be large: said before memory runs out. */
static int memory_check(const struct plan *plan, int tokens)
{
    struct attention_shape all = shape_of(plan, tokens);
    double need = (double)attention_kv_bytes(&all) + (double)attention_q_bytes(&all) +
                  (double)attention_out_bytes(&all) +
                  2 * (double)kernels_attention_scores_bytes(&all);
    size_t free_bytes = 0, total = 0;
    int err = GPU(cudaMemGetInfo(&free_bytes, &total));

    if (err || need < 0.9 * (double)free_bytes)
        return err;
    log_warn("%s: the KV caches of %d requests of %d tokens and their scores take %.1f GB, and the "
             "GPU has %.1f GB left",
             plan->policy, all.requests, attention_keys(&all), need / 1e9,
             (double)free_bytes / 1e9);
    return ERR_INFEASIBLE;
}

int gpu_attn_open(struct gpu_attn **out, struct gpu_session *s, const struct plan *plan)
{
    struct gpu_attn *a = *out = calloc(1, sizeof *a);
    int err = a ? 0 : ERR_NOMEM;

    if (!err) {
        a->tokens = plan->batches[0].routing->tokens;
        a->hidden = plan_op_of_kind(plan, OP_ATTN_OUT)->n;
        a->latents = plan->attn.kv_lora_rank ? plan->attn.q_lora_rank + plan->attn.kv_lora_rank : 0;
        a->num_batches = plan->num_batches;
        err = memory_check(plan, a->tokens);
    }
    err = gpu_agree(s, err);
    if (!err)
        err = operands_open(a, s, plan);
    if (!err)
        err = batches_open(a, plan);
    return gpu_agree(s, err);
}

void gpu_attn_close(struct gpu_attn *a)
{
    if (!a)
        return;
    void *all[] = {a->q,      a->kv,     a->q_new,         a->kv_new,       a->core_out,
                   a->rotary, a->x,      a->residual,      a->residual_out, a->normed,
                   a->weight, a->latent, a->latent_out,    a->quantised,    a->scales,
                   a->w_proj, a->w_out,  a->weight_scales, a->projected,    a->y};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cudaFree(all[i]);
    for (int i = 0; i < a->num_batches; i++)
        kernels_attention_close(a->batch[i].core);
    free(a);
}

static int quantise(struct gpu_attn *a, const struct plan_op *op, const void *in,
                    cudaStream_t stream)
{
    struct attention_quant_args q = {.ctas = op->sms,
                                     .rows = op->rows,
                                     .width = op->k,
                                     .in = in,
                                     .out = a->quantised,
                                     .scale = a->scales};

    return kernels_attention_quant_launch(&q, stream);
}

/* One dense product of BF16 rows, quantised first where the GEMM is FP8. */
static int product(struct gpu_attn *a, const struct plan_op *op, struct gpu_dense_entry *dense,
                   const void *rows, const void *weights, void *to, cudaStream_t stream)
{
    bool fp8 = dense->shape.dtype == GEMM_FP8;
    struct dense_gemm_args args = {.a = fp8 ? a->quantised : rows,
                                   .a_scale = a->scales,
                                   .b = weights,
                                   .b_scale = a->weight_scales,
                                   .c = to};
    int err = fp8 ? quantise(a, op, rows, stream) : 0;

    return err ? err : kernels_dense_gemm_launch(dense->gemm, &args, stream);
}

static int project(struct gpu_attn *a, const struct plan_op *op, struct gpu_dense_entry *dense,
                   cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct attention_append_args append = a->batch[op->batch].append;
    struct attention_norm_args norm = {.ctas = op->sms,
                                       .rows = 2 * op->rows,
                                       .width = a->hidden,
                                       .x = a->x,
                                       .residual = a->residual,
                                       .weight = a->weight,
                                       .residual_out = a->residual_out,
                                       .out = a->normed,
                                       .stamp = stamp};
    struct attention_norm_args latent = {.ctas = op->sms,
                                         .rows = op->rows,
                                         .width = a->latents,
                                         .x = a->latent,
                                         .weight = a->weight,
                                         .out = a->latent_out};
    int err = kernels_attention_norm_launch(&norm, stream);

    append.ctas = op->sms;
    append.stamp = stamp;
    if (!err && a->latents)
        err = kernels_attention_norm_launch(&latent, stream);
    if (!err && dense) /* without: a microbenchmark of the others alone */
        err = product(a, op, dense, a->normed, a->w_proj, a->projected, stream);
    return err ? err : kernels_attention_append_launch(&append, stream);
}

int gpu_attn_launch(struct gpu_attn *a, const struct plan_op *op, struct gpu_dense_entry *dense,
                    cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct gpu_attn_batch *b = &a->batch[op->batch];

    switch (op->kind) {
    case OP_ATTN_PROJ:
        return project(a, op, dense, stream, stamp);
    case OP_ATTN_CORE:
        return kernels_attention_launch(b->core, b->append.q, b->append.kv, b->out, stream);
    default:
        return product(a, op, dense, a->core_out, a->w_out, a->y, stream);
    }
}
