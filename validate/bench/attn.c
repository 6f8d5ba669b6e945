/* validate/bench/attn.c: microbenchmarks of attention. Lines:
 *
 *   attn_core   rows = query tokens, tokens = keys each attends to, groups = heads, k and n =
 *               widths of a key and a value as computed, bytes = KV cache read
 *
 *   attn_side   rows = query tokens, bytes = what the norms, the rotary embedding and the cache
 *               write move; with the gaps between these kernels
 *
 * The projections are library GEMMs like any other. */
#include "base/err.h"
#include "validate/gpu_attn.h"
#include "validate/bench/bench.h"

#define ATTN_CHAIN 10

struct attn_model {
    int hidden, proj_n, out_k;
    struct plan_attn attn;
};

/* DeepSeek-V3 (latent cache), Qwen3-235B (grouped queries). */
static const struct attn_model models[] = {
    {7168,
     9718,
     16384,
     {.heads = 128,
      .kv_heads = 1,
      .qk_head_dim = 192,
      .v_head_dim = 128,
      .kv_lora_rank = 512,
      .qk_rope_head_dim = 64,
      .q_lora_rank = 1536,
      .kv_bytes_per_token = 1152,
      .q_tokens = 1,
      .tp = 1}},
    {4096,
     9216,
     8192,
     {.heads = 64,
      .kv_heads = 4,
      .qk_head_dim = 128,
      .v_head_dim = 128,
      .kv_bytes_per_token = 2048,
      .q_tokens = 1,
      .tp = 1}},
};

struct attn_launch {
    struct gpu_attn *a;
    struct plan_op op;
};

static int launch_attn(void *self, cudaStream_t stream)
{
    struct attn_launch *l = self;

    return gpu_attn_launch(l->a, &l->op, NULL, stream, NULL);
}

static int core_point(struct bench *b, struct attn_launch *l)
{
    const struct attention_shape *s = &l->a->batch[0].append.shape;
    struct bench_row row = {.kind = "attn_core",
                            .dtype = "bf16",
                            .num_sms = s->num_sms,
                            .tokens = attention_keys(s),
                            .rows = s->requests,
                            .groups = s->heads,
                            .n = s->v_dim,
                            .k = s->qk_dim,
                            .bytes = (double)s->requests * attention_keys(s) * s->kv_heads *
                                     s->kv_width * 2};
    double us[BENCH_REPS];
    int err;

    l->op.kind = OP_ATTN_CORE;
    err = bench_chain_time(b, &(struct bench_chain){launch_attn, l, ATTN_CHAIN}, us);
    for (int i = 0; i < BENCH_REPS; i++)
        us[i] -= b->s->gap_ns * 1e-3;
    return err ? err : bench_report(b, &row, us, BENCH_REPS);
}

/* Bytes as the kernels move them: two norms with their residual, the latents' norm, the rotated
 * queries, the new rows of the cache. */
static double side_bytes(const struct gpu_attn *a)
{
    const struct attention_append_args *p = &a->batch[0].append;

    return (double)p->shape.requests *
           (16.0 * a->hidden + 4.0 * a->latents + 4.0 * p->shape.heads * p->rope +
            4.0 * p->shape.kv_heads * p->shape.kv_width);
}

static int side_point(struct bench *b, struct attn_launch *l)
{
    struct bench_row row = {.kind = "attn_side",
                            .dtype = "bf16",
                            .num_sms = l->op.sms,
                            .rows = l->op.rows,
                            .hidden = l->a->hidden,
                            .bytes = side_bytes(l->a)};
    double us[BENCH_REPS];
    int err;

    l->op.kind = OP_ATTN_PROJ;
    err = bench_chain_time(b, &(struct bench_chain){launch_attn, l, ATTN_CHAIN}, us);
    return err ? err : bench_report(b, &row, us, BENCH_REPS);
}

static int attention_point(struct bench *b, const struct attn_model *m, int rows, int context,
                           bool side)
{
    struct plan_routing routing = {.ranks = 1, .tokens = rows};
    struct plan_batch batch = {.routing = &routing, .num_tokens = rows};
    struct plan_op ops[] = {{.kind = OP_ATTN_PROJ, .n = m->proj_n, .k = m->hidden},
                            {.kind = OP_ATTN_OUT, .n = m->hidden, .k = m->out_k}};
    struct plan plan = {.policy = "microbench",
                        .num_sms = b->s->sm_count,
                        .attn = m->attn,
                        .ops = ops,
                        .num_ops = 2,
                        .batches = &batch,
                        .num_batches = 1};
    struct attn_launch l = {.op = {.sms = b->s->sm_count, .rows = rows}};
    int err;

    plan.attn.context_len = context;
    err = gpu_attn_open(&l.a, b->s, &plan);
    if (!err)
        err = core_point(b, &l);
    if (!err && side)
        err = side_point(b, &l);
    gpu_drain(b->s, "the memory of attention goes");
    gpu_attn_close(l.a);
    return err == ERR_INFEASIBLE ? 0 : err; /* said so: the cache is too large beside the rest */
}

int bench_attention(struct bench *b)
{
    static const int rows[] = {16, 32, 64, 128, 256}, contexts[] = {512, 2048, 8192};
    /* A small layer: the projections' weights take its values. */
    struct gpu_shape shape = {.vranks = b->s->ranks,
                              .experts = 8 * b->s->ranks,
                              .hidden = 7168,
                              .inter = 2048,
                              .topk = 8,
                              .max_tokens = 16,
                              .fp8 = true};
    int err = gpu_layer_open(b->s, &shape, 1);

    for (size_t m = 0; !err && m < (b->quick ? 1 : sizeof models / sizeof *models); m++)
        for (int i = 0; !err && i < (b->quick ? 2 : 5); i++)
            for (int c = 0; !err && c < (b->quick ? 1 : 3); c++)
                err = attention_point(b, &models[m], rows[i], contexts[c], c == 0);
    return err;
}
