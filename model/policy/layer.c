#include "model/policy/layer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "model/attn.h"
#include "model/law/cost.h"

int layer_infeasible(char *why, size_t size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, size, fmt, ap);
    va_end(ap);
    return ERR_INFEASIBLE;
}

int layer_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size)
{
    const struct plan_comm_traits *comm = plan_comm_traits(spec->comm);
    const struct moe_model *m = spec->model;

    (void)k;
    if (comm->sms == COMM_SMS_HELD && spec->normal_num_sms > spec->num_sms)
        return layer_infeasible(why, size, "normal_num_sms %d is above the GPU's %d SMs",
                                spec->normal_num_sms, spec->num_sms);
    if (spec->attention && spec->attention_tp > 1 && spec->ranks % spec->attention_tp)
        return layer_infeasible(why, size, "attention.tp %d does not divide %d ranks",
                                spec->attention_tp, spec->ranks);
    if (spec->dense)
        return 0;
    if (comm->kernels == COMM_KERNELS_FUSED)
        return layer_infeasible(why, size, "comm %s is parts of a fused kernel: policy mega alone",
                                comm->text);
    if (comm->reach == COMM_REACH_NVLINK && spec->ranks > spec->ranks_per_node)
        return layer_infeasible(why, size,
                                "comm %s stores into its peers' memory: EP %d is more than the %d "
                                "GPUs of one NVLink domain",
                                comm->text, spec->ranks, spec->ranks_per_node);
    if (m->experts % spec->ranks)
        return layer_infeasible(why, size,
                                "%d experts are not divisible by EP %d (cluster.nodes times "
                                "cluster.gpus_per_node): placement.kind balanced with %d more "
                                "placement.redundant_experts makes it %d",
                                m->experts, spec->ranks, spec->ranks - m->experts % spec->ranks,
                                m->experts + spec->ranks - m->experts % spec->ranks);
    if (comm->buffers == COMM_BUFFERS_BOUND && spec->tokens > spec->max_dispatch_tokens)
        return layer_infeasible(why, size,
                                "batch %d is above max_dispatch_tokens %d of the low-latency "
                                "buffers",
                                spec->tokens, spec->max_dispatch_tokens);
    return 0;
}

static void attn_fill(struct plan_attn *a, const struct layer_spec *spec)
{
    const struct moe_model *m = spec->model;
    bool mla = m->attention == MOE_ATTN_MLA;
    int tp = spec->attention_tp > 0 ? spec->attention_tp : 1;

    a->heads = (m->heads + tp - 1) / tp;
    a->kv_heads = mla ? 1 : (m->kv_heads + tp - 1) / tp;
    a->qk_head_dim = mla ? m->qk_nope_head_dim + m->qk_rope_head_dim : m->head_dim;
    a->v_head_dim = mla ? m->v_head_dim : m->head_dim;
    a->kv_lora_rank = m->kv_lora_rank;
    a->qk_rope_head_dim = m->qk_rope_head_dim;
    a->q_lora_rank = m->q_lora_rank;
    a->engine = spec->attn_engine;
    a->kv_element_bytes = spec->kv_bytes_per_element;
    a->shape = attn_of_rank(&m->attn, tp);
    a->kv_bytes_per_token = (int)(attn_cache_elements(&a->shape, 1) * spec->kv_bytes_per_element);
    a->context_len = spec->context_len;
    a->q_tokens = spec->q_tokens > 0 ? spec->q_tokens : 1;
    a->tp = tp;
}

void layer_begin(struct layer_builder *b, const struct policy *policy,
                 const struct layer_spec *spec, const struct knobs *knobs, bool halves)
{
    int experts = spec->dense ? spec->ranks : spec->model->experts;
    int half = (spec->tokens + 1) / 2, batch;

    memset(b, 0, sizeof *b);
    b->spec = spec;
    b->knobs = knobs;
    b->sms_all = spec->num_sms;
    b->err = plan_new(&b->plan, spec->ranks, experts, spec->num_sms);
    if (b->err)
        return;
    snprintf(b->plan->policy, sizeof b->plan->policy, "%s", policy->name);
    b->plan->ranks_per_node = spec->ranks_per_node;
    b->plan->num_layers = spec->layers;
    b->plan->period_layers = spec->period_layers;
    attn_fill(&b->plan->attn, spec);
    batch = plan_batch_add(b->plan, spec->routing, 0, halves ? half : spec->tokens);
    if (batch >= 0 && halves)
        batch = plan_batch_add(b->plan, spec->routing, half, spec->tokens - half);
    b->err = batch < 0 ? batch : 0;
}

int layer_stream(struct layer_builder *b, const char *name, int priority)
{
    int s = b->err ? b->err : plan_stream_add(b->plan, name, priority);

    if (s < 0)
        b->err = s;
    return s;
}

int layer_finish(struct layer_builder *b, struct plan **out)
{
    if (!b->err)
        b->err = plan_check(b->plan);
    if (b->err) {
        plan_free(b->plan);
        b->plan = NULL;
        return b->err;
    }
    *out = b->plan;
    return 0;
}

void layer_also_after(struct layer_builder *b, int on, enum plan_dep_kind kind)
{
    if (!b->err)
        b->err = plan_dep_add(b->plan, on, kind);
}

static int add(struct layer_builder *b, struct plan_op *op, int after)
{
    int i;

    if (b->err)
        return -1;
    op->layer = b->layer;
    op->batch = b->batch;
    op->buffer = b->buffer;
    if (op->num_rounds < 1)
        op->num_rounds = 1;
    i = plan_op_add(b->plan, op);
    if (i < 0) {
        b->err = i;
        return -1;
    }
    layer_also_after(b, after, DEP_END);
    layer_also_after(b, b->inside - 1, DEP_PART);
    return b->err ? -1 : i;
}

static int add_flow(struct layer_builder *b, const struct plan_flow *flow)
{
    int i = b->err ? b->err : plan_flow_add(b->plan, flow);

    if (i < 0)
        b->err = i;
    return b->err;
}

static int tokens(const struct layer_builder *b)
{
    return b->err ? 0 : b->plan->batches[b->batch].num_tokens;
}

static enum plan_dtype part_dtype(const struct layer_builder *b, enum moe_part part)
{
    return b->spec->typed ? b->spec->part_dtype[part] : b->spec->gemm_dtype;
}

int layer_dense_op(struct layer_builder *b, enum plan_op_kind kind, enum moe_part part, int stream,
                   int sms, const int shape[3], int after)
{
    struct plan_op op = {.kind = kind,
                         .stream = stream,
                         .sms = sms,
                         .rows = shape[0],
                         .n = shape[1],
                         .k = shape[2],
                         .dtype = part_dtype(b, part),
                         .gemm = GEMM_DENSE};

    return add(b, &op, after);
}

static enum moe_part part_of(enum plan_op_kind kind)
{
    return kind == OP_ATTN_OUT                            ? MOE_ATTN_OUT
           : kind == OP_ATTN_PROJ || kind == OP_ATTN_CORE ? MOE_ATTN_IN
                                                          : MOE_HEAD;
}

static int add_dense(struct layer_builder *b, enum plan_op_kind kind, int stream, int sms, int rows,
                     int n, int k, int after)
{
    return layer_dense_op(b, kind, part_of(kind), stream, sms, (int[3]){rows, n, k}, after);
}

/* Width of everything that the projections in front of the core produce: those that do not start
 * from the hidden state (latents, low ranks) count as the width with as many weights from it, so
 * that n * k equals the weights read. */
static int attn_proj_width(const struct layer_builder *b)
{
    const struct attn_shape *s = &b->plan->attn.shape;

    return (int)(attn_params_in(s) / s->hidden + 1e-6);
}

static int attn_out_width(const struct layer_builder *b)
{
    const struct attn_shape *s = &b->plan->attn.shape;

    return (int)(attn_params_out(s) / s->hidden + 1e-6);
}

static int attn_rows(const struct layer_builder *b)
{
    return tokens(b) * b->plan->attn.tp;
}

int layer_attn_proj(struct layer_builder *b, int stream, int sms, int after)
{
    if (b->err)
        return -1;
    return add_dense(b, OP_ATTN_PROJ, stream, sms, attn_rows(b), attn_proj_width(b),
                     b->spec->model->hidden, after);
}

int layer_attn_core(struct layer_builder *b, int stream, int sms, int after)
{
    if (b->err)
        return -1;
    add_dense(b, OP_ATTN_CORE, stream, sms, attn_rows(b), 0, 0, after);
    return add_dense(b, OP_ATTN_OUT, stream, sms, attn_rows(b), b->spec->model->hidden,
                     attn_out_width(b), -1);
}

int layer_attention(struct layer_builder *b, int stream, int sms, int after)
{
    layer_attn_proj(b, stream, sms, after);
    return layer_attn_core(b, stream, sms, -1);
}

static int latent_down(struct layer_builder *b, int stream, int sms, int router)
{
    const struct moe_model *m = b->spec->model;

    if (m->expert_hidden == m->hidden || m->expert_hidden == 0)
        return router;
    return layer_dense_op(b, OP_MLP_UP, MOE_HEAD, stream, sms,
                          (int[3]){tokens(b), m->expert_hidden, m->hidden}, -1);
}

int layer_latent_up(struct layer_builder *b, int stream, int sms, int after)
{
    const struct moe_model *m = b->spec->model;

    if (m->expert_hidden == m->hidden || m->expert_hidden == 0)
        return after;
    return layer_dense_op(b, OP_MLP_DOWN, MOE_HEAD, stream, sms,
                          (int[3]){tokens(b), m->hidden, m->expert_hidden}, after);
}

int layer_router(struct layer_builder *b, int stream, int sms, int after)
{
    const struct moe_model *m = b->spec->model;
    int experts =
        (b->spec->router_experts ? b->spec->router_experts : m->experts) + m->zero_experts;
    int op =
        add_dense(b, OP_ROUTER, stream, sms, tokens(b), experts, b->spec->model->hidden, after);

    if (op >= 0) /* the gate stays in BF16 whatever the experts' type */
        b->plan->ops[op].dtype = DTYPE_BF16;
    return latent_down(b, stream, sms, op);
}

static int add_mlp(struct layer_builder *b, enum moe_part part, int stream, int sms, int inter,
                   int after)
{
    const struct moe_model *m = b->spec->model;
    int rows = tokens(b), up = (m->matrices == 2 ? 1 : 2) * inter;

    layer_dense_op(b, OP_MLP_UP, part, stream, sms, (int[3]){rows, up, m->hidden}, after);
    layer_dense_op(b, OP_MLP_ACT, part, stream, sms, (int[3]){rows, inter, 0}, -1);
    return layer_dense_op(b, OP_MLP_DOWN, part, stream, sms, (int[3]){rows, m->hidden, inter}, -1);
}

int layer_shared(struct layer_builder *b, int stream, int sms, int after)
{
    const struct moe_model *m = b->spec->model;
    int last = -1;

    if (m->shared_inter)
        last = add_mlp(b, MOE_SHARED, stream, sms, m->shared_inter, after);
    if (m->beside_inter)
        last = add_mlp(b, MOE_DENSE, stream, sms, m->beside_inter, last < 0 ? after : -1);
    return last;
}

int layer_dense_mlp(struct layer_builder *b, int stream, int sms, int after)
{
    if (!b->spec->model->dense_inter)
        return -1;
    return add_mlp(b, MOE_DENSE, stream, sms, b->spec->model->dense_inter, after);
}

int layer_embedding(struct layer_builder *b, int stream, int sms, int after)
{
    /* SiLU*mul moves 6 bytes a channel in BF16; a look-up reads and writes 4. */
    struct plan_op op = {.kind = OP_MLP_ACT,
                         .stream = stream,
                         .sms = sms,
                         .rows = tokens(b),
                         .n = b->spec->model->hidden * 2 / 3,
                         .dtype = DTYPE_BF16};

    return add(b, &op, after);
}

int layer_lm_head(struct layer_builder *b, int stream, int sms, int rows, int after)
{
    int tp = b->err ? 1 : b->plan->attn.tp;
    struct plan_op op = {.kind = OP_LM_HEAD,
                         .stream = stream,
                         .sms = sms,
                         .rows = rows * tp,
                         .n = (b->spec->model->vocab + tp - 1) / tp,
                         .k = b->spec->model->hidden,
                         .dtype = DTYPE_BF16,
                         .gemm = GEMM_DENSE};

    return add(b, &op, after);
}

static const struct plan_comm_traits *comm_of(const struct layer_builder *b)
{
    return plan_comm_traits(b->spec->comm);
}

static bool is_a2a(const struct layer_builder *b)
{
    return comm_of(b)->kernels == COMM_KERNELS_A2A;
}

/* Models made by hand in tests do not say it. */
static int expert_hidden(const struct moe_model *m)
{
    return m->expert_hidden ? m->expert_hidden : m->hidden;
}

static int message_bytes(const struct layer_spec *spec, enum plan_flow_dir dir,
                         enum plan_dtype dtype)
{
    if (plan_comm_traits(spec->comm)->message == COMM_MESSAGE_ROW)
        return cost_message_bytes(dir, dtype, expert_hidden(spec->model));
    return cost_copy_bytes(dir, dtype, expert_hidden(spec->model), spec->model->topk);
}

static struct plan_op comm_op(const struct layer_builder *b, enum plan_op_kind kind,
                              struct layer_round r, int stream, int sms)
{
    int local = b->spec->model->experts / b->spec->ranks, each = local / r.num_rounds;
    bool back = plan_op_traits(kind)->part == PLAN_PART_COMBINE;

    return (struct plan_op){
        .kind = kind,
        .stream = stream,
        .sms = sms,
        .cooperative = true,
        .round = r.round,
        .num_rounds = r.num_rounds,
        .first_expert = b->part_num ? b->part_first : r.round * each,
        .num_experts = b->part_num ? b->part_num : each,
        .n = b->spec->model->hidden,
        .dtype = back ? b->spec->combine_dtype : b->spec->dispatch_dtype,
        .comm = b->spec->comm,
    };
}

/* The flow group of a sending op; recv_op may still be -1 (set when the receive is added). */
static void flow_of(struct layer_builder *b, int send_op, int recv_op)
{
    const struct plan_op *o;
    struct plan_flow f = {.send_op = send_op, .recv_op = recv_op};

    if (b->err)
        return;
    o = &b->plan->ops[send_op];
    f.dir = plan_op_dir(o->kind);
    f.dedup = f.dir == FLOW_COMBINE ? comm_of(b)->back : comm_of(b)->dedup;
    f.batch = o->batch;
    f.first_expert = o->first_expert;
    f.num_experts = o->num_experts;
    f.bytes_per_row = message_bytes(b->spec, f.dir, o->dtype);
    f.bytes_per_flag = comm_of(b)->flag_bytes;
    add_flow(b, &f);
}

static const struct layer_round whole = {0, 1};

static int add_fused(struct layer_builder *b, enum plan_op_kind kind, struct layer_round r,
                     int stream, int sms, int after)
{
    struct plan_op op = comm_op(b, kind, r, stream, sms);
    int i = add(b, &op, after);

    flow_of(b, i, i);
    return i;
}

int layer_dispatch(struct layer_builder *b, int stream, int sms, int after)
{
    enum plan_op_kind kind = is_a2a(b) ? OP_A2A_DISPATCH : OP_DISPATCH;

    return add_fused(b, kind, whole, stream, sms, after);
}

int layer_combine(struct layer_builder *b, int stream, int sms, int after)
{
    enum plan_op_kind kind = is_a2a(b) ? OP_A2A_COMBINE : OP_COMBINE;

    return add_fused(b, kind, whole, stream, sms, after);
}

int layer_a2a_dispatch(struct layer_builder *b, struct layer_round r, int stream, int sms,
                       int after)
{
    return add_fused(b, OP_A2A_DISPATCH, r, stream, sms, after);
}

int layer_a2a_combine(struct layer_builder *b, struct layer_round r, int stream, int sms, int after)
{
    return add_fused(b, OP_A2A_COMBINE, r, stream, sms, after);
}

int layer_dispatch_send(struct layer_builder *b, struct layer_round r, int stream, int sms,
                        int after)
{
    struct plan_op op = comm_op(b, OP_DISPATCH_SEND, r, stream, sms);

    return add(b, &op, after);
}

int layer_dispatch_recv(struct layer_builder *b, struct layer_round r, int stream, int sms,
                        int send_op, int after)
{
    struct plan_op op = comm_op(b, OP_DISPATCH_RECV, r, stream, sms);
    int i = add(b, &op, after);

    flow_of(b, send_op, i);
    return i;
}

int layer_combine_send(struct layer_builder *b, struct layer_round r, int stream, int sms,
                       int after)
{
    struct plan_op op = comm_op(b, OP_COMBINE_SEND, r, stream, sms);

    return add(b, &op, after);
}

int layer_combine_recv(struct layer_builder *b, int stream, int sms, const int *send_ops, int n,
                       int after)
{
    struct plan_op op = comm_op(b, OP_COMBINE_RECV, whole, stream, sms);
    int i = add(b, &op, after);

    for (int j = 0; j < n; j++)
        flow_of(b, send_ops[j], i);
    return i;
}

int layer_fused(struct layer_builder *b, int stream, int sms, int after)
{
    struct plan_op op = {.kind = OP_FUSED, .stream = stream, .sms = sms, .cooperative = true};
    int i;

    layer_fused_end(b);
    i = add(b, &op, after);
    b->inside = i + 1;
    return i;
}

void layer_fused_end(struct layer_builder *b)
{
    b->inside = 0;
}

/* Of experts that need not be an even share. */
static struct plan_op part_op(const struct layer_builder *b, enum plan_op_kind kind,
                              struct layer_experts e, int lane, int sms)
{
    struct plan_op op = comm_op(b, kind, whole, lane, sms);

    op.cooperative = false;
    op.round = e.round;
    op.num_rounds = e.num_rounds;
    op.first_expert = e.first;
    op.num_experts = e.num;
    return op;
}

int layer_part_dispatch(struct layer_builder *b, struct layer_experts e, int lane, int sms,
                        int block_m, int block_n)
{
    struct plan_op op = part_op(b, OP_DISPATCH, e, lane, sms);
    int i;

    op.block_m = block_m;
    op.block_n = block_n;
    i = add(b, &op, -1);
    flow_of(b, i, i);
    return i;
}

int layer_part_gemm(struct layer_builder *b, enum plan_op_kind kind, struct layer_experts e,
                    int lane, int rows_op, int after)
{
    const struct moe_model *m = b->spec->model;
    struct plan_op op = part_op(b, kind, e, lane, b->sms_all);
    bool up = kind == OP_GEMM_UP;
    int i;

    if (b->err)
        return -1;
    op.dtype = part_dtype(b, MOE_EXPERTS);
    op.n = up ? 2 * m->inter : expert_hidden(m);
    op.k = up ? expert_hidden(m) : m->inter;
    op.gemm = GEMM_FUSED;
    op.block_m = b->plan->ops[rows_op].block_m;
    op.block_n = b->plan->ops[rows_op].block_n;
    i = add(b, &op, after);
    if (up)
        layer_also_after(b, rows_op, DEP_UNIT);
    return i;
}

int layer_part_store(struct layer_builder *b, struct layer_experts e, int lane, int down, int after)
{
    struct plan_op op = part_op(b, OP_COMBINE_SEND, e, lane, b->sms_all);
    int i;

    if (b->err)
        return -1;
    op.block_m = b->plan->ops[down].block_m;
    op.block_n = b->plan->ops[down].block_n;
    i = add(b, &op, after);
    layer_also_after(b, down, DEP_UNIT);
    return i;
}

static struct plan_op expert_op(const struct layer_builder *b, enum plan_op_kind kind,
                                struct layer_round r, int stream, int sms)
{
    struct plan_op op = comm_op(b, kind, r, stream, sms);

    op.cooperative = false;
    op.dtype = part_dtype(b, MOE_EXPERTS);
    return op;
}

/* Permute (dispatch payload) or un-permute (BF16) of a round's rows. */
static struct plan_op permute_op(const struct layer_builder *b, enum plan_op_kind kind,
                                 struct layer_round r, int stream, int sms)
{
    struct plan_op op = expert_op(b, kind, r, stream, sms);

    op.n = expert_hidden(b->spec->model);
    op.dtype = kind == OP_PERMUTE ? b->spec->dispatch_dtype : DTYPE_BF16;
    return op;
}

static int expert_gemms(struct layer_builder *b, struct layer_round r, int stream,
                        const struct layer_ffn *f, int after, int also_after)
{
    const struct moe_model *m = b->spec->model;
    int inter = m->inter, hidden = expert_hidden(m);
    struct plan_op up = expert_op(b, OP_GEMM_UP, r, stream, f->up_sms);
    struct plan_op act = expert_op(b, OP_ACT_QUANT, r, stream, f->act_sms);
    struct plan_op down = expert_op(b, OP_GEMM_DOWN, r, stream, f->down_sms);

    up.n = (m->matrices == 2 ? 1 : 2) * inter;
    up.k = hidden;
    up.gemm = f->up_gemm;
    act.n = inter;
    down.n = hidden;
    down.k = inter;
    down.gemm = f->down_gemm;
    down.block_m = f->block_m;
    down.block_n = f->block_n;
    add(b, &up, after);
    layer_also_after(b, also_after, DEP_END);
    add(b, &act, -1);
    return add(b, &down, -1);
}

int layer_experts(struct layer_builder *b, int stream, int sms, int tokens_seen, int shared_n,
                  int after)
{
    struct plan_op op = expert_op(b, OP_EXPERTS, whole, stream, sms);

    op.rows = tokens_seen;
    op.shared_n = shared_n;
    op.chosen_among = b->spec->router_experts;
    op.n = b->spec->model->inter;
    op.k = expert_hidden(b->spec->model);
    return add(b, &op, after);
}

int layer_ffn(struct layer_builder *b, struct layer_round r, int stream, const struct layer_ffn *f,
              int after, int also_after)
{
    struct plan_op in = permute_op(b, OP_PERMUTE, r, stream, f->act_sms);
    struct plan_op out = permute_op(b, OP_UNPERMUTE, r, stream, f->act_sms);

    if (comm_of(b)->rows != COMM_ROWS_COPIES)
        return expert_gemms(b, r, stream, f, after, also_after);
    add(b, &in, after);
    layer_also_after(b, also_after, DEP_END);
    expert_gemms(b, r, stream, f, -1, -1);
    return add(b, &out, -1);
}

int layer_collective_over(struct layer_builder *b, enum plan_op_kind kind, int stream, int sms,
                          int64_t bytes, int ranks, int after)
{
    struct plan_op op = {.kind = kind,
                         .stream = stream,
                         .sms = sms,
                         .coll_bytes = bytes,
                         .coll_ranks = ranks,
                         .dtype = DTYPE_BF16,
                         .cooperative = true,
                         .comm = COMM_NCCL};

    return add(b, &op, after);
}

int layer_collective(struct layer_builder *b, enum plan_op_kind kind, int stream, int sms,
                     int64_t bytes, int after)
{
    return layer_collective_over(b, kind, stream, sms, bytes, b->spec->attention_tp, after);
}

int layer_comm_all(const struct layer_builder *b)
{
    bool held = comm_of(b)->sms == COMM_SMS_HELD;

    return held && b->spec->normal_num_sms < b->sms_all ? b->spec->normal_num_sms : b->sms_all;
}

enum plan_gemm layer_default_gemm(const struct layer_spec *spec)
{
    return plan_comm_traits(spec->comm)->rows == COMM_ROWS_PACKED ? GEMM_MASKED : GEMM_CONTIGUOUS;
}

/* With tensor-parallel attention every rank of the group ends with all the group's tokens, partly
 * summed: a reduce-scatter gives each rank its own tokens before the experts, and an all-gather
 * returns them all afterwards. */
int64_t layer_tp_bytes(const struct layer_builder *b)
{
    return (int64_t)tokens(b) * b->spec->attention_tp * b->spec->model->hidden * 2;
}

int layer_head(struct layer_builder *b, int stream, int sms, int after)
{
    int last;

    if (b->spec->attention) {
        layer_attention(b, stream, sms, after);
        after = -1;
        if (b->spec->attention_tp > 1)
            last = layer_collective(b, OP_REDUCE_SCATTER, stream, layer_comm_all(b),
                                    layer_tp_bytes(b), -1);
    }
    last = layer_router(b, stream, sms, after);
    if (b->knobs->shared_expert == SHARED_BEFORE_DISPATCH && layer_has_shared(b->spec))
        last = layer_shared(b, stream, sms, -1);
    return last;
}

void layer_tail(struct layer_builder *b, int stream, int sms)
{
    layer_latent_up(b, stream, sms, -1);
    if (b->knobs->shared_expert == SHARED_AFTER_COMBINE)
        layer_shared(b, stream, sms, -1);
    if (b->spec->attention && b->spec->attention_tp > 1)
        layer_collective(b, OP_ALL_GATHER, stream, layer_comm_all(b), layer_tp_bytes(b), -1);
}
