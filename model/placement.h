/* model/placement.h: which expert lives on which GPU: in order, or packed by load with copies of
 * the most loaded experts, as DeepSeek's EPLB does (its hierarchical rule where groups of experts
 * fit onto nodes: groups to nodes, copies within a node, experts to GPUs; else one flat packing).
 */
#ifndef PEOSIM_MODEL_PLACEMENT_H
#define PEOSIM_MODEL_PLACEMENT_H

#include "plan/plan.h"

enum placement_kind { PLACEMENT_LINEAR, PLACEMENT_BALANCED };

struct placement_spec {
    enum placement_kind kind;
    int experts, redundant; /* logical experts; copies beside them, over all ranks */
    int ranks, ranks_per_node, n_group;
};

struct placement {
    int experts, physical; /* physical = experts + redundant; slots / ranks of them on each rank */
    int *replica_first;    /* [experts + 1] */
    int *replica;          /* [physical]: slots of expert e stand at replica_first[e].. */
    double *slot_load;     /* [physical]: the expert's load over its copies */
};

/* loads[experts] >= 0: rows of each expert in the past; ignored by linear. ERR_CONFIG, logged:
 * slots that the ranks do not divide, redundant experts without a balanced placement; ERR_NOMEM.
 * The caller frees with placement_free. */
int placement_make(const struct placement_spec *spec, const double *loads, struct placement **out);
void placement_free(struct placement *p); /* accepts NULL */

/* Heaviest rank over the mean, by slot_load; 1 when there is no load. */
double placement_imbalance(const struct placement *p, int ranks);

/* Rows of every logical expert in a routing table, into loads[r->experts]. */
void placement_loads(const struct plan_routing *r, double *loads);

#endif
