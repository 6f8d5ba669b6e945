#include "model/law/ll.h"

#include <math.h>

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

int law_ll_grid(int experts, int sms)
{
    int wg = max_int(ceil_div(experts, sms), 1);

    return max_int(ceil_div(experts, wg), 1);
}

int law_ll_combine_grid(int experts, int tokens, int sms)
{
    int by_experts = law_ll_grid(experts, sms);

    return tokens > 0 ? max_int(by_experts, ceil_div(tokens, ceil_div(tokens, sms))) : by_experts;
}

/* Experts on other nodes. Each gets one count or flag over the NIC from every rank, so this and not
 * the number of ranks is what a kernel waits for longer the farther it reaches. */
static double off_node_experts(const struct law_ll *in)
{
    return in->experts * fmax(1 - (double)in->ranks_per_node / in->ranks, 0);
}

static double dispatch_fixed_ns(const double *v, const struct law_ll *in)
{
    double far = in->relay ? 0 : off_node_experts(in);

    return v[HW_LL_DISP_FIXED_US] * 1e3 + v[HW_LL_DISP_EXPERT_NS] * in->experts +
           v[HW_LL_DISP_KIB_NS] * in->hidden / 1024 + v[HW_LL_DISP_TOPK_NS] * in->topk +
           (far > 0 ? v[HW_LL_DISP_NODE_US] * 1e3 + v[HW_LL_DISP_FLAG_NS] * far : 0);
}

/* Layered: the hop between arrival and forwarding; kernels apart each see a part of it. */
static double relay_ns(const double *v, const struct law_ll *in)
{
    double share = in->part == LAW_FUSED ? 1 : v[HW_LL_RELAY_SHARE];

    return in->relay ? v[HW_LL_RELAY_US] * 1e3 * share : 0;
}

/* Pull 492's sends in rounds: each CTA goes through all its tokens in every round, one after
 * another, and stores the messages that the round holds of each. Half the CTAs take twice as long
 * however few the messages are. */
static void dispatch_round_send(const double *v, const struct law_ll *in, struct cost_work *out)
{
    double near = (in->rows_sent - in->rows_off_node) * in->message_bytes;
    double token_ns = v[HW_LL_DISP_ROUND_TOKEN_NS] +
                      in->message_bytes / v[HW_NET_PUSH_SM_GBPS] * in->topk / in->num_rounds +
                      (in->cast ? v[HW_LL_DISP_ROUND_CAST_NS] * in->hidden / 7168 : 0);
    double own_ns = ceil((double)in->tokens / out->grid) * token_ns;

    out->head.hbm_bytes = (double)in->tokens * (in->cast ? 3.0 : 1.0) * in->hidden;
    if (in->rows_off_node > 0)
        out->issue_ns = fmax(in->rows_off_node * v[HW_NET_NIC_MSG_NS], own_ns);
    if (near > 0)
        out->push_GBps =
            cost_saturate(near / fmax(own_ns, 1), v[HW_LL_DISP_PUSH_EFF] * v[HW_NET_NVLINK_GBPS]);
    else
        out->head.sm_ns = in->rows_off_node > 0 ? 0 : own_ns;
}

static void dispatch_send(const double *v, const struct law_ll *in, struct cost_work *out)
{
    double token_ns = v[HW_LL_DISP_TOKEN_NS] + v[HW_LL_DISP_TOKEN_KIB_NS] * in->hidden / 1024;
    double near = (in->rows_sent - in->rows_off_node) * in->message_bytes;
    double most_GBps = v[HW_LL_DISP_PUSH_EFF] * v[HW_NET_NVLINK_GBPS];
    double ctas = out->grid, tokens = in->tokens;

    if (in->num_rounds > 1) {
        dispatch_round_send(v, in, out);
        return;
    }
    if (!in->cast)
        token_ns *= 1 - v[HW_LL_DISP_CAST_SHARE];
    out->head.hbm_bytes = tokens * (in->cast ? 3.0 : 1.0) * in->hidden;
    out->push_GBps = most_GBps;
    if (tokens > 0 && near > 0)
        out->push_GBps = cost_saturate(near * ctas / (tokens * fmax(token_ns, 1)), most_GBps);
    out->issue_ns = fmax(in->rows_off_node * v[HW_NET_NIC_MSG_NS],
                         in->rows_off_node > 0 ? ceil(tokens / ctas) * token_ns : 0);
}

/* A fused kernel copies each expert's rows as soon as their count has come, so those that come over
 * the NIC, many times slower than HBM, are copied while others are still on their way. Layered, the
 * same warps forward until then, and copy after. */
static double rows_left_to_copy(const struct law_ll *in)
{
    double near = fmin((double)in->ranks_per_node / in->ranks, 1);

    return in->rows_recv * (in->part == LAW_FUSED && !in->relay ? near : 1);
}

static void dispatch_recv(const double *v, const struct law_ll *in, struct cost_work *out)
{
    double bytes = 2 * rows_left_to_copy(in) * in->message_bytes;
    double copy_GBps =
        fmin(v[HW_LL_DISP_COPY_EFF] * v[HW_GPU_HBM_GBPS], out->grid * v[HW_GPU_SM_HBM_GBPS]);

    out->tail.hbm_bytes = bytes;
    if (in->part != LAW_RECV) {
        out->tail.sm_ns = bytes / copy_GBps;
        return;
    }
    if (in->relay)
        out->tail.sm_ns = bytes / copy_GBps + in->rows_recv * in->message_bytes /
                                                  (v[HW_LL_DISP_PUSH_EFF] * v[HW_NET_NVLINK_GBPS]);
    /* Beside a GEMM its start and its looks at counts, one after another, take longer; the copy
     * keeps its rate. */
    out->slow_fixed = true;
    out->hbm_GBps = fmin(out->hbm_GBps, copy_GBps);
}

static void work_init(const double *v, int grid, struct cost_work *out)
{
    *out = (struct cost_work){.grid = grid, .waves = 1, .push_GBps = 1};
    out->hbm_GBps = fmin(grid * v[HW_GPU_SM_HBM_GBPS], v[HW_GPU_HBM_GBPS]);
}

/* Two kernels pay more together than a fused one does: each starts, meets and drains. */
static void split_fixed(enum law_part part, double fixed_ns, double send_share, double recv_share,
                        struct cost_work *out)
{
    if (part == LAW_FUSED || !(send_share > 0))
        send_share = 1 - fmin(recv_share, 1);
    if (part == LAW_FUSED)
        recv_share = fmin(recv_share, 1);
    if (part != LAW_RECV)
        out->head.fixed_ns = fixed_ns * send_share;
    if (part != LAW_SEND)
        out->tail.fixed_ns = fixed_ns * recv_share;
}

static bool is_own(const double *v)
{
    return v[HW_LL_KERNEL_RULE] > 0.5;
}

void law_ll_dispatch(const double *v, const struct law_ll *in, struct cost_work *out)
{
    if (is_own(v)) {
        law_own_dispatch(v, in, out);
        return;
    }
    work_init(v, law_ll_grid(in->experts, in->sms), out);
    if (in->part != LAW_RECV)
        dispatch_send(v, in, out);
    if (in->part != LAW_SEND)
        dispatch_recv(v, in, out);
    split_fixed(in->part, dispatch_fixed_ns(v, in), v[HW_LL_DISP_SEND_SHARE],
                v[HW_LL_DISP_RECV_SHARE], out);
    *(in->part == LAW_RECV ? &out->tail.fixed_ns : &out->head.fixed_ns) += relay_ns(v, in);
}

static double combine_fixed_ns(const double *v, const struct law_ll *in)
{
    double far = off_node_experts(in);

    return v[HW_LL_COMB_FIXED_US] * 1e3 + v[HW_LL_COMB_EXPERT_NS] * in->experts +
           (in->experts > in->sms ? v[HW_LL_COMB_GROUP_US] * 1e3 : 0) +
           v[HW_LL_COMB_KIB_NS] * in->hidden / 1024 + v[HW_LL_COMB_TOPK_NS] * in->topk +
           (far > 0 ? v[HW_LL_COMB_NODE_US] * 1e3 + v[HW_LL_COMB_FLAG_NS] * far : 0);
}

static void combine_send(const double *v, const struct law_ll *in, struct cost_work *out)
{
    int senders = law_ll_grid(in->experts, in->sms);
    /* A fused kernel's ranks all receive too and reach less than what any kernel does alone. */
    double most_GBps =
        in->part == LAW_SEND ? law_nvlink_GBps(v) : v[HW_LL_COMB_PUSH_EFF] * v[HW_NET_NVLINK_GBPS];

    out->push_GBps = cost_saturate(senders * v[HW_LL_COMB_CTA_GBPS], most_GBps);
    out->issue_ns =
        fmax(in->rows_off_node * v[HW_NET_NIC_MSG_NS],
             in->rows_off_node * in->message_bytes / (senders * v[HW_LL_COMB_CTA_GBPS]));
    out->head.hbm_bytes = 0;
}

static void combine_recv(const double *v, const struct law_ll *in, struct cost_work *out)
{
    double bytes = (in->rows_recv + in->tokens) * 2.0 * in->hidden;
    double token_ns =
        v[HW_LL_COMB_TOKEN_NS] + v[HW_LL_COMB_TOKEN_KIB_NS] * in->hidden / 1024 * in->topk;

    out->tail.hbm_bytes = bytes;
    out->tail.sm_ns = fmax(ceil((double)in->tokens / out->grid) * token_ns,
                           bytes / (v[HW_LL_COMB_READ_EFF] * v[HW_GPU_HBM_GBPS]));
}

void law_ll_combine(const double *v, const struct law_ll *in, struct cost_work *out)
{
    if (is_own(v)) {
        law_own_combine(v, in, out);
        return;
    }
    work_init(v, law_ll_combine_grid(in->experts, in->tokens, in->sms), out);
    if (in->part != LAW_RECV)
        combine_send(v, in, out);
    if (in->part != LAW_SEND)
        combine_recv(v, in, out);
    split_fixed(in->part, combine_fixed_ns(v, in), v[HW_LL_COMB_SEND_SHARE],
                v[HW_LL_COMB_RECV_SHARE], out);
}

double law_touched(double total, double per, int topk)
{
    double miss = 1;

    for (int i = 0; i < topk; i++)
        miss *= fmax(total - per - i, 0) / (total - i);
    return total / per * (1 - miss);
}

/* The fields of normal dispatch and combine stand in the same order. */
static double normal_field(const double *v, const struct law_normal *in, int dispatch_field)
{
    int first = in->combine ? HW_NORMAL_COMB_FIXED_US : HW_NORMAL_DISP_FIXED_US;

    return v[first + dispatch_field - HW_NORMAL_DISP_FIXED_US];
}

static double normal_far_ranks(const struct law_normal *in)
{
    return fmax(in->ranks - in->ranks_per_node, 0);
}

double law_normal_notify_ns(const double *v, const struct law_normal *in)
{
    double nodes = ceil((double)in->ranks / in->ranks_per_node);
    double per_token =
        in->combine ? v[HW_NORMAL_NOTIFY_SM_NS] / in->sms : v[HW_NORMAL_NOTIFY_TOKEN_NS];

    if (nodes <= 1)
        return 0;
    return v[HW_NORMAL_NOTIFY_US] * 1e3 + v[HW_NORMAL_NOTIFY_NODE_US] * 1e3 * (nodes - 1) +
           per_token * in->tokens;
}

double law_normal_sm_ns(const double *v, const struct law_normal *in)
{
    double KiB = in->copy_bytes / 1024;
    double token = normal_field(v, in, HW_NORMAL_DISP_TOKEN_NS) +
                   normal_field(v, in, HW_NORMAL_DISP_TOKEN_KIB_NS) * KiB;
    double copy = normal_field(v, in, HW_NORMAL_DISP_COPY_NS) +
                  normal_field(v, in, HW_NORMAL_DISP_COPY_KIB_NS) * KiB;

    if (normal_far_ranks(in) > 0)
        token += normal_field(v, in, HW_NORMAL_DISP_NODE_TOKEN_NS);
    token = in->tokens * token + in->copies * copy +
            in->rdma_rows * normal_field(v, in, HW_NORMAL_DISP_RDMA_NS);
    return token / pow(in->sms, normal_field(v, in, HW_NORMAL_DISP_SMS_POWER));
}

/* A channel (two SMs) hands a chunk of tokens from stage to stage: sender, NIC, forwarder,
 * receiver. Until its first chunk is through, the stages' times add up; from then on only the
 * slowest shows.
 */
static double normal_fill_ns(const double *v, const struct law_normal *in)
{
    double per_channel = in->tokens / fmax(in->sms / 2.0, 1);

    return normal_field(v, in, HW_NORMAL_DISP_FILL_NS) *
           fmin(per_channel, normal_field(v, in, HW_NORMAL_DISP_FILL_TOKENS));
}

#define NIC_CORNER 4 /* SM time and NIC time, as in cost_saturate */

void law_normal_work(const double *v, const struct law_normal *in, struct cost_work *out)
{
    double nic_GBps = v[HW_NET_NIC_GBITPS] / 8 * v[HW_NET_NICS_PER_GPU] *
                      normal_field(v, in, HW_NORMAL_DISP_NIC_EFF);
    double most_GBps = normal_field(v, in, HW_NORMAL_DISP_PUSH_EFF) * v[HW_NET_NVLINK_GBPS];
    double sm_ns = law_normal_sm_ns(v, in);
    double far = normal_far_ranks(in);
    double fixed_us = normal_field(v, in, HW_NORMAL_DISP_FIXED_US);

    if (far > 0)
        fixed_us = normal_field(v, in, HW_NORMAL_DISP_NODE_US) +
                   normal_field(v, in, HW_NORMAL_DISP_RANK_NS) * far / 1e3;
    fixed_us += normal_field(v, in, HW_NORMAL_DISP_KIB_US) * in->hidden / 1024;
    work_init(v, in->sms, out);
    out->head.fixed_ns = fixed_us * 1e3 + law_normal_notify_ns(v, in);
    out->push_GBps = most_GBps;
    if (in->copies > 0 && sm_ns > 0)
        out->push_GBps = cost_saturate(in->copies * in->copy_bytes / sm_ns, most_GBps);
    if (far > 0)
        out->issue_ns = law_corner(sm_ns, in->rdma_rows * in->copy_bytes / nic_GBps, NIC_CORNER) +
                        normal_fill_ns(v, in);
}

#define A2A_ROW_HIDDEN 7168.0 /* what a2a.row_ns is of */

void law_a2a_work(const double *v, const struct law_a2a *in, struct cost_work *out)
{
    double row_ns =
        v[HW_A2A_ROW_NS] * (1 + v[HW_A2A_ROW_SHARE] * (in->hidden / A2A_ROW_HIDDEN - 1));

    work_init(v, in->sms, out);
    out->head.fixed_ns = v[HW_A2A_FIXED_US] * 1e3;
    out->head.sm_ns = in->rows_packed / in->sms * row_ns;
    out->tail.sm_ns = in->rows_unpacked / in->sms * row_ns;
    out->push_GBps =
        cost_saturate(in->sms * v[HW_A2A_CTA_GBPS], v[HW_A2A_PUSH_EFF] * v[HW_NET_NVLINK_GBPS]);
}
