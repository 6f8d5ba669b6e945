/* The low-latency kernels of kernels/: what law_ll.c is for DeepEP's.
 *
 * A dispatch send's CTA takes its tokens one after another, casting in the first round, while one
 * of its warps counts the choices of all tokens, whatever the round and the grid: with several
 * rounds that count is what a send waits for. A combine send's rows pass through buffers, one per
 * warp. Receives unpack or add up rows, CTA by CTA, within what HBM delivers. All that waits on
 * memory latency (fixed times too) is slowed by kernels beside it; what NVLink takes is not. */
#include <math.h>

#include "model/law/ll.h"

enum { MAX_WARPS = 32, MAX_BUFFERS = 32, BUFFER_BYTES = 200 * 1024, COMM_CORNER = 4 };
enum { DEDUP_GROUPS = 4 };                   /* kernels/dedup.cu */
enum { SPREAD_FROM = 64, SPREAD_ROWS = 32 }; /* kernels/comm.h, kernels/comm_device.cuh */

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

static void own_init(const double *v, int grid, struct cost_work *out)
{
    *out = (struct cost_work){.grid = grid, .waves = 1, .push_GBps = 1, .slow_fixed = true};
    out->hbm_GBps = fmin(grid * v[HW_GPU_SM_HBM_GBPS], v[HW_GPU_HBM_GBPS]);
}

static void own_fixed(const double *v, enum law_part part, double fixed_ns, double recv_share,
                      struct cost_work *out)
{
    double poll_ns = part == LAW_SEND ? 0 : 1e3 * v[HW_LL_POLL_US];

    if (part != LAW_RECV)
        out->head.fixed_ns = fixed_ns * (1 - recv_share);
    if (part != LAW_SEND)
        out->tail.fixed_ns = fmax(fixed_ns * recv_share - poll_ns, 0);
    out->poll_ns = poll_ns;
}

/* near_bytes by stores: at their own pace within `cap`, those to the own GPU within what HBM reads
 * and writes; none: the time alone. */
static void own_push(const double *v, double near_bytes, double own_ns, double cap_GBps,
                     struct cost_work *out)
{
    out->cap_GBps = cap_GBps;
    out->local_GBps = law_hbm_GBps(v) / 2;
    if (near_bytes > 0)
        out->push_GBps = near_bytes / fmax(own_ns, 1);
    else
        out->head.sm_ns += own_ns;
}

static void own_dispatch_send(const double *v, const struct law_ll *in, struct cost_work *out)
{
    double token_ns = v[HW_LL_DISP_TOKEN_NS] + v[HW_LL_DISP_TOKEN_KIB_NS] * in->hidden / 1024;
    double count_ns = v[HW_LL_DISP_COUNT_NS] * in->tokens * in->topk;
    double near = (in->rows_sent - in->rows_off_node) * in->message_bytes, own_ns;
    /* The more CTAs count, each all choices, the less of it hides behind their stores. */
    double corner = 1 + v[HW_LL_DISP_CORNER] * sqrt(16.0 / out->grid);

    if (!in->cast)
        token_ns *= 1 - v[HW_LL_DISP_CAST_SHARE];
    own_ns = law_corner(count_ns, ceil_div(in->tokens, out->grid) * token_ns, corner);
    if (in->rows_off_node > 0)
        out->issue_ns = fmax(in->rows_off_node * v[HW_NET_NIC_MSG_NS], own_ns);
    own_push(v, near, own_ns, v[HW_LL_DISP_PUSH_EFF] * v[HW_NET_NVLINK_GBPS], out);
    out->cap_corner = corner;
}

static void own_dispatch_recv(const double *v, const struct law_ll *in, struct cost_work *out)
{
    /* A warp group per expert and source: the CTAs that have one more take longest. */
    double groups = ceil_div(in->experts, in->sms), share = groups / in->experts;
    double bytes = in->rows_recv * in->message_bytes, even_ns, sm_ns;

    even_ns = sm_ns = bytes * share / v[HW_LL_DISP_RECV_GBPS];
    if (in->hot_rows >= SPREAD_FROM) {
        /* All CTAs share what a channel has beyond SPREAD_ROWS, once they know of all channels. */
        sm_ns += SPREAD_ROWS * in->message_bytes * groups / v[HW_LL_DISP_GROUP_GBPS] +
                 v[HW_LL_DISP_SPREAD_US] * 1e3;
    } else if (in->hot_rows > 0) {
        sm_ns = law_corner(even_ns,
                           in->hot_rows * in->message_bytes * groups / v[HW_LL_DISP_GROUP_GBPS],
                           COMM_CORNER);
    }
    out->tail.hbm_bytes = 2 * bytes;
    out->tail.sm_ns =
        law_corner(sm_ns, 2 * bytes / (v[HW_LL_DISP_COPY_EFF] * v[HW_GPU_HBM_GBPS]), COMM_CORNER);
}

void law_own_dispatch(const double *v, const struct law_ll *in, struct cost_work *out)
{
    double fixed_ns = v[HW_LL_DISP_FIXED_US] * 1e3 + v[HW_LL_DISP_EXPERT_NS] * in->experts +
                      v[HW_LL_DISP_KIB_NS] * in->hidden / 1024 + v[HW_LL_DISP_TOPK_NS] * in->topk;

    own_init(v, law_ll_grid(in->experts, in->sms), out);
    if (in->part != LAW_RECV)
        own_dispatch_send(v, in, out);
    if (in->part != LAW_SEND)
        own_dispatch_recv(v, in, out);
    own_fixed(v, in->part, fixed_ns, v[HW_LL_DISP_RECV_SHARE], out);
}

static void own_combine_send(const double *v, const struct law_ll *in, struct cost_work *out)
{
    /* All CTAs share the rows, also those that are there for the tokens alone. */
    int senders = out->grid, row_bytes = 2 * in->hidden;
    int buffers = BUFFER_BYTES / row_bytes < MAX_BUFFERS ? BUFFER_BYTES / row_bytes : MAX_BUFFERS;
    double passes = ceil(in->rows_sent / (senders * max_int(buffers, 1)));
    double near = (in->rows_sent - in->rows_off_node) * in->message_bytes;
    double own_ns = law_corner(passes * v[HW_LL_COMB_ROW_NS],
                               near / (senders * v[HW_LL_COMB_CTA_GBPS]), COMM_CORNER);

    if (in->rows_off_node > 0)
        out->issue_ns =
            fmax(in->rows_off_node * v[HW_NET_NIC_MSG_NS],
                 in->rows_off_node * in->message_bytes / (senders * v[HW_LL_COMB_CTA_GBPS]));
    own_push(v, near, own_ns, v[HW_LL_COMB_PUSH_EFF] * v[HW_NET_NVLINK_GBPS], out);
}

/* Threads of the receive's CTAs: whole warp groups of floor(32/wg) warps, or all for the tokens. */
static int recv_threads(const struct law_ll *in)
{
    int groups = max_int(ceil_div(in->experts, in->sms), 1);

    return groups >= MAX_WARPS ? 32 * MAX_WARPS : 32 * groups * (MAX_WARPS / groups);
}

static void own_combine_recv(const double *v, const struct law_ll *in, struct cost_work *out)
{
    double bytes = (in->rows_recv + in->tokens) * 2.0 * in->hidden;
    int turns = ceil_div(in->tokens, out->grid),
        passes = ceil_div(in->hidden / 8, recv_threads(in));
    double token_ns =
        passes * v[HW_LL_COMB_TOKEN_NS] + v[HW_LL_COMB_TOKEN_KIB_NS] * in->hidden / 1024 * in->topk;

    out->tail.hbm_bytes = bytes;
    out->tail.sm_ns = law_corner(
        turns * token_ns, bytes / (v[HW_LL_COMB_READ_EFF] * v[HW_GPU_HBM_GBPS]), COMM_CORNER);
}

void law_own_combine(const double *v, const struct law_ll *in, struct cost_work *out)
{
    double fixed_ns = v[HW_LL_COMB_FIXED_US] * 1e3 + v[HW_LL_COMB_EXPERT_NS] * in->experts +
                      v[HW_LL_COMB_KIB_NS] * in->hidden / 1024 + v[HW_LL_COMB_TOPK_NS] * in->topk;

    own_init(v, law_ll_combine_grid(in->experts, in->tokens, in->sms), out);
    if (in->part != LAW_RECV)
        own_combine_send(v, in, out);
    if (in->part != LAW_SEND)
        own_combine_recv(v, in, out);
    own_fixed(v, in->part, fixed_ns, v[HW_LL_COMB_RECV_SHARE], out);
}

/* Dispatch: every CTA reads the choices of all ranks' tokens, casts and sends its own tokens one
 * after another, and copies what has come to the rows of its experts. */
static void dedup_dispatch(const double *v, const struct law_dedup *in, struct cost_work *out)
{
    double choices = (double)in->ranks * in->tokens * in->topk;
    double own_ns = ceil_div(in->tokens, in->sms) * v[HW_DEDUP_DISP_TOKEN_NS];
    double written = in->rows * in->copy_bytes;

    out->head.fixed_ns = v[HW_DEDUP_DISP_FIXED_US] * 1e3;
    own_push(v, in->copies * in->copy_bytes, own_ns, v[HW_LL_DISP_PUSH_EFF] * v[HW_NET_NVLINK_GBPS],
             out);
    out->tail.hbm_bytes = written;
    out->tail.sm_ns = v[HW_DEDUP_DISP_CHOICE_NS] * choices +
                      law_corner(written / (in->sms * v[HW_DEDUP_DISP_CTA_GBPS]),
                                 written / law_hbm_GBps(v), COMM_CORNER);
}

/* Combine: groups of warps, DEDUP_GROUPS to a CTA, sum a token's rows each, turn after turn, and
 * store the sums at the token's rank. About as many sums are made for others as others make. */
static void dedup_combine(const double *v, const struct law_dedup *in, struct cost_work *out)
{
    double read = in->rows * 2.0 * in->hidden, turns = ceil(in->copies / (DEDUP_GROUPS * in->sms));
    double own_ns =
        turns * v[HW_DEDUP_COMB_TURN_NS] + law_corner(read / (in->sms * v[HW_DEDUP_COMB_CTA_GBPS]),
                                                      read / law_hbm_GBps(v), COMM_CORNER);

    out->head.fixed_ns = v[HW_DEDUP_COMB_FIXED_US] * 1e3;
    out->head.hbm_bytes = read;
    own_push(v, in->copies * in->copy_bytes, own_ns, v[HW_LL_COMB_PUSH_EFF] * v[HW_NET_NVLINK_GBPS],
             out);
}

void law_own_dedup(const double *v, const struct law_dedup *in, struct cost_work *out)
{
    own_init(v, in->sms, out);
    (in->combine ? dedup_combine : dedup_dispatch)(v, in, out);
    out->poll_ns = 1e3 * v[HW_LL_POLL_US];
}
