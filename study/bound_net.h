/* study/bound_net.h: what the exchanges of one layer put on the links at least: for study/bound.c.
 */
#ifndef PEOSIM_STUDY_BOUND_NET_H
#define PEOSIM_STUDY_BOUND_NET_H

#include "plan/plan.h"
#include "sim/topology.h"

/* In the order of enum bound_by from BOUND_NIC_OUT on. */
enum { BOUND_LINK_NIC_OUT, BOUND_LINK_NIC_IN, BOUND_LINK_NVL_OUT, BOUND_LINK_NVL_IN, BOUND_LINKS };

/* The busiest link of a kind: how long the rows of the combine alone, and of both exchanges, keep
 * it, and a rank on it. */
struct bound_link {
    double combine_ns, both_ns, latency_ns;
    int combine_rank, both_rank;
};

struct bound_net_rank {
    double first_in_ns, all_in_ns; /* rows of the expert that has come first, of all */
    double last_out_ns;            /* rows of the expert whose way back is shortest */
};

struct bound_net {
    struct bound_link link[BOUND_LINKS];
    struct bound_net_rank *rank; /* [ranks] */
    double latency_ns;           /* of the farthest peer, whom every receive waits for */
};

/* dispatch, combine: ops that begin flow groups of `plan`; batch: whose rows. rounds: experts may
 * leave one by one; signals: even tiles of an expert. ERR_NOMEM. */
int bound_net_of(const struct plan *plan, const struct sim_topology_cfg *topo, bool rounds,
                 bool signals, int batch, struct bound_net *out);
void bound_net_free(struct bound_net *n);

#endif
