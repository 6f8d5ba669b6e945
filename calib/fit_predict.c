#include "calib/fit_predict.h"

#include <math.h>
#include <string.h>

#include <gsl/gsl_sort.h>

#include "model/law/cost.h"
#include "calib/attn.h"
#include "calib/fused.h"
#include "model/law/cost_coll.h"
#include "model/law/dense_table.h"
#include "model/law/gemm.h"
#include "model/law/ll.h"
#include "model/law/mega.h"
#include "model/law/nvl.h"

enum { DRAWS_MAX = 64 };
#define NORMAL_SMS  24 /* DeepEP's default on one node */
#define HOST_CORNER 12 /* launches and kernels run side by side: hardly any corner */

void predictor_init(struct predictor *p, const struct hw_profile *profile)
{
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        p->v[i] = profile->f[i].value;
    p->profile = profile;
    for (int d = 0; d < LAW_DENSE_COUNT; d++)
        p->dense[d] = law_dense_table(profile, (enum law_dense_dtype)d);
}

void predictor_init_bare(struct predictor *p, const struct hw_profile *profile)
{
    predictor_init(p, profile);
    for (int d = 0; d < LAW_DENSE_COUNT; d++)
        p->dense[d] = NULL;
}

bool predict_system(const struct hw_profile *profile, const char *system)
{
    if (!system[0] || strcmp(system, profile->name) == 0)
        return true;
    return strcmp(system, "hopper") == 0 &&
           (strcmp(profile->name, "h100") == 0 || strcmp(profile->name, "h200") == 0);
}

static int sms_of(const double *v, const struct data_row *r)
{
    return r->num_sms > 0 ? r->num_sms : (int)v[HW_GPU_NUM_SMS];
}

static void traffic_links(const double *v, const struct data_row *r, struct law_traffic *t)
{
    t->nvlink_GBps = law_nvlink_GBps(v);
    t->nic_GBps = law_nic_GBps(v);
    t->hbm_GBps = law_hbm_GBps(v);
    t->lat_ns = 1e3 * (r->nodes > 1 ? v[HW_NET_NIC_LAT_US] : v[HW_NET_NVLINK_LAT_US]);
}

/* slow: by what runs beside it throughout; 1 alone. */
static double low_latency_ns(const double *v, const struct data_row *r, bool back, double slow)
{
    int per_node = r->ranks / (r->nodes > 0 ? r->nodes : 1);
    struct law_ll in = {.part = (enum law_part)r->part,
                        .sms = sms_of(v, r),
                        .num_sms = (int)v[HW_GPU_NUM_SMS],
                        .experts = r->experts / r->rounds,
                        .num_rounds = r->rounds,
                        .cast = !back && r->dtype != DTYPE_BF16 && r->round == 0,
                        .tokens = r->tokens,
                        .topk = r->topk,
                        .hidden = r->hidden,
                        .message_bytes = cost_message_bytes(back ? FLOW_COMBINE : FLOW_DISPATCH,
                                                            r->dtype, r->hidden),
                        .ranks = r->ranks,
                        .ranks_per_node = per_node,
                        .hot_rows = r->hot_rows};
    double rows = (double)r->tokens * r->topk / r->rounds;
    struct law_traffic t = {0};
    struct cost_work w;

    if (r->bytes > 0)
        rows = r->bytes / in.message_bytes;
    in.rows_recv = back ? rows * r->rounds : rows;
    traffic_links(v, r, &t);
    if (in.part == LAW_RECV)
        t.lat_ns = 0;
    else {
        in.rows_sent = rows;
        in.rows_off_node = rows * (1 - (double)per_node / r->ranks);
        t.local_bytes = rows / r->ranks * in.message_bytes;
        t.nic_bytes = in.rows_off_node * in.message_bytes;
        t.nvlink_bytes = rows * in.message_bytes - t.nic_bytes - t.local_bytes;
    }
    /* With a receive hook a send ends when all is posted; the bytes fly while other kernels run. */
    if (in.part == LAW_SEND)
        t.lat_ns = t.nic_bytes = 0;
    (back ? law_ll_combine : law_ll_dispatch)(v, &in, &w);
    return law_slowed_ns(&w, &t, slow);
}

/* Tokens choose evenly: each goes to the ranks that one of its experts is likely to be of. */
static double dedup_ns(const double *v, const struct data_row *r)
{
    bool back = r->law == DATA_DEDUP_COMBINE;
    struct law_dedup in = {
        .combine = back,
        .sms = sms_of(v, r),
        .tokens = r->tokens,
        .topk = r->topk,
        .ranks = r->ranks,
        .hidden = r->hidden,
        .copies = r->tokens * law_touched(r->experts, (double)r->experts / r->ranks, r->topk),
        .rows = (double)r->tokens * r->topk,
        .copy_bytes =
            cost_copy_bytes(back ? FLOW_COMBINE : FLOW_DISPATCH, r->dtype, r->hidden, r->topk)};
    struct law_traffic t = {0};
    struct cost_work w;

    traffic_links(v, r, &t);
    t.local_bytes = in.copies / r->ranks * in.copy_bytes;
    t.nvlink_bytes = in.copies * in.copy_bytes - t.local_bytes;
    law_own_dedup(v, &in, &w);
    return law_slowed_ns(&w, &t, 1);
}

/* One copy per node over the NIC, and copies to the ranks of a node, its own and what it forwards.
 */
static double layered_ns(const double *v, const struct data_row *r)
{
    int nodes = r->nodes > 0 ? r->nodes : 1, per_node = r->ranks / nodes;
    double per_rank = (double)r->experts / r->ranks, spread = r->tokens * (1 - 1.0 / nodes);
    double copies = r->tokens * law_touched(r->experts, per_rank, r->topk);
    struct law_ll in = {.part = (enum law_part)r->part,
                        .sms = sms_of(v, r),
                        .num_sms = (int)v[HW_GPU_NUM_SMS],
                        .experts = r->experts,
                        .num_rounds = 1,
                        .cast = r->dtype != DTYPE_BF16,
                        .tokens = r->tokens,
                        .topk = r->topk,
                        .hidden = r->hidden,
                        .message_bytes = cost_message_bytes(FLOW_DISPATCH, r->dtype, r->hidden),
                        .ranks = r->ranks,
                        .ranks_per_node = per_node,
                        .relay = true,
                        .rows_recv = (double)r->tokens * r->topk};
    struct law_traffic t = {0};
    struct cost_work w;

    traffic_links(v, r, &t);
    if (in.part == LAW_RECV) {
        t.lat_ns = 0;
    } else {
        in.rows_off_node = spread * law_touched(r->experts, per_rank * per_node, r->topk);
        in.rows_sent = copies + in.rows_off_node;
        t.nic_bytes = in.rows_off_node * in.message_bytes;
        t.local_bytes = copies / per_node * in.message_bytes;
        t.nvlink_bytes = copies * in.message_bytes - t.local_bytes;
    }
    if (in.part == LAW_SEND)
        t.lat_ns = t.nic_bytes = 0;
    law_ll_dispatch(v, &in, &w);
    return law_alone_ns(&w, &t);
}

static double normal_ns(const double *v, const struct data_row *r)
{
    bool back = r->law == DATA_NORMAL_COMBINE;
    int nodes = r->nodes > 0 ? r->nodes : 1, per_node = r->ranks / nodes;
    double per_rank = (double)r->experts / r->ranks;
    struct law_normal in = {.combine = back,
                            .sms = sms_of(v, r),
                            .tokens = r->tokens,
                            .hidden = r->hidden,
                            .ranks = r->ranks,
                            .ranks_per_node = per_node,
                            .copy_bytes = cost_copy_bytes(back ? FLOW_COMBINE : FLOW_DISPATCH,
                                                          r->dtype, r->hidden, r->topk)};
    struct law_traffic t = {0};
    struct cost_work w;

    in.copies = r->tokens * law_touched(data_usable_experts(r), per_rank, r->topk);
    if (nodes > 1)
        in.rdma_rows = r->tokens *
                       law_touched(data_usable_experts(r), per_rank * per_node, r->topk) *
                       (nodes - 1.0) / nodes;
    traffic_links(v, r, &t);
    t.local_bytes = in.copies / per_node * in.copy_bytes;
    t.nvlink_bytes = in.copies * in.copy_bytes - t.local_bytes;
    t.nic_bytes = in.rdma_rows * in.copy_bytes;
    law_normal_work(v, &in, &w);
    return law_alone_ns(&w, &t) - (r->kernel_only ? law_normal_notify_ns(v, &in) : 0);
}

static double kernel_ns(const double *v, const struct cost_work *w)
{
    struct law_traffic t = {.hbm_GBps = law_hbm_GBps(v)};

    return law_alone_ns(w, &t);
}

/* Rows of the first draw with each group padded to 128: what the contiguous layout holds. */
static int aligned_rows(const struct data_row *r)
{
    int64_t rows = 0;

    for (int i = 0; i < r->num_local; i++)
        rows += (r->expert_rows[i] + 127) / 128 * 128;
    return rows < 1 ? 1 : rows > INT32_MAX / 2 ? INT32_MAX / 2 : (int)rows;
}

/* The mean over the draws of the rows, all met with one tile: a masked GEMM chooses it by what its
 * caller expects, a contiguous one by all rows, which hardly differ from draw to draw. */
static double grouped_ns(const double *v, const struct data_row *r, int n, int k, int expected_m)
{
    bool contiguous = r->law == DATA_CONTIGUOUS || r->law == DATA_FFN_CONTIGUOUS;
    struct law_grouped in = {.layout = contiguous ? GEMM_CONTIGUOUS : GEMM_MASKED,
                             .dtype = r->dtype,
                             .groups = r->num_local,
                             .n = n,
                             .k = k,
                             .expected_m = expected_m,
                             .block_m = r->block_m,
                             .sustained = r->sustained,
                             .sms = sms_of(v, r),
                             .num_sms = (int)v[HW_GPU_NUM_SMS]};
    struct law_tile tile;
    double sum = 0;

    if (expected_m > 0 && in.groups > 0) {
        tile = law_deepgemm_tile(&in, contiguous ? aligned_rows(r) : expected_m);
        in.tile = &tile;
    }
    for (int d = 0; d < r->num_draws; d++) {
        struct cost_work w;

        in.rows = r->expert_rows + (size_t)d * r->num_local;
        law_grouped_work(v, &in, &w);
        sum += kernel_ns(v, &w);
    }
    return sum / r->num_draws;
}

/* 0 where the caller knows the rows of each group (tile rule 3) and states no mean. */
static int expected_rows(const struct data_row *r)
{
    return r->skew > 0 ? 0 : r->expected_m > 0 ? r->expected_m : r->rows;
}

static double act_rows_ns(const double *v, const struct data_row *r)
{
    double sum = 0;
    struct cost_work w;

    for (int i = 0; i < r->num_draws * r->num_local; i++)
        sum += r->expert_rows[i];
    law_act_work(v, sum / r->num_draws, r->num_local, r->inter, r->dtype, sms_of(v, r), &w);
    return kernel_ns(v, &w);
}

/* Rows per expert of the rank, as the callers state them. */
static int mean_rows(const struct data_row *r)
{
    double sum = 0;

    for (int i = 0; i < r->num_draws * r->num_local; i++)
        sum += r->expert_rows[i];
    return (int)fmax(ceil(sum / r->num_draws / r->num_local), 1);
}

/* Rows of all blocks of 128 of the contiguous layout, filled or not. */
static double padded_rows(const struct data_row *r)
{
    double sum = 0;

    for (int i = 0; i < r->num_draws * r->num_local; i++)
        sum += (r->expert_rows[i] + 127) / 128 * 128;
    return sum / r->num_draws;
}

/* An engine's contiguous layer: the FP8 rows of all tokens that any rank sent are read (SGLang's
 * collector hands them all over) and scattered to their experts, whose blocks of 128 rows are
 * computed whole: two GEMMs, SiLU*mul and quantisation apart; rows are gathered to all tokens. The
 * host launches the kernels one by one. */
static double contiguous_ffn_ns(const double *v, const struct data_row *r)
{
    double rows = 0, all = (double)r->tokens * r->ranks, padded = padded_rows(r);
    double gather = v[HW_ACT_GATHER_EFF] > 0 ? v[HW_ACT_GATHER_EFF] : v[HW_ACT_HBM_EFF];
    double act_bytes = padded * r->inter * 9, moved_bytes, ns = v[HW_GROUPED_START_US] * 1e3;

    for (int i = 0; i < r->num_draws * r->num_local; i++)
        rows += r->expert_rows[i];
    rows /= r->num_draws;
    moved_bytes = (all + rows) * r->hidden * 3;
    ns += act_bytes / (v[HW_ACT_HBM_EFF] * v[HW_GPU_HBM_GBPS]) +
          moved_bytes / (gather * v[HW_GPU_HBM_GBPS]);
    ns += grouped_ns(v, r, 2 * r->inter, r->hidden, mean_rows(r)) +
          grouped_ns(v, r, r->hidden, r->inter, mean_rows(r));
    return law_corner(ns, v[HW_GROUPED_HOST_US] * 1e3, HOST_CORNER);
}

static double ffn_ns(const double *v, const struct data_row *r)
{
    int expected = mean_rows(r);

    if (r->law == DATA_FFN_CONTIGUOUS)
        return contiguous_ffn_ns(v, r);
    return grouped_ns(v, r, 2 * r->inter, r->hidden, expected) + act_rows_ns(v, r) +
           grouped_ns(v, r, r->hidden, r->inter, expected) + 2e3 * v[HW_LAUNCH_GRAPH_GAP_US] +
           v[HW_GROUPED_ENGINE_US] * 1e3;
}

enum law_dense_dtype predict_dense_dtype(enum data_law law)
{
    return law == DATA_DENSE_BF16    ? LAW_DENSE_BF16
           : law == DATA_DENSE_FP8   ? LAW_DENSE_FP8
           : law == DATA_DENSE_NVFP4 ? LAW_DENSE_NVFP4
                                     : LAW_DENSE_FP8_BLOCK;
}

static double dense_ns(const struct predictor *p, const struct data_row *r)
{
    const double *v = p->v;
    enum law_dense_dtype dtype = predict_dense_dtype(r->law);
    struct law_dense in = {.dtype = dtype,
                           .table = p->dense[dtype],
                           .m = r->rows,
                           .n = r->n,
                           .k = r->k,
                           .sms = sms_of(v, r),
                           .num_sms = (int)v[HW_GPU_NUM_SMS],
                           .quantise = r->quantised};
    struct cost_work w;

    law_dense_work(v, &in, &w);
    return kernel_ns(v, &w);
}

static double act_ns(const double *v, const struct data_row *r)
{
    struct cost_work w;

    law_act_work(v, (double)r->rows * r->groups, r->groups, r->inter, r->dtype, sms_of(v, r), &w);
    return kernel_ns(v, &w);
}

/* Decode: a few tokens over a long cache. */
static double attn_core_ns(const double *v, const struct data_row *r)
{
    struct law_attn in = {.rows = r->rows,
                          .context = r->tokens,
                          .heads = r->groups,
                          .qk_dim = r->k,
                          .v_dim = r->n,
                          .kv_bytes = r->bytes,
                          .sms = sms_of(v, r),
                          .num_sms = (int)v[HW_GPU_NUM_SMS]};
    struct cost_work w;

    law_attn_work(v, &in, &w);
    return kernel_ns(v, &w);
}

static double attn_side_ns(const double *v, const struct data_row *r)
{
    struct cost_work w = {.hbm_GBps = v[HW_GPU_HBM_GBPS],
                          .head = {.fixed_ns = v[HW_ATTN_NORM_US] * 1e3}};

    law_stream_add(v, r->bytes, sms_of(v, r), &w);
    return kernel_ns(v, &w);
}

static double push_ns(const double *v, const struct data_row *r)
{
    return 1e3 * (v[HW_NET_NVLINK_LAT_US] + v[HW_NET_PUSH_FIXED_US]) +
           r->bytes / cost_saturate(sms_of(v, r) * v[HW_NET_PUSH_SM_GBPS], law_nvlink_GBps(v));
}

/* How much slower all rounds of a part of an exchange are beside the gate+up GEMM. */
static double stretch_ratio(const double *v, const struct data_row *r)
{
    bool back = strcmp(r->coll, "combine") == 0;
    int first = back ? HW_INTERFERENCE_COMB_SEND : HW_INTERFERENCE_DISP_SEND;
    int sms = (int)v[HW_GPU_NUM_SMS] - r->num_sms, mean = r->rows;
    struct law_grouped in = {.layout = GEMM_MASKED,
                             .dtype = DTYPE_FP8,
                             .rows = r->expert_rows,
                             .groups = r->num_local,
                             .n = 2 * r->inter,
                             .k = r->hidden,
                             .expected_m = mean + mean / 4 + 1,
                             .sms = sms,
                             .num_sms = (int)v[HW_GPU_NUM_SMS]};
    struct data_row one = *r;
    struct cost_work gemm;
    double slow, alone = 0, beside = 0;

    law_grouped_work(v, &in, &gemm);
    slow = law_latency_stretch(v, v[first + (r->part == DATA_RECV)], sms,
                               (gemm.head.hbm_bytes + gemm.tail.hbm_bytes) / kernel_ns(v, &gemm));
    one.dtype = back ? DTYPE_BF16 : DTYPE_FP8;
    for (one.round = 0; one.round < (r->rounds > 1 ? 2 : 1); one.round++) {
        double times = one.round ? r->rounds - 1 : 1;

        alone += times * low_latency_ns(v, &one, back, 1);
        beside += times * low_latency_ns(v, &one, back, slow);
    }
    return beside / alone;
}

/* Slowed by `slow` for as long as the other ran: what it did meanwhile would have taken less. */
static double beside_us(const struct data_row *r, double slow)
{
    return r->overlap_us > 0 ? r->alone_us + r->overlap_us * (1 - 1 / slow) : r->alone_us * slow;
}

static double peo_slow(const double *v, const struct data_row *r, int field)
{
    return law_interference_ll(v, v[field], law_ll_grid(r->experts / r->rounds, sms_of(v, r)),
                               r->unpaired && field == HW_INTERFERENCE_LL_DISP_SEND);
}

static double peo_send_ns(const double *v, const struct data_row *r, bool back)
{
    int field = back ? HW_INTERFERENCE_LL_COMB_SEND : HW_INTERFERENCE_LL_DISP_SEND;

    return low_latency_ns(v, r, back, 1) * (1 + r->beside * (peo_slow(v, r, field) - 1));
}

/* Whether a send's clusters find pairs of SMs beside a GEMM differs from rank to rank: the slowest
 * of them does not. A receive that begins earlier waits for it. */
static double peo_dispatch_recv_ns(const double *v, const struct data_row *r)
{
    double alone = low_latency_ns(v, r, false, 1);
    double beside = low_latency_ns(v, r, false, peo_slow(v, r, HW_INTERFERENCE_LL_DISP_RECV));
    double ns = alone + r->beside * (beside - alone);
    struct data_row send = *r;

    if (!(r->since_us > 0))
        return ns;
    send.part = DATA_SEND;
    send.unpaired = true;
    send.beside = r->send_beside;
    return ns + fmax(peo_send_ns(v, &send, false) - r->since_us * 1e3, 0);
}

/* How long a rank waits on average for the slowest one behind all GEMMs of a layer: the rows of a
 * rank are one draw, those of the slowest rank the largest of as many draws as there are ranks. */
static double peo_slowest_ns(const double *v, const struct data_row *r)
{
    double ns[DRAWS_MAX], mean = 0, most = 0;
    int draws = r->num_draws < DRAWS_MAX ? r->num_draws : DRAWS_MAX;
    struct data_row one = *r;

    one.num_draws = 1;
    one.num_local = r->groups;
    one.num_sms = r->gemm_sms;
    one.dtype = DTYPE_FP8;
    for (int d = 0; d < draws; d++) {
        ns[d] = 0;
        for (int first = 0; first + r->groups <= r->num_local; first += r->groups) {
            one.expert_rows = r->expert_rows + (size_t)d * r->num_local + first;
            ns[d] += grouped_ns(v, &one, 2 * r->inter, r->hidden, r->rows) +
                     grouped_ns(v, &one, r->hidden, r->inter, r->rows);
        }
        mean += ns[d] / draws;
    }
    gsl_sort(ns, 1, (size_t)draws);
    for (int d = 0; d < draws; d++)
        most += ns[d] * (pow((d + 1.0) / draws, r->ranks) - pow((double)d / draws, r->ranks));
    return most - mean;
}

/* A kernel of a PEO layer: what it takes alone, and more while others run beside it. */
static double peo_ns(const double *v, const struct data_row *r)
{
    bool back = strncmp(r->coll, "combine", 7) == 0;
    double slow = 1 + r->beside * (v[HW_INTERFERENCE_COMPUTE] - 1);

    if (strcmp(r->coll, "dispatch_recv") == 0)
        return peo_dispatch_recv_ns(v, r);
    if (r->part == DATA_SEND)
        return peo_send_ns(v, r, back);
    if (back)
        return low_latency_ns(v, r, true, 1) + (r->gemm_sms > 0 ? peo_slowest_ns(v, r) : 0);
    if (r->num_draws == 0)
        return act_ns(v, r) * slow;
    slow *= r->beside_ctas > 0 ? law_interference_place(v, r->beside_ctas) : 1;
    return grouped_ns(v, r, r->n, r->k, r->rows) * slow;
}

static double router_ns(const double *v, const struct data_row *r)
{
    struct cost_work w = {.hbm_GBps = v[HW_GPU_HBM_GBPS]};

    law_topk_add(v, r->tokens, sms_of(v, r), &w);
    return kernel_ns(v, &w);
}

/* The rows of one round; a combine's last adds up those of all. */
static double a2a_ns(const double *v, const struct data_row *r)
{
    double rows = (double)r->tokens * r->topk, round = rows / r->rounds;
    bool back = strcmp(r->coll, "combine") == 0, last = r->round + 1 >= r->rounds;
    struct law_a2a in = {sms_of(v, r), r->hidden, round, !back ? round : last ? rows : 0};
    struct cost_work w;

    law_a2a_work(v, &in, &w);
    return w.head.fixed_ns + w.head.sm_ns + r->bytes / w.push_GBps + w.tail.sm_ns;
}

static double copy_ns(const double *v, const struct data_row *r)
{
    return 1e3 * v[HW_GPU_COPY_FIXED_US] +
           r->bytes / fmin(sms_of(v, r) * v[HW_GPU_SM_HBM_GBPS], law_hbm_GBps(v));
}

/* The source deals a token's experts out evenly: as many ranks as there are experts, if there are.
 */
static double a2a_nvl_ns(const double *v, const struct data_row *r)
{
    double touched = fmin(r->topk, r->ranks), peers = touched * (1 - 1.0 / r->ranks);
    struct law_nvl in = {.op = (enum law_nvl_op)law_nvl_find(r->coll),
                         .sms = sms_of(v, r),
                         .ranks = r->ranks,
                         .tokens = r->tokens,
                         .peer_rows = r->tokens * peers,
                         .row_bytes = r->bytes};
    struct cost_work w;

    law_nvl_work(v, &in, &w);
    return w.head.fixed_ns + w.issue_ns;
}

/* sglang 0.5.10 runs pull 316's rules. */
/* Rows from the order of arrival to that of their experts, and partial sums back: one copy of a
 * token on each rank that it needs. */
static double permutes_ns(const double *v, const struct data_row *r)
{
    double rows = 0, copies = r->tokens * law_touched(r->experts, (double)r->num_local, r->topk);
    enum plan_op_kind kinds[] = {OP_PERMUTE, OP_UNPERMUTE};
    double ns = 0;

    for (int i = 0; i < r->num_draws * r->num_local; i++)
        rows += (double)r->expert_rows[i] / r->num_draws;
    for (int i = 0; i < 2; i++) {
        struct cost_work w;

        law_gather_work(v, rows, cost_permute_bytes(kinds[i], copies, rows, r->dtype, r->hidden),
                        sms_of(v, r), &w);
        ns += kernel_ns(v, &w);
    }
    return ns;
}

/* Dispatch, two grouped GEMMs around SiLU*mul and quantisation, combine: the kernels, the gaps
 * between them, and what a host that launches them one by one takes in front of an expert layer, as
 * engines' layers of the same layout show it. */
static double split_ns(const double *v, const struct data_row *r)
{
    bool ll = strcmp(r->coll, "low_latency") == 0;
    struct data_row part = *r, back = *r;
    int expected = mean_rows(r), kernels = ll ? 5 : 7;
    double ns = 1e3 * ((kernels - 1) * v[HW_LAUNCH_GRAPH_GAP_US] +
                       v[ll ? HW_GROUPED_ENGINE_US : HW_GROUPED_START_US]);

    back.dtype = DTYPE_BF16;
    part.law = ll ? DATA_FFN : DATA_FFN_CONTIGUOUS;
    back.law = DATA_NORMAL_COMBINE;
    ns += grouped_ns(v, &part, 2 * r->inter, r->hidden, expected) + act_rows_ns(v, r) +
          grouped_ns(v, &part, r->hidden, r->inter, expected);
    part.law = DATA_NORMAL_DISPATCH;
    if (ll)
        return ns + low_latency_ns(v, r, false, 1) + low_latency_ns(v, &back, true, 1);
    part.num_sms = back.num_sms = NORMAL_SMS;
    return ns + normal_ns(v, &part) + permutes_ns(v, r) + normal_ns(v, &back);
}

static double mega_ns(const double *v, const struct data_row *r)
{
    double sum = 0;

    for (int d = 0; d < r->num_draws; d++) {
        struct law_mega in = {.rules = (enum law_mega_rules)r->mega_rules,
                              .dtype = r->dtype,
                              .rows = r->expert_rows + d * r->num_local,
                              .local = r->num_local,
                              .experts = r->experts,
                              .hidden = r->hidden,
                              .inter = r->inter,
                              .topk = r->topk,
                              .tokens = r->tokens,
                              .ranks = r->ranks,
                              .sms = sms_of(v, r),
                              .num_sms = (int)v[HW_GPU_NUM_SMS]};

        sum += law_mega_alone_ns(v, &in);
    }
    sum /= r->num_draws;
    return r->kernel_only ? sum - 1e3 * v[HW_MEGA_AROUND_US] : sum;
}

static double collective_ns(const struct predictor *p, const struct data_row *r)
{
    bool outside, assumed;
    double ns;

    if (cost_coll_nodes_ns(p->profile, r->coll, r->ranks, r->nodes > 1 ? r->nodes : 1, r->bytes,
                           &ns, &outside, &assumed))
        return NAN;
    return ns;
}

static double row_us(const struct predictor *p, const struct data_row *r)
{
    const double *v = p->v;

    switch (r->law) {
    case DATA_LL_DISPATCH:
    case DATA_LL_COMBINE:
        return low_latency_ns(v, r, r->law == DATA_LL_COMBINE, 1) / 1e3;
    case DATA_LL_LAYERED:
        return layered_ns(v, r) / 1e3;
    case DATA_NORMAL_DISPATCH:
    case DATA_NORMAL_COMBINE:
        return normal_ns(v, r) / 1e3;
    case DATA_MASKED:
    case DATA_CONTIGUOUS:
        return grouped_ns(v, r, r->n, r->k, expected_rows(r)) / 1e3;
    case DATA_FFN:
    case DATA_FFN_CONTIGUOUS:
        return ffn_ns(v, r) / 1e3;
    case DATA_FFN_FUSED:
        return predict_fused_us(p->profile, v, r);
    case DATA_DENSE_BF16:
    case DATA_DENSE_FP8:
    case DATA_DENSE_BLOCK:
    case DATA_DENSE_NVFP4:
        return dense_ns(p, r) / 1e3;
    case DATA_COLLECTIVE:
        return collective_ns(p, r) / 1e3;
    case DATA_ACT:
        return act_ns(v, r) / 1e3;
    case DATA_PUSH:
        return push_ns(v, r) / 1e3;
    case DATA_HBM_COPY:
        return copy_ns(v, r) / 1e3;
    case DATA_GRAPH_GAP:
        return v[HW_LAUNCH_GRAPH_GAP_US];
    case DATA_CROSS_GAP:
        return v[HW_LAUNCH_GRAPH_GAP_US] + v[HW_LAUNCH_CROSS_STREAM_US];
    case DATA_EAGER_LAUNCH:
        return v[HW_LAUNCH_EAGER_US];
    case DATA_FLAG:
        return 2 * v[HW_NET_NVLINK_LAT_US];
    case DATA_INTERFERENCE:
        return strcmp(r->coll, "comm") == 0
                   ? r->alone_us * law_interference_comm(v, r->experts, r->num_sms)
                   : beside_us(r, v[HW_INTERFERENCE_COMPUTE]);
    case DATA_A2A_BESIDE:
        return strcmp(r->coll, "comm") == 0 ? r->alone_us * v[HW_INTERFERENCE_A2A]
                                            : beside_us(r, v[HW_INTERFERENCE_A2A_COMPUTE]);
    case DATA_STRETCH:
        return r->alone_us * stretch_ratio(v, r);
    case DATA_PEO:
        return peo_ns(v, r) / 1e3;
    case DATA_ROUTER:
        return router_ns(v, r) / 1e3;
    case DATA_A2A:
        return a2a_ns(v, r) / 1e3;
    case DATA_DEDUP_DISPATCH:
    case DATA_DEDUP_COMBINE:
        return dedup_ns(v, r) / 1e3;
    case DATA_A2A_NVL:
        return a2a_nvl_ns(v, r) / 1e3;
    case DATA_MEGA:
        return mega_ns(v, r) / 1e3;
    case DATA_SPLIT:
        return split_ns(v, r) / 1e3;
    case DATA_ATTN_CORE:
        return attn_core_ns(v, r) / 1e3;
    case DATA_ATTN_SIDE:
        return attn_side_ns(v, r) / 1e3;
    case DATA_ATTN_GQA:
    case DATA_ATTN_MLA:
    case DATA_ATTN_SPARSE:
    case DATA_ATTN_STATE:
        return predict_attn_us(p->profile, v, r);
    default:
        return NAN;
    }
}

double predict_us(const struct predictor *p, const struct data_row *r)
{
    struct predictor other;

    if (!(r->nic_GBps > 0))
        return row_us(p, r);
    other = *p; /* measured with other NICs than the profile's */
    other.v[HW_NET_NIC_GBITPS] = 8 * r->nic_GBps;
    other.v[HW_NET_NICS_PER_GPU] = 1;
    return row_us(&other, r);
}

bool predict_variable(const struct data_row *r, int i, const char **name, double *value)
{
    const struct {
        const char *name;
        double value;
    } all[] = {{"tokens", r->tokens}, {"hidden", r->hidden}, {"experts", r->experts},
               {"topk", r->topk},     {"ranks", r->ranks},   {"num_sms", r->num_sms},
               {"rounds", r->rounds}, {"groups", r->groups}, {"rows", r->rows},
               {"n", r->n},           {"k", r->k},           {"inter", r->inter}};

    if (i >= (int)(sizeof all / sizeof *all))
        return false;
    *name = all[i].name;
    *value = all[i].value;
    return true;
}

bool predict_outside(const struct hw_profile *profile, const struct data_row *row)
{
    const char *name;
    double value;

    for (int i = 0; predict_variable(row, i, &name, &value); i++) {
        const struct hw_range *r = hw_range_find(profile, data_law_name(row->law), name);

        if (r && value > 0 && (value < r->min || value > r->max))
            return true;
    }
    return false;
}
