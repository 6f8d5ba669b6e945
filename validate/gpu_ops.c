/* validate/gpu_ops.c: which kernel an op of the plan is, and its arguments. */
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "kernels/dedup.h"
#include "kernels/grouped_gemm.h"
#include "kernels/silu_mul_quant.h"
#include "kernels/topk.h"
#include "validate/gpu_backend.h"

static enum gemm_dtype dtype_of(const struct plan_op *o)
{
    return o->dtype == DTYPE_FP8 ? GEMM_FP8 : GEMM_BF16;
}

bool run_op_is_library(const struct plan_op *op)
{
    return op->kind == OP_ROUTER || op->kind == OP_MLP_UP || op->kind == OP_MLP_DOWN ||
           op->kind == OP_ATTN_CORE || op->kind == OP_ATTN_OUT;
}

bool run_op_ends_stamped(const struct plan_op *op)
{
    return op->kind == OP_ROUTER;
}

static int refuse(const struct gpu_run *r, int op, const char *why)
{
    char label[64];

    plan_op_label(r->plan, op, label, sizeof label);
    if (r->s->rank == 0)
        log_warn("%s, %s: %s", r->plan->policy, label, why);
    return ERR_UNSUPPORTED;
}

bool run_op_has_dense(const struct plan_op *op)
{
    return op->kind == OP_ROUTER || op->kind == OP_MLP_UP || op->kind == OP_MLP_DOWN ||
           op->kind == OP_ATTN_PROJ || op->kind == OP_ATTN_OUT;
}

/* The grid of a communication kernel follows from experts and SMs; some are not possible. */
static int comm_check(struct gpu_run *r, int op)
{
    const struct plan_op *o = &r->plan->ops[op];
    struct kernels_grid grid;
    bool recv = plan_op_recvs(o->kind);
    int rounds = o->kind == OP_COMBINE_RECV ? 1 : o->num_rounds, err;

    if (o->dtype != DTYPE_BF16 && o->dtype != DTYPE_FP8)
        return refuse(r, op, "there is no kernel for this message type");
    if (r->op[op].follows)
        return 0;
    err = kernels_comm_grid(r->plan->experts / rounds, o->sms, recv, &grid);
    if (err && r->s->rank == 0)
        log_warn("%s: %d experts a round on %d SMs need more warp groups than a CTA has",
                 r->plan->policy, r->plan->experts / rounds, o->sms);
    return err;
}

/* One kernel each way, of one round. */
static int dedup_check(struct gpu_run *r, int op)
{
    const struct plan_op *o = &r->plan->ops[op];

    if ((o->kind != OP_DISPATCH && o->kind != OP_COMBINE) || o->num_rounds > 1)
        return refuse(r, op, "the exchange of one row per token and rank has no parts");
    return o->dtype == DTYPE_BF16 || o->dtype == DTYPE_FP8
               ? 0
               : refuse(r, op, "there is no kernel for this message type");
}

/* Library all-to-alls between kernels of ours. */
static int a2a_check(struct gpu_run *r, int op)
{
    const struct plan_op *o = &r->plan->ops[op];
    bool rows = o->kind == OP_PERMUTE || o->kind == OP_UNPERMUTE;
    bool back = o->kind == OP_COMBINE || o->kind == OP_A2A_COMBINE;

    if (r->hidden % 512)
        return refuse(r, op, "hidden must be a multiple of 512");
    if ((back && o->dtype != DTYPE_BF16) || o->dtype == DTYPE_LOGFMT10)
        return refuse(r, op, "there is no kernel for this message type");
    if (r->o->pace_GBps > 0)
        return refuse(r, op, "library all-to-alls cannot be paced");
    if (!rows && o->comm == COMM_NORMAL && r->plan->ranks_per_node < r->plan->ranks)
        return refuse(r, op, "copies that a rank forwards inside its node have no kernel");
    return 0;
}

bool run_has_a2a(const struct plan *plan)
{
    for (int i = 0; i < plan->num_ops; i++)
        if (gpu_a2a_is(&plan->ops[i]))
            return true;
    return false;
}

static int experts_check(struct gpu_run *r, int op)
{
    if (r->plan->ops[op].gemm != GEMM_DENSE || run_has_a2a(r->plan))
        return 0;
    return refuse(r, op, "one GEMM per expert needs rows that the host knows: library all-to-alls");
}

int run_op_check(struct gpu_run *r, int op)
{
    const struct plan_op *o = &r->plan->ops[op];

    if (gpu_a2a_is(o))
        return a2a_check(r, op);
    if (plan_op_sends(o->kind) && o->comm == COMM_DEDUP)
        return dedup_check(r, op);
    switch (o->kind) {
    case OP_DISPATCH:
    case OP_DISPATCH_SEND:
    case OP_DISPATCH_RECV:
    case OP_COMBINE:
    case OP_COMBINE_SEND:
    case OP_COMBINE_RECV:
        if (o->comm != COMM_LOW_LATENCY)
            return refuse(r, op, "normal kernels are not built in two parts");
        return comm_check(r, op);
    case OP_GEMM_UP:
    case OP_GEMM_DOWN:
        return experts_check(r, op);
    case OP_ROUTER:
        return o->n > TOPK_MAX_EXPERTS
                   ? refuse(r, op, "more experts than the router's kernel knows")
                   : 0;
    case OP_ACT_QUANT:
    case OP_MLP_UP:
    case OP_MLP_ACT:
    case OP_MLP_DOWN:
    case OP_ATTN_PROJ:
    case OP_ATTN_CORE:
    case OP_ATTN_OUT:
        return 0;
    default:
        return refuse(r, op, "the GPU back end has no kernel for this kind of op");
    }
}

/* Other delays in every op. */
static struct kernels_delay delay_of(const struct gpu_run *r, const struct plan_op *op)
{
    return (struct kernels_delay){.max_ns = (unsigned int)(r->o->delay_us * 1e3),
                                  .seed = (unsigned int)(op - r->plan->ops) * 2654435761u};
}

static struct dispatch_args dispatch_args_of(struct gpu_run *r, int op, struct kernel_stamp *stamp)
{
    const struct plan_op *o = &r->plan->ops[op];
    struct gpu_layer *l = r->s->layer;
    struct gpu_half *h = &l->half[o->buffer];
    const struct plan_batch *b = &r->plan->batches[o->batch];
    size_t first = (size_t)b->first_token;

    return (struct dispatch_args){
        .comm = l->comm,
        .parity = o->buffer,
        .round = o->round,
        .rounds = o->num_rounds,
        .num_sms = o->sms,
        .tokens = b->num_tokens,
        .x = (const char *)l->x + first * (size_t)r->hidden * 2,
        .topk_idx = l->topk_idx + first * (size_t)r->topk,
        .topk_idx_bytes = 4,
        .topk_weights = l->topk_weights + first * (size_t)r->topk,
        .packed_x = h->packed_x,
        .packed_scales = h->packed_scales,
        .scale_row = r->hidden / 128,
        .scale_group = 1,
        .sources = h->sources,
        .rows = h->rows,
        .segments = h->segments,
        .hot_rows = r->op[op].hot_rows,
        .pacing = r->pacing,
        .delay = delay_of(r, o),
        .stamp = stamp,
    };
}

static struct combine_args combine_args_of(struct gpu_run *r, int op, struct kernel_stamp *stamp)
{
    struct gpu_layer *l = r->s->layer;
    const struct plan_op *o = &r->plan->ops[op];
    struct gpu_half *h = &l->half[o->buffer];
    const struct plan_batch *b = &r->plan->batches[o->batch];
    size_t first = (size_t)b->first_token;
    struct combine_args a = {
        .comm = l->comm,
        .parity = o->buffer,
        .round = o->round,
        .rounds = o->num_rounds,
        .num_sms = o->sms,
        .y_packed = h->y_packed,
        .sources = h->sources,
        .rows = h->rows,
        .segments = h->segments,
        .tokens = b->num_tokens,
        .topk_idx = l->topk_idx + first * (size_t)r->topk,
        .topk_idx_bytes = 4,
        .topk_weights = l->topk_weights + first * (size_t)r->topk,
        .y = (char *)gpu_output_of(l, o->layer) + first * (size_t)r->hidden * 2,
        .pacing = r->pacing,
        .delay = delay_of(r, o),
        .stamp = stamp,
    };

    if (r->op[op].follows) {
        a.units = h->units;
        a.block_m = o->block_m;
        a.units_per_expert = (l->slots.rows_max + o->block_m - 1) / o->block_m;
        a.tiles_per_unit = r->hidden / GROUPED_GEMM_BLOCK_N;
    }
    return a;
}

static int launch_comm(struct gpu_run *r, int op, cudaStream_t stream, struct kernel_stamp *stamp)
{
    const struct plan_op *o = &r->plan->ops[op];
    struct dispatch_args d = dispatch_args_of(r, op, stamp);
    struct combine_args c = combine_args_of(r, op, stamp);

    if (o->comm == COMM_DEDUP)
        return o->kind == OP_DISPATCH ? kernels_dedup_dispatch_launch(&d, stream)
                                      : kernels_dedup_combine_launch(&c, stream);
    switch (o->kind) {
    case OP_DISPATCH:
        return kernels_dispatch_fused_launch(&d, stream);
    case OP_DISPATCH_SEND:
        return kernels_dispatch_send_launch(&d, stream);
    case OP_DISPATCH_RECV:
        return kernels_dispatch_recv_launch(&d, stream);
    case OP_COMBINE:
        return kernels_combine_fused_launch(&c, stream);
    case OP_COMBINE_SEND:
        return kernels_combine_send_launch(&c, stream);
    default:
        return kernels_combine_recv_launch(&c, stream);
    }
}

static int launch_expert_gemm(struct gpu_run *r, int op, cudaStream_t stream,
                              struct kernel_stamp *stamp)
{
    struct gpu_layer *l = r->s->layer;
    const struct plan_op *o = &r->plan->ops[op];
    struct gpu_half *h = &l->half[o->buffer];
    bool up = o->kind == OP_GEMM_UP;
    int max_rows = l->slots.rows_max;
    struct grouped_gemm_args a = {
        .dtype = dtype_of(o),
        .num_experts = r->plan->experts_per_rank,
        .first_expert = o->first_expert,
        .expert_count = o->num_experts,
        .max_rows = max_rows,
        .n = o->n,
        .k = o->k,
        .num_sms = o->sms,
        .block_m = r->op[op].signals ? o->block_m : 0,
        .rows_each = r->op[op].rows_each,
        .a = up ? h->packed_x : h->act,
        .a_scale = up ? h->packed_scales : h->act_scales,
        .a_scale_row_stride = up ? o->k / 128 : 1,
        .a_scale_k_stride = up ? 1 : max_rows,
        .b = up ? l->w_up : l->w_down,
        .b_scale = up ? l->w_up_scales : l->w_down_scales,
        .c = up ? h->gate_up : h->y_packed,
        .rows = h->rows,
        .tile_done = r->op[op].signals ? (int *)h->units : NULL,
        .stamp = stamp,
    };

    if (r->op[op].experts)
        return gpu_experts_launch(r->op[op].experts, r->s, o->buffer, stream, stamp);
    return kernels_grouped_gemm_launch(&a, stream);
}

static int launch_act(struct gpu_run *r, int op, cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct gpu_layer *l = r->s->layer;
    const struct plan_op *o = &r->plan->ops[op];
    struct gpu_half *h = &l->half[o->buffer];
    struct silu_mul_quant_args a = {
        .dtype = dtype_of(o),
        .num_experts = r->plan->experts_per_rank,
        .first_expert = o->first_expert,
        .expert_count = o->num_experts,
        .max_rows = l->slots.rows_max,
        .inter = o->n,
        .num_sms = o->sms,
        .in = h->gate_up,
        .out = h->act,
        .scale = h->act_scales,
        .scale_row_stride = 1,
        .scale_k_stride = l->slots.rows_max,
        .scale_k_strides =
            r->act_strides ? r->act_strides + o->batch * r->plan->experts_per_rank : NULL,
        .rows = h->rows,
        .stamp = stamp,
    };

    return kernels_silu_mul_quant_launch(&a, stream);
}

/* Its choices are measured but not used: those of the plan are. */
static int launch_topk(struct gpu_run *r, int op, cudaStream_t stream, struct kernel_stamp *stamp)
{
    const struct gpu_dense_memory *d = &r->s->layer->dense;
    const struct plan_op *o = &r->plan->ops[op];
    struct topk_args a = {.score = TOPK_SOFTMAX,
                          .tokens = o->rows,
                          .experts = o->n,
                          .stride = gpu_router_width(o->n),
                          .k = r->topk,
                          .num_sms = o->sms,
                          .logits = d->logits,
                          .index = d->choices,
                          .weight = d->choice_weights,
                          .stamp = stamp};

    return kernels_topk_launch(&a, stream);
}

/* Router: the gate's GEMM, in BF16, before the top-k. Shared expert: its input stands quantised in
 * memory, so no kernel casts it. */
static int launch_dense(struct gpu_run *r, int op, cudaStream_t stream)
{
    const struct gpu_dense_memory *d = &r->s->layer->dense;
    const struct plan_op *o = &r->plan->ops[op];
    bool up = o->kind == OP_MLP_UP;
    struct dense_gemm_args a = {.a = d->x, .b = d->router, .c = d->logits};

    if (o->kind != OP_ROUTER)
        a = (struct dense_gemm_args){.a = up ? d->x : d->act,
                                     .a_scale = up ? d->x_scales : d->act_scales,
                                     .b = up ? d->up : d->down,
                                     .b_scale = up ? d->up_scales : d->down_scales,
                                     .c = up ? d->gate_up : d->out};
    return kernels_dense_gemm_launch(r->op[op].dense->gemm, &a, stream);
}

/* The shared expert's activation: the same kernel, one expert with all tokens. */
static int launch_mlp_act(struct gpu_run *r, int op, cudaStream_t stream,
                          struct kernel_stamp *stamp)
{
    const struct gpu_dense_memory *d = &r->s->layer->dense;
    const struct plan_op *o = &r->plan->ops[op];
    struct silu_mul_quant_args a = {
        .dtype = dtype_of(o),
        .num_experts = 1,
        .expert_count = 1,
        .max_rows = o->rows,
        .inter = o->n,
        .num_sms = o->sms,
        .in = d->gate_up,
        .out = d->act,
        .scale = d->act_scales,
        .scale_row_stride = 1,
        .scale_k_stride = o->rows,
        .rows = d->rows + o->batch,
        .stamp = stamp,
    };

    return kernels_silu_mul_quant_launch(&a, stream);
}

int run_op(struct gpu_run *r, int op, cudaStream_t stream, struct kernel_stamp *stamp)
{
    int err;

    if (gpu_a2a_is(&r->plan->ops[op]))
        return gpu_a2a_launch(r->a2a, r->s, &r->plan->ops[op], stream, stamp);
    switch (r->plan->ops[op].kind) {
    case OP_GEMM_UP:
    case OP_GEMM_DOWN:
        return launch_expert_gemm(r, op, stream, stamp);
    case OP_ACT_QUANT:
        return launch_act(r, op, stream, stamp);
    case OP_ROUTER:
        err = launch_dense(r, op, stream);
        return err ? err : launch_topk(r, op, stream, stamp);
    case OP_MLP_UP:
    case OP_MLP_DOWN:
        return launch_dense(r, op, stream);
    case OP_MLP_ACT:
        return launch_mlp_act(r, op, stream, stamp);
    case OP_ATTN_PROJ:
    case OP_ATTN_CORE:
    case OP_ATTN_OUT:
        return gpu_attn_launch(r->attn, &r->plan->ops[op], r->op[op].dense, stream, stamp);
    default:
        return launch_comm(r, op, stream, stamp);
    }
}
