/* plan/cost.h: what a simulator asks about an op. Implemented by model/ from a hardware profile and
 * handed to sim/ by the caller, so that sim/ knows rates and bytes but neither MoE nor profiles.
 *
 * An op with its grid resident runs these parts one after another:
 *   head   its own work before it sends (walk over tokens, quantise; a GEMM has all its work here)
 *   issue  sends: flows are put on the network; those that cross NVLink or stay local pass the op's
 *          own push limit (push_GBps) and hold its SMs until drained; off-node ones only need their
 *          messages posted, issue_ns
 *   wait   receives: at least poll_ns, and until every flow that it waits for was delivered
 *   tail   work on the data received (copy, reduce)
 * All times in ns, bytes in bytes, rates in GB/s = bytes/ns. */
#ifndef PEOSIM_PLAN_COST_H
#define PEOSIM_PLAN_COST_H

#include <stdbool.h>

#include "plan/plan.h"

struct cost_segment {
    double fixed_ns;  /* latency that nothing shortens (start-up, flags, barriers) */
    double sm_ns;     /* time of the SMs' work with the whole grid resident and HBM not the limit */
    double hbm_bytes; /* bytes it moves through HBM; takes at least hbm_bytes / its HBM share */
};

struct cost_work {
    int grid; /* CTAs launched, one per SM; 1..op.sms */
    struct cost_segment head, tail;
    double issue_ns;   /* sends: SM time to post all off-node messages */
    double push_GBps;  /* sends: most that these SMs store to local and NVLink peers */
    double cap_GBps;   /* sends: beside it what nothing that runs beside slows; 0: no such limit */
    double local_GBps; /* of what it stores to its own GPU, instead of cap_GBps; 0: no difference */
    double cap_corner; /* how sharply the two meet: (a^-c + b^-c)^(-1/c); 0: 4 */
    double poll_ns;    /* receives: time to see that the data has come */
    double hbm_GBps;   /* most HBM bandwidth that these SMs draw, > 0 */
    int waves; /* GEMM: passes of tiles over the grid (units get ready at their ends), >= 1 */
    double flops;
    bool rendezvous; /* collective: begins only when every rank of its group has started it */
    bool assumed;    /* rests on profile fields without data */
    bool slow_fixed; /* fixed times and polls are memory latencies: interference slows them too */
};

/* What the work of an op's rows takes at least, cut into however many kernels of any part of its
 * experts, each on any number of SMs: what no order, overlap or split of SMs can save. */
struct cost_least {
    double sm_ns;     /* time of one SM: SMs held times ns, without fixed times */
    double hbm_bytes; /* through HBM */
    double fixed_ns;  /* of each such kernel, before any of its work is done */
};

struct cost {
    void *self;             /* passed back; owned by whoever made the cost */
    double hbm_GBps;        /* what the GPU's HBM delivers to all ops together */
    double graph_gap_ns;    /* between two kernels of one stream in a CUDA graph */
    double cross_stream_ns; /* extra when the dependency comes from another stream */
    double eager_launch_ns; /* host time per launch without a graph */
    /* Is there a law for every op of the plan? Else an error that names the kind, logged. May be
     * NULL: there is. */
    int (*check)(void *self, const struct plan *plan);
    /* The work of op on rank when it asks for op.sms SMs. Pure: same arguments, same answer. */
    void (*work)(void *self, const struct plan *plan, int rank, int op, struct cost_work *out);
    /* The least that an expert op (plan_op_is_expert_work) takes of rank. May be NULL. */
    void (*least)(void *self, const struct plan *plan, int rank, int op, struct cost_least *out);
    /* By how much `op` of rank is slowed (>= 1) on its SM side while `other` runs beside it. */
    double (*interference)(void *self, const struct plan *plan, int rank, int op, int other);
    /* The same from its start to its end, because `other` held SMs when it started. May be NULL:
     * nothing is. */
    double (*placement)(void *self, const struct plan *plan, int rank, int op, int other);
};

/* What a send slowed by `slow` (>= 1) pushes, over both its limits. Infinite where it states none.
 */
double cost_push_GBps(const struct cost_work *w, double slow);
/* cap_GBps where `local_share` of what is stored stays on the GPU: one after the other. */
double cost_cap_GBps(const struct cost_work *w, double local_share);
/* a limited by b without a corner: (a^-4 + b^-4)^(-1/4). Both > 0. */
double cost_saturate(double a, double b);

#endif
