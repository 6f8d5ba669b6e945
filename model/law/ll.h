/* model/law/ll.h: low-latency dispatch and combine, and the normal (high-throughput) kernels.
 *
 * Low latency (DeepEP's kernels at 92fe2de). A dispatch CTA takes tokens one after another:
 * after another: looks at the chosen experts, casts (first round only), and its warps store one
 * message each. So its push rate is (message bytes of a token)/(time of a token), over all CTAs
 * saturating at the NVLink share; tokens without an expert in the round still cost a look. A
 * combine CTA pushes at a fixed rate. Receives copy or reduce through HBM.
 *
 * Layered dispatch (DeepEP pull 500): one copy of a token per node, over the NIC to the rank of the
 * same index, whose warps forward it to the experts' ranks as it comes; counts go by node, so no
 * flags of far experts. A receive of its own finds the copies there and forwards them first. */
#ifndef PEOSIM_MODEL_LAW_LL_H
#define PEOSIM_MODEL_LAW_LL_H

#include "model/law/law.h"

enum law_part { LAW_FUSED, LAW_SEND, LAW_RECV };

struct law_ll {
    enum law_part part;
    int sms, num_sms; /* asked for; on the GPU */
    int experts;      /* of all ranks, in this round */
    int num_rounds;
    bool cast;  /* this send casts BF16 to the message's dtype */
    int tokens; /* per rank */
    int topk, hidden;
    int message_bytes;
    int ranks, ranks_per_node;
    double rows_sent;     /* messages this rank sends in this round, local ones included */
    double rows_off_node; /* of these, to other nodes */
    double rows_recv;     /* dispatch: messages that arrive; combine: over all rounds */
    bool relay;           /* layered dispatch: rows_sent are copies, forwarded ones included */
    double hot_rows;      /* dispatch: most of them for one expert from one rank; 0: not known */
};

/* CTAs of a kernel over `experts` experts when `sms` are asked for: warp groups per CTA
 * wg = ceil(experts/sms), CTAs = ceil(experts/wg). */
int law_ll_grid(int experts, int sms);
/* The combine receive's grid also covers the tokens: max(that, ceil(T/ceil(T/sms))). */
int law_ll_combine_grid(int experts, int tokens, int sms);

/* By LL_KERNEL_RULE DeepEP's kernels, or the validator's own. */
void law_ll_dispatch(const double *v, const struct law_ll *in, struct cost_work *out);
void law_ll_combine(const double *v, const struct law_ll *in, struct cost_work *out);

/* The validator's own exchange without duplicates (kernels/dedup.h), both ways. */
struct law_dedup {
    bool combine;
    int sms, tokens, topk, ranks, hidden;
    double copies;     /* sent, those to the rank itself included */
    double rows;       /* of the rank's experts: what copies are spread to, or sums made of */
    double copy_bytes; /* of one copy, back: of one sum */
};
void law_own_dedup(const double *v, const struct law_dedup *in, struct cost_work *out);

/* model/law/own.c: the validator's own (kernels/). */
void law_own_dispatch(const double *v, const struct law_ll *in, struct cost_work *out);
void law_own_combine(const double *v, const struct law_ll *in, struct cost_work *out);

/* Normal (high-throughput) kernels: num_sms SMs throughout; an SM spends time per token and per
 * copy; copies are deduplicated, notify and barrier kernels run in front. */
struct law_normal {
    bool combine;
    int sms, tokens, hidden;
    int ranks, ranks_per_node;
    double copies;     /* of this rank's tokens to ranks, itself included, over NVLink or local */
    double rdma_rows;  /* copies to other nodes over the NIC */
    double copy_bytes; /* of one copy */
};
void law_normal_work(const double *v, const struct law_normal *in, struct cost_work *out);
/* The notify and barrier kernels' part of it; 0 on one node, where the data count them inside. */
double law_normal_notify_ns(const double *v, const struct law_normal *in);

/* SM time of all tokens and copies of this rank on its SMs. */
double law_normal_sm_ns(const double *v, const struct law_normal *in);

/* Expected number of bins (ranks, nodes) that a token touches when its topk of `total` experts are
 * drawn without repeats and lie in bins of `per` each: bins * (1 - C(total-per, k)/C(total, k)). */
double law_touched(double total, double per, int topk);

/* Library all-to-all with `sms` CTAs, between kernels as large that pack and unpack rows. */
struct law_a2a {
    int sms, hidden;
    double rows_packed, rows_unpacked; /* gathered before it, scattered or summed behind it */
};
void law_a2a_work(const double *v, const struct law_a2a *in, struct cost_work *out);

#endif
