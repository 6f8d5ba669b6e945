#include "model/attn.h"
#include "model/law/four_bit.h"
#include "model/law/cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "model/law/cost_attn.h"
#include "model/law/cost_coll.h"
#include "model/law/cost_laws.h"
#include "model/law/dense_table.h"
#include "model/law/gemm.h"
#include "model/law/ll.h"

static bool field_assumed(const struct hw_profile *p, int id)
{
    return !hw_origin_is_own(p->f[id].origin);
}

static void basis_mark(struct law_cost *c, const struct hw_profile *p)
{
    static const struct {
        enum basis basis;
        int field;
    } rests[] = {
        {BASIS_A2A, HW_A2A_CTA_GBPS},           {BASIS_DENSE_BF16, HW_BF16_FIXED_US},
        {BASIS_DENSE_BF16, HW_BF16_EFF},        {BASIS_DENSE_FP8, HW_BLOCK_FIXED_US},
        {BASIS_DENSE_FP8, HW_BLOCK_EFF},        {BASIS_DENSE_NVFP4, HW_NVFP4_EFF},
        {BASIS_DENSE_NVFP4, HW_NVFP4_FIXED_US}, {BASIS_CONTIG, HW_CONTIG_HBM_EFF},
        {BASIS_CONTIG, HW_CONTIG_EFF},          {BASIS_ACT, HW_ACT_FIXED_US},
        {BASIS_ROUTER, HW_ROUTER_FIXED_US},     {BASIS_ATTN, HW_ATTN_DECODE_HBM_EFF},
    };

    for (size_t i = 0; i < sizeof rests / sizeof *rests; i++)
        c->assumed[rests[i].basis] |= field_assumed(p, rests[i].field);
}

int cost_message_bytes(enum plan_flow_dir dir, enum plan_dtype dtype, int hidden)
{
    int head = dir == FLOW_DISPATCH ? 16 : 0, scales = 4 * (hidden / 128);

    switch (dtype) {
    case DTYPE_FP8:
        return head + hidden + scales;
    case DTYPE_LOGFMT10:
        return head + 10 * hidden / 8 + scales;
    default:
        return head + 2 * hidden;
    }
}

int cost_copy_bytes(enum plan_flow_dir dir, enum plan_dtype dtype, int hidden, int topk)
{
    int payload = dtype == DTYPE_FP8 ? hidden + 4 * (hidden / 128) : 2 * hidden;

    return payload + (dir == FLOW_DISPATCH ? 12 * topk : 4 * topk);
}

double cost_permute_bytes(enum plan_op_kind kind, double copies, double rows, enum plan_dtype dtype,
                          int hidden)
{
    double row =
        kind == OP_PERMUTE && dtype == DTYPE_FP8 ? hidden + 4.0 * (hidden / 128) : 2.0 * hidden;

    return (copies + rows) * row;
}

double cost_nvlink_GBps(const struct hw_profile *p)
{
    return hw_value(p, HW_NET_NVLINK_GBPS) * hw_value(p, HW_NET_NVLINK_EFF);
}

double cost_nic_GBps(const struct hw_profile *p)
{
    return hw_value(p, HW_NET_NIC_GBITPS) / 8 * hw_value(p, HW_NET_NIC_EFF) *
           hw_value(p, HW_NET_NICS_PER_GPU);
}

struct op_experts {
    int first, num;
};

static struct op_experts experts_of(const struct plan *plan, const struct plan_op *op)
{
    if (op->num_experts == 0)
        return (struct op_experts){0, plan->experts_per_rank};
    return (struct op_experts){op->first_expert, op->num_experts};
}

/* As many as rounds of this size would be; a part of the experts is a round however large. */
static int rounds_of(const struct plan *plan, const struct op_experts *e)
{
    int rounds = plan->experts_per_rank / e->num;

    return e->num < plan->experts_per_rank && rounds < 2 ? 2 : rounds;
}

static bool same_node(const struct plan *plan, int a, int b)
{
    return a / plan->ranks_per_node == b / plan->ranks_per_node;
}

/* Messages a rank sends in a dispatch, all and those to other nodes. */
static void dispatch_rows(const struct plan *plan, const struct plan_op *op, int rank,
                          struct law_ll *in)
{
    struct op_experts e = experts_of(plan, op);

    for (int dst = 0; dst < plan->ranks; dst++) {
        double rows = plan_pair_rows(plan, op->batch, rank, dst, e.first, e.num);

        in->rows_sent += rows;
        if (!same_node(plan, rank, dst))
            in->rows_off_node += rows;
    }
}

static double expert_rows(const struct plan *plan, const struct plan_op *op, int rank)
{
    struct op_experts e = experts_of(plan, op);
    const int32_t *rows =
        plan->batches[op->batch].rows + (size_t)rank * plan->experts_per_rank + e.first;
    double sum = 0;

    for (int i = 0; i < e.num; i++)
        sum += rows[i];
    return sum;
}

/* Messages a rank sends back in a combine: all rows of its experts. */
static void combine_rows(const struct plan *plan, const struct plan_op *op, int rank,
                         struct law_ll *in)
{
    struct op_experts e = experts_of(plan, op);
    int first = rank / plan->ranks_per_node * plan->ranks_per_node;
    double near = 0;

    in->rows_sent = expert_rows(plan, op, rank);
    for (int src = first; src < first + plan->ranks_per_node && src < plan->ranks; src++)
        near += plan_pair_rows(plan, op->batch, src, rank, e.first, e.num);
    in->rows_off_node = in->rows_sent - near;
}

static enum law_part part_of(enum plan_op_kind kind)
{
    return plan_op_sends(kind) && plan_op_recvs(kind) ? LAW_FUSED
           : plan_op_sends(kind)                      ? LAW_SEND
                                                      : LAW_RECV;
}

static bool is_combine(enum plan_op_kind kind)
{
    return plan_op_dir(kind) == FLOW_COMBINE;
}

static bool rests_on_data(const struct law_cost *c, int field)
{
    return !field_assumed(c->profile, field);
}

/* Fixed time, NVLink or NIC: the field that says how long the longest of them takes. */
static int ll_field(const struct law_cost *c, const struct law_ll *in, const struct cost_work *w,
                    bool back)
{
    double bytes = in->message_bytes, fixed = w->head.fixed_ns + w->tail.fixed_ns;
    double near = (in->rows_sent - in->rows_off_node) * bytes / w->push_GBps;
    double far = in->rows_off_node * bytes / law_nic_GBps(c->v);

    if (far > fixed && far > near)
        return HW_NET_NIC_EFF;
    if (near > fixed)
        return back ? HW_LL_COMB_PUSH_EFF : HW_LL_DISP_PUSH_EFF;
    if (in->rows_off_node > 0)
        return back ? HW_LL_COMB_NODE_US : HW_LL_DISP_NODE_US;
    return back ? HW_LL_COMB_FIXED_US : HW_LL_DISP_FIXED_US;
}

static bool ll_assumed(const struct law_cost *c, const struct law_ll *in, const struct cost_work *w,
                       bool back)
{
    if (!rests_on_data(c, ll_field(c, in, w, back)))
        return true;
    if (in->part != LAW_FUSED &&
        !rests_on_data(c, back ? HW_LL_COMB_RECV_SHARE : HW_LL_DISP_RECV_SHARE))
        return true;
    /* The validator's own sends in rounds rest on another field than DeepEP's. */
    return in->num_rounds > 1 && !back &&
           !rests_on_data(c, c->v[HW_LL_KERNEL_RULE] > 0.5 ? HW_LL_DISP_CAST_SHARE
                                                           : HW_LL_DISP_ROUND_TOKEN_NS);
}

/* Copies of layered dispatch, forwarded ones included, and those over the NIC. */
static void relay_rows(const struct plan *plan, int rank, int op, struct law_ll *in)
{
    struct cost_copies copies;

    cost_copies_of(plan, rank, op, &copies);
    in->rows_off_node = copies.far;
    in->rows_sent = copies.near + copies.far;
}

static void low_latency(const struct law_cost *c, const struct plan *plan, int rank, int index,
                        bool relay, struct cost_work *out)
{
    const struct plan_op *op = &plan->ops[index];
    const struct plan_batch *batch = &plan->batches[op->batch];
    struct op_experts e = experts_of(plan, op);
    bool back = is_combine(op->kind);
    struct law_ll in = {
        .part = part_of(op->kind),
        .sms = op->sms,
        .num_sms = plan->num_sms,
        .experts = e.num * plan->ranks,
        .num_rounds = rounds_of(plan, &e),
        .cast = !back && op->dtype != DTYPE_BF16 && e.first == 0,
        .tokens = batch->num_tokens,
        .topk = batch->routing->topk,
        .hidden = op->n,
        .message_bytes = cost_message_bytes(back ? FLOW_COMBINE : FLOW_DISPATCH, op->dtype, op->n),
        .ranks = plan->ranks,
        .ranks_per_node = plan->ranks_per_node,
        .relay = relay};

    if (in.part != LAW_RECV && relay)
        relay_rows(plan, rank, index, &in);
    else if (in.part != LAW_RECV)
        (back ? combine_rows : dispatch_rows)(plan, op, rank, &in);
    if (in.part != LAW_SEND)
        in.rows_recv = back ? (double)in.tokens * in.topk : expert_rows(plan, op, rank);
    if (in.part != LAW_SEND && !back)
        in.hot_rows = plan_op_hot_rows(plan, (int)(op - plan->ops), rank);
    (back ? law_ll_combine : law_ll_dispatch)(c->v, &in, out);
    out->assumed = ll_assumed(c, &in, out, back) || (relay && !rests_on_data(c, HW_LL_RELAY_US));
}

void cost_comm_low_latency(const struct law_cost *c, const struct plan *plan, int rank, int op,
                           struct cost_work *out)
{
    low_latency(c, plan, rank, op, false, out);
}

/* Its combine is the low-latency one. */
void cost_comm_layered(const struct law_cost *c, const struct plan *plan, int rank, int op,
                       struct cost_work *out)
{
    low_latency(c, plan, rank, op, !is_combine(plan->ops[op].kind), out);
}

static const struct plan_flow *flow_of(const struct plan *plan, int op)
{
    for (int i = 0; i < plan->num_flows; i++)
        if (plan->flows[i].send_op == op)
            return &plan->flows[i];
    return NULL;
}

void cost_copies_of(const struct plan *plan, int rank, int op, struct cost_copies *out)
{
    const struct plan_flow *f = flow_of(plan, op);
    bool back = f && f->dir == FLOW_COMBINE;
    double forwarded = 0;

    *out = (struct cost_copies){0};
    if (!f)
        return;
    out->bytes = f->bytes_per_row;
    for (int peer = 0; peer < plan->ranks; peer++) {
        size_t cell = back ? (size_t)peer * plan->ranks + rank : (size_t)rank * plan->ranks + peer;
        double rows = f->pair ? f->pair[cell]
                              : plan_pair_rows(plan, f->batch, back ? peer : rank,
                                               back ? rank : peer, f->first_expert, f->num_experts);

        if (peer == rank)
            out->local += rows;
        if (same_node(plan, rank, peer))
            out->near += rows;
        else
            out->far += rows;
        if (f->fwd)
            forwarded += f->fwd[cell];
    }
    /* A proxy keeps its own share of what it forwards: one in ranks_per_node of those copies. */
    if (plan->ranks_per_node > 1)
        forwarded *= plan->ranks_per_node / (plan->ranks_per_node - 1.0);
    out->near += forwarded;
}

static void normal_copies(const struct plan *plan, int rank, int op, struct law_normal *in)
{
    struct cost_copies c;

    cost_copies_of(plan, rank, op, &c);
    in->copy_bytes = c.bytes;
    in->copies += c.near;
    in->rdma_rows += c.far;
}

/* Host and notify kernels, the SMs' work, NVLink or NIC: the field that says how long the longest
 * of them takes. */
static int normal_dominant(const struct law_cost *c, const struct law_normal *in,
                           const struct cost_work *w)
{
    bool far = in->ranks > in->ranks_per_node;
    int shift = in->combine ? HW_NORMAL_COMB_FIXED_US - HW_NORMAL_DISP_FIXED_US : 0;
    double link_GBps = c->v[HW_NORMAL_DISP_PUSH_EFF + shift] * c->v[HW_NET_NVLINK_GBPS];
    double pushed = in->copies * in->copy_bytes, nic_GBps = c->v[HW_NET_NIC_GBITPS] / 8 *
                                                            c->v[HW_NET_NICS_PER_GPU] *
                                                            c->v[HW_NORMAL_DISP_NIC_EFF + shift];
    double link_ns = pushed / link_GBps, nic_ns = in->rdma_rows * in->copy_bytes / nic_GBps;
    double sm_ns = law_normal_sm_ns(c->v, in), most = fmax(fmax(link_ns, nic_ns), sm_ns);

    if (w->head.fixed_ns > most)
        return shift + (far ? HW_NORMAL_DISP_NODE_US : HW_NORMAL_DISP_FIXED_US);
    if (most == sm_ns)
        return shift + (far ? HW_NORMAL_DISP_NODE_TOKEN_NS : HW_NORMAL_DISP_TOKEN_NS);
    return shift + (most == nic_ns ? HW_NORMAL_DISP_NIC_EFF : HW_NORMAL_DISP_PUSH_EFF);
}

void cost_comm_normal(const struct law_cost *c, const struct plan *plan, int rank, int op,
                      struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];
    struct law_normal in = {.combine = is_combine(o->kind),
                            .sms = o->sms,
                            .hidden = o->n,
                            .tokens = plan->batches[o->batch].num_tokens,
                            .ranks = plan->ranks,
                            .ranks_per_node = plan->ranks_per_node};

    if (plan_op_sends(o->kind))
        normal_copies(plan, rank, op, &in);
    law_normal_work(c->v, &in, out);
    out->assumed = !rests_on_data(c, normal_dominant(c, &in, out));
    if (!plan_op_sends(o->kind))
        out->head.fixed_ns = 0;
}

/* Copies of a token that its rank sends, and gets back, in the flow group of a deduplicating op. */
static double copies_of(const struct plan *plan, const struct plan_flow *f, int rank)
{
    double sum = 0;

    for (int peer = 0; peer < plan->ranks; peer++)
        sum += f->pair[(size_t)rank * plan->ranks + peer];
    return sum;
}

/* Messages that come back to a rank in all rounds of a combine. */
static double rows_back(const struct plan *plan, const struct plan_op *op, int rank)
{
    const struct plan_batch *batch = &plan->batches[op->batch];
    double copies = 0;

    if (plan_comm_traits(op->comm)->back == FLOW_PER_EXPERT)
        return (double)batch->num_tokens * batch->routing->topk;
    for (int i = 0; i < plan->num_flows; i++) {
        const struct plan_flow *f = &plan->flows[i];

        if (f->dir == FLOW_COMBINE && f->batch == op->batch &&
            plan->ops[f->send_op].layer == op->layer)
            copies += copies_of(plan, f, rank);
    }
    return copies;
}

/* Messages packed and unpacked by a rank. Of several rounds of a combine the last one alone adds up
 * what came back in all. A copy for several experts of a rank is packed once and unpacked to each
 * of their rows; on the way back those rows are read and added up as the copy is packed. */
void cost_comm_a2a(const struct law_cost *c, const struct plan *plan, int rank, int index,
                   struct cost_work *out)
{
    const struct plan_op *op = &plan->ops[index];
    struct law_a2a in = {.sms = op->sms, .hidden = op->n};
    struct law_ll sent = {0};

    if (is_combine(op->kind)) {
        in.rows_packed = expert_rows(plan, op, rank);
        if (op->round + 1 >= op->num_rounds)
            in.rows_unpacked = rows_back(plan, op, rank);
    } else {
        dispatch_rows(plan, op, rank, &sent);
        in.rows_packed = sent.rows_sent;
        if (plan_comm_traits(op->comm)->dedup != FLOW_PER_EXPERT)
            in.rows_packed = copies_of(plan, flow_of(plan, index), rank);
        in.rows_unpacked = expert_rows(plan, op, rank);
    }
    law_a2a_work(c->v, &in, out);
    out->assumed = c->assumed[BASIS_A2A];
}

static const struct cost_comm_law comm_laws[COMM_IMPL_COUNT] = {
#define COMM_LAW(comm, law, dispatch, combine, beside)                                             \
    [COMM_##comm] = {law, {dispatch, combine}, beside},
    COST_COMM_LAWS(COMM_LAW)
#undef COMM_LAW
};

const struct cost_comm_law *cost_comm_law_of(enum plan_comm comm)
{
    return &comm_laws[comm];
}

void cost_op_comm(const struct law_cost *c, const struct plan *plan, int rank, int op,
                  struct cost_work *out)
{
    comm_laws[plan->ops[op].comm].law(c, plan, rank, op, out);
}

/* NVFP4 has a law where the profile has one from anywhere. */
static enum law_dense_dtype dense_dtype(const struct law_cost *c, const struct plan_op *op)
{
    enum hw_origin four = c->profile->f[HW_NVFP4_EFF].origin;

    if (op->dtype == DTYPE_NVFP4 && c->v[HW_GPU_FP4_TFLOPS] > 0 &&
        (hw_origin_is_own(four) || four == HW_TRANSFERRED))
        return LAW_DENSE_NVFP4;
    return op->dtype == DTYPE_BF16 ? LAW_DENSE_BF16 : LAW_DENSE_FP8_BLOCK;
}

static void dense_shape(const struct law_cost *c, const struct plan *plan, const struct plan_op *op,
                        int m, bool quantise, struct law_dense *in)
{
    enum law_dense_dtype dtype = dense_dtype(c, op);

    *in = (struct law_dense){.dtype = dtype,
                             .table = c->dense[dtype],
                             .m = m,
                             .n = op->n,
                             .k = op->k,
                             .sms = op->sms,
                             .num_sms = plan->num_sms,
                             .quantise = quantise && op->dtype != DTYPE_BF16};
}

static enum basis dense_basis(enum law_dense_dtype dtype)
{
    return dtype == LAW_DENSE_BF16    ? BASIS_DENSE_BF16
           : dtype == LAW_DENSE_NVFP4 ? BASIS_DENSE_NVFP4
                                      : BASIS_DENSE_FP8;
}

/* The law of the library, or of FP8 for weights of four bits that have none. */
static void dense_law(const struct law_cost *c, const struct plan_op *op,
                      const struct law_dense *in, struct cost_work *out)
{
    law_memo_dense(c->memo, c->v, in, out);
    out->assumed = c->assumed[dense_basis(in->dtype)];
    if (law_is_four_bit(op->dtype) && in->dtype != LAW_DENSE_NVFP4)
        law_four_bit(c->v, op->dtype, (double)op->n * op->k, in->num_sms, out);
}

static void work_dense(const struct law_cost *c, const struct plan *plan, const struct plan_op *op,
                       bool quantise, struct cost_work *out)
{
    struct law_dense in;

    dense_shape(c, plan, op, op->rows, quantise, &in);
    dense_law(c, op, &in, out);
}

/* One library GEMM per expert, one after another; each pays its own start and leaves its own last
 * wave unfilled. */
static void work_expert_sequence(const struct law_cost *c, const struct plan *plan, int rank,
                                 const struct plan_op *op, struct cost_work *out)
{
    struct cost_work one;
    struct law_dense in;

    *out = (struct cost_work){.grid = 1, .push_GBps = 1, .hbm_GBps = c->v[HW_GPU_HBM_GBPS]};
    for (int e = op->first_expert; e < op->first_expert + op->num_experts; e++) {
        int m = plan_expert_rows(plan, op->batch, rank, e);

        if (m == 0)
            continue;
        dense_shape(c, plan, op, m, false, &in);
        dense_law(c, op, &in, &one);
        out->assumed |= one.assumed;
        if (one.grid > out->grid)
            out->grid = one.grid;
        out->head.fixed_ns +=
            one.head.fixed_ns + (out->waves ? c->v[HW_LAUNCH_GRAPH_GAP_US] * 1e3 : 0);
        out->head.sm_ns += fmax(one.head.sm_ns, one.head.hbm_bytes / one.hbm_GBps);
        out->head.hbm_bytes += one.head.hbm_bytes;
        out->flops += one.flops;
        out->waves += one.waves;
    }
    if (out->waves == 0)
        out->waves = 1;
}

static int most_rows(const struct plan *plan, const struct plan_op *op)
{
    const struct plan_batch *batch = &plan->batches[op->batch];
    int most = 0;

    for (int rank = 0; rank < plan->ranks; rank++)
        for (int e = op->first_expert; e < op->first_expert + op->num_experts; e++) {
            int rows = batch->rows[(size_t)rank * plan->experts_per_rank + e];

            most = rows > most ? rows : most;
        }
    return most;
}

/* Of the experts that have rows. */
static double weights_read(const struct law_grouped *in)
{
    double groups = 0;

    for (int g = 0; g < in->groups; g++)
        groups += in->rows[g] > 0;
    return groups * in->n * in->k;
}

/* What takes longest of a masked GEMM: its start, the tiles, or what HBM or its SMs draw; where two
 * are equal, the wave takes 2^(1/corner) of either. */
static int masked_field(const struct law_cost *c, const struct law_grouped *in,
                        const struct cost_work *w)
{
    double drawn_ns = (w->head.hbm_bytes + w->tail.hbm_bytes) / w->hbm_GBps;
    double sm_ns = w->head.sm_ns + w->tail.sm_ns;

    if (w->head.fixed_ns > sm_ns)
        return HW_MASKED_FIXED_US;
    if (drawn_ns < sm_ns * pow(2, -1 / c->v[HW_MASKED_CORNER]))
        return HW_MASKED_EFF;
    return in->sms * c->v[HW_MASKED_SM_GBPS] < c->v[HW_MASKED_HBM_EFF] * c->v[HW_GPU_HBM_GBPS]
               ? HW_MASKED_SM_GBPS
               : HW_MASKED_HBM_EFF;
}

void cost_op_expert_gemm(const struct law_cost *c, const struct plan *plan, int rank, int index,
                         struct cost_work *out)
{
    const struct plan_op *op = &plan->ops[index];
    struct law_grouped in = {.layout = op->gemm,
                             .dtype = op->dtype,
                             .rows = plan->batches[op->batch].rows +
                                     (size_t)rank * plan->experts_per_rank + op->first_expert,
                             .groups = op->num_experts,
                             .n = op->n,
                             .k = op->k,
                             .sms = op->sms,
                             .num_sms = plan->num_sms,
                             .block_m = op->block_m,
                             .memo = c->memo};

    /* The validator's kernel was told the fullest expert of all ranks, so that all chose alike; by
     * rule 3 it is told the rows of each of its own. */
    if (c->v[HW_GROUPED_TILE_RULE] > 0.5 && c->v[HW_GROUPED_TILE_RULE] < 2.5)
        in.expected_m = most_rows(plan, op);
    if (op->gemm == GEMM_FUSED) {
        cost_mega_gemm(c, plan, rank, index, out);
        return;
    }
    if (op->gemm == GEMM_DENSE) {
        work_expert_sequence(c, plan, rank, op, out);
        return;
    }
    law_grouped_work(c->v, &in, out);
    out->assumed = op->gemm == GEMM_MASKED ? !rests_on_data(c, masked_field(c, &in, out))
                                           : c->assumed[BASIS_CONTIG];
    if (law_is_four_bit(op->dtype))
        law_four_bit(c->v, op->dtype, weights_read(&in), plan->num_sms, out);
}

double cost_norm_bytes(int hidden)
{
    return 8.0 * hidden;
}

static double mla_side_bytes(const struct plan_attn *a, bool prefill)
{
    double rope = a->qk_rope_head_dim, h = a->heads;
    double assembly = h * (a->qk_head_dim - rope) + rope + h * a->qk_head_dim;

    return 4 * (a->q_lora_rank + a->kv_lora_rank) + 4 * (h + 1) * rope +
           2 * (a->kv_lora_rank + rope) + a->kv_bytes_per_token + (prefill ? 2 * assembly : 0);
}

double cost_attn_side_bytes(const struct plan_attn *a, bool prefill)
{
    if (a->kv_lora_rank > 0)
        return mla_side_bytes(a, prefill);
    return 4.0 * (a->heads + a->kv_heads) * a->qk_head_dim + 4.0 * a->kv_heads * a->qk_head_dim +
           a->kv_bytes_per_token;
}

/* attn.norm_us is what these kernels take besides their bytes. */
static void attn_side_add(const struct law_cost *c, const struct plan *plan,
                          const struct plan_op *op, struct cost_work *out)
{
    const struct plan_attn *a = &plan->attn;
    double norm = cost_norm_bytes(op->k), own_rows = op->rows / fmax(a->tp, 1);

    out->head.fixed_ns += c->v[HW_ATTN_NORM_US] * 1e3;
    law_stream_add(c->v,
                   op->rows * (norm + cost_attn_side_bytes(a, plan_attn_is_prefill(a))) +
                       own_rows * norm,
                   op->sms, out);
    out->assumed |= c->assumed[BASIS_ATTN] || c->assumed[BASIS_ACT];
}

/* Kinds without a law of their own take the roofline: the work and bytes of their shape at the
 * rates of softmax attention. Prompts read a request's cache once, decode steps once a token's
 * request. */
static void attn_roofline(const struct law_cost *c, const struct plan *plan,
                          const struct plan_op *op, struct cost_work *out)
{
    const struct plan_attn *a = &plan->attn;
    const struct attn_shape *s = &a->shape;
    double q = fmax(a->q_tokens, 1), context = a->context_len + (q + 1) / 2;
    double per_token = attn_cache_elements(s, 1);
    double bytes = per_token > 0 ? a->kv_bytes_per_token / per_token : 2;
    bool prefill = plan_attn_is_prefill(a);
    double heads = attn_kind_has_state(s->kind) ? s->state_v_heads : s->heads;
    struct law_attn in = {.rows = op->rows,
                          .context = 1,
                          .heads = heads,
                          /* as wide as the FLOPs of one token need */
                          .qk_dim = heads > 0 ? attn_flops(s, context, !prefill) / (2 * heads) : 0,
                          .prefill = prefill,
                          .sms = op->sms,
                          .num_sms = plan->num_sms};

    in.kv_bytes =
        op->rows / q *
        (prefill ? attn_cache_bytes(s, a->context_len + q, bytes) + 2 * attn_state_bytes(s)
                 : attn_read_bytes(s, a->context_len + q, bytes));
    law_attn_work(c->v, &in, out);
    /* queries in, values out */
    out->head.hbm_bytes =
        in.kv_bytes + 4.0 * op->rows * heads * fmax(s->v_head_dim, s->state_v_dim);
    out->assumed = true;
}

/* Keys a query attends to on average: the cache, and causally half of its own request's tokens. */
static void work_attention(const struct law_cost *c, const struct plan *plan,
                           const struct plan_op *op, struct cost_work *out)
{
    const struct plan_attn *a = &plan->attn;
    double q = fmax(a->q_tokens, 1);
    bool prefill = plan_attn_is_prefill(a), absorbed = a->kv_lora_rank > 0 && !prefill;
    struct law_attn in = {.rows = op->rows,
                          .context = a->context_len + (q + 1) / 2,
                          .heads = a->heads,
                          .qk_dim =
                              absorbed ? a->kv_lora_rank + a->qk_rope_head_dim : a->qk_head_dim,
                          .v_dim = absorbed ? a->kv_lora_rank : a->v_head_dim,
                          .prefill = prefill,
                          .sms = op->sms,
                          .num_sms = plan->num_sms};

    if (a->shape.kind != ATTN_NONE && a->shape.kind != ATTN_GQA && a->shape.kind != ATTN_MLA) {
        attn_roofline(c, plan, op, out);
        return;
    }
    in.kv_bytes = op->rows / q * (a->context_len + q) * a->kv_bytes_per_token;
    law_attn_work(c->v, &in, out);
    out->assumed = c->assumed[BASIS_ATTN];
}

void cost_op_permute(const struct law_cost *c, const struct plan *plan, int rank, int op,
                     struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];
    double rows = expert_rows(plan, o, rank), copies = plan_op_copies(plan, op, rank);
    double bytes = cost_permute_bytes(o->kind, copies, rows, o->dtype, o->n);
    bool gathers = o->kind == OP_UNPERMUTE && c->v[HW_ACT_GATHER_EFF] > 0;

    if (gathers)
        law_gather_work(c->v, rows, bytes, o->sms, out);
    else
        law_copy_work(c->v, rows, bytes, o->sms, out);
    out->assumed = gathers ? !rests_on_data(c, HW_ACT_GATHER_EFF) : c->assumed[BASIS_ACT];
}

void cost_op_expert_act(const struct law_cost *c, const struct plan *plan, int rank, int op,
                        struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];

    law_act_work(c->v, expert_rows(plan, o, rank), experts_of(plan, o).num, o->n, o->dtype, o->sms,
                 out);
    out->assumed = c->assumed[BASIS_ACT];
}

void cost_op_mlp_act(const struct law_cost *c, const struct plan *plan, int rank, int op,
                     struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];

    (void)rank;
    law_act_work(c->v, o->rows, 1, o->n, o->dtype, o->sms, out);
    out->assumed = c->assumed[BASIS_ACT];
}

void cost_op_dense(const struct law_cost *c, const struct plan *plan, int rank, int op,
                   struct cost_work *out)
{
    (void)rank;
    work_dense(c, plan, &plan->ops[op], false, out);
}

void cost_op_router(const struct law_cost *c, const struct plan *plan, int rank, int op,
                    struct cost_work *out)
{
    const struct plan_op *o = &plan->ops[op];

    (void)rank;
    work_dense(c, plan, o, false, out);
    law_topk_add(c->v, o->rows, o->sms, out);
    out->assumed |= c->assumed[BASIS_ROUTER];
}

/* False: no measured family prices the op. A measured module has its norms in it, all but the one
 * in front of the experts. */
static bool attn_measured(const struct law_cost *c, const struct plan *plan,
                          const struct plan_op *op, struct cost_work *out)
{
    if (!cost_attn_work(c->v, &c->families, plan, op, out))
        return false;
    if (op->kind == OP_ATTN_PROJ)
        law_stream_add(c->v, op->rows / fmax(plan->attn.tp, 1) * cost_norm_bytes(op->k), op->sms,
                       out);
    return true;
}

void cost_op_attn_core(const struct law_cost *c, const struct plan *plan, int rank, int op,
                       struct cost_work *out)
{
    (void)rank;
    if (!attn_measured(c, plan, &plan->ops[op], out))
        work_attention(c, plan, &plan->ops[op], out);
}

void cost_op_attn_out(const struct law_cost *c, const struct plan *plan, int rank, int op,
                      struct cost_work *out)
{
    (void)rank;
    if (!attn_measured(c, plan, &plan->ops[op], out))
        work_dense(c, plan, &plan->ops[op], true, out);
}

void cost_op_attn_proj(const struct law_cost *c, const struct plan *plan, int rank, int op,
                       struct cost_work *out)
{
    (void)rank;
    if (attn_measured(c, plan, &plan->ops[op], out))
        return;
    work_dense(c, plan, &plan->ops[op], true, out);
    attn_side_add(c, plan, &plan->ops[op], out);
}

/* The validator's finds its input quantised. */
void cost_op_mlp_up(const struct law_cost *c, const struct plan *plan, int rank, int op,
                    struct cost_work *out)
{
    (void)rank;
    work_dense(c, plan, &plan->ops[op], c->v[HW_GROUPED_TILE_RULE] < 0.5, out);
}

void cost_op_coll(const struct law_cost *c, const struct plan *plan, int rank, int op,
                  struct cost_work *out)
{
    (void)rank;
    cost_coll_work(c->profile, plan, &plan->ops[op], out);
}

static cost_law *const op_laws[OP_KIND_COUNT] = {
#define OP_LAW(kind, law) [OP_##kind] = law,
    COST_OP_LAWS(OP_LAW)
#undef OP_LAW
};

static void cost_of(void *self, const struct plan *plan, int rank, int op, struct cost_work *out)
{
    op_laws[plan->ops[op].kind](self, plan, rank, op, out);
}

static int cost_check(void *self, const struct plan *plan)
{
    (void)self;
    for (int i = 0; i < plan->num_ops; i++)
        if (!op_laws[plan->ops[i].kind]) {
            log_error("no law prices ops of kind %s: it needs a row in model/law/cost_laws.h",
                      plan_op_kind_name(plan->ops[i].kind));
            return ERR_UNSUPPORTED;
        }
    return 0;
}

static double sensitivity(const struct law_cost *c, enum plan_op_kind kind)
{
    switch (kind) {
    case OP_DISPATCH_SEND:
    case OP_DISPATCH:
        return c->v[HW_INTERFERENCE_DISP_SEND];
    case OP_DISPATCH_RECV:
        return c->v[HW_INTERFERENCE_DISP_RECV];
    case OP_COMBINE_RECV:
        return c->v[HW_INTERFERENCE_COMB_RECV];
    default:
        return c->v[HW_INTERFERENCE_COMB_SEND];
    }
}

/* What the validator's communication kernels lose beside a compute kernel. */
static double latency_stretch(const struct law_cost *c, const struct plan *plan, int rank,
                              enum plan_op_kind kind, int other)
{
    struct law_traffic t = {.hbm_GBps = law_hbm_GBps(c->v)};
    struct cost_work w;
    double ns;

    cost_of((void *)c, plan, rank, other, &w);
    ns = law_alone_ns(&w, &t);
    if (!(ns > 0))
        return 1;
    return law_latency_stretch(c->v, sensitivity(c, kind), w.grid,
                               (w.head.hbm_bytes + w.tail.hbm_bytes) / ns);
}

double cost_beside_warps(const struct law_cost *c, const struct plan *plan, int rank, int op,
                         int other)
{
    const struct plan_op *o = &plan->ops[op];

    (void)rank;
    (void)other;
    return law_interference_comm(c->v, (double)o->num_experts * plan->ranks, o->sms);
}

static bool is_masked(const struct plan_op *op)
{
    return plan_op_is_expert_gemm(op->kind) && op->gemm == GEMM_MASKED;
}

static int ll_ctas(const struct plan *plan, const struct plan_op *op)
{
    return law_ll_grid(experts_of(plan, op).num * plan->ranks, op->sms);
}

static double deepep_beside(const struct law_cost *c, const struct plan *plan, int rank, int op,
                            int other)
{
    const struct plan_op *o = &plan->ops[op], *gemm = &plan->ops[other];
    bool send = o->kind == OP_DISPATCH_SEND;
    int field = o->kind == OP_COMBINE_SEND ? HW_INTERFERENCE_LL_COMB_SEND
                : send                     ? HW_INTERFERENCE_LL_DISP_SEND
                                           : HW_INTERFERENCE_LL_DISP_RECV;
    int groups = gemm->num_experts;
    double mean = groups > 0 ? expert_rows(plan, gemm, rank) / groups : 0;

    return law_interference_ll(
        c->v, c->v[field], ll_ctas(plan, o),
        send && is_masked(gemm) &&
            law_grouped_unclustered(groups, (int)ceil(mean), gemm->n, gemm->sms));
}

double cost_beside_low_latency(const struct law_cost *c, const struct plan *plan, int rank, int op,
                               int other)
{
    if (c->v[HW_LL_KERNEL_RULE] > 0.5)
        return latency_stretch(c, plan, rank, plan->ops[op].kind, other);
    return deepep_beside(c, plan, rank, op, other);
}

double cost_beside_a2a(const struct law_cost *c, const struct plan *plan, int rank, int op,
                       int other)
{
    (void)plan;
    (void)rank;
    (void)op;
    (void)other;
    return c->v[HW_INTERFERENCE_A2A];
}

static bool is_library(enum plan_comm comm)
{
    return plan_comm_traits(comm)->kernels == COMM_KERNELS_A2A;
}

static double cost_interference(void *self, const struct plan *plan, int rank, int op, int other)
{
    const struct law_cost *c = self;
    const struct plan_op *o = &plan->ops[op];
    bool compute = plan_op_kind_class(o->kind) == OP_CLASS_COMPUTE;
    bool other_compute = plan_op_kind_class(plan->ops[other].kind) == OP_CLASS_COMPUTE;

    if (compute == other_compute || plan_op_kind_class(plan->ops[other].kind) == OP_CLASS_FUSED ||
        plan_op_kind_class(o->kind) == OP_CLASS_FUSED || plan_op_kernel(plan, op) >= 0)
        return 1;
    if (compute)
        return c->v[is_library(plan->ops[other].comm) ? HW_INTERFERENCE_A2A_COMPUTE
                                                      : HW_INTERFERENCE_COMPUTE];
    return comm_laws[o->comm].beside(c, plan, rank, op, other);
}

static double cost_placement(void *self, const struct plan *plan, int rank, int op, int other)
{
    const struct law_cost *c = self;
    const struct plan_op *o = &plan->ops[op], *by = &plan->ops[other];

    (void)rank;
    if (!is_masked(o) || o->kind != OP_GEMM_UP || c->v[HW_LL_KERNEL_RULE] > 0.5 ||
        plan_op_kind_class(by->kind) != OP_CLASS_COMM || by->comm != COMM_LOW_LATENCY)
        return 1;
    return law_interference_place(c->v, ll_ctas(plan, by));
}

int cost_open(const struct hw_profile *profile, struct cost *out)
{
    struct law_cost *c = calloc(1, sizeof *c);
    int rc = c ? hw_profile_copy(profile, &c->profile) : ERR_NOMEM;

    if (rc == 0)
        rc = law_attn_families_open(c->profile, &c->families);
    if (rc == 0)
        rc = law_ffn_families_open(c->profile, &c->ffn);
    if (rc == 0)
        rc = law_memo_open(&c->memo);
    if (rc != 0) {
        if (c)
            hw_profile_free(c->profile);
        free(c);
        return rc;
    }
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        c->v[i] = profile->f[i].value;
    basis_mark(c, profile);
    for (int d = 0; d < LAW_DENSE_COUNT; d++)
        c->dense[d] = law_dense_table(c->profile, (enum law_dense_dtype)d);
    *out = (struct cost){.self = c,
                         .hbm_GBps = law_hbm_GBps(c->v),
                         .graph_gap_ns = c->v[HW_LAUNCH_GRAPH_GAP_US] * 1e3,
                         .cross_stream_ns = c->v[HW_LAUNCH_CROSS_STREAM_US] * 1e3,
                         .eager_launch_ns = c->v[HW_LAUNCH_EAGER_US] * 1e3,
                         .check = cost_check,
                         .work = cost_of,
                         .least = cost_least_of,
                         .interference = cost_interference,
                         .placement = cost_placement};
    return 0;
}

void cost_close(struct cost *cost)
{
    struct law_cost *c = cost->self;

    if (c) {
        law_attn_families_close(&c->families);
        law_ffn_families_close(&c->ffn);
        law_memo_close(c->memo);
        hw_profile_free(c->profile);
    }
    free(c);
    cost->self = NULL;
}
