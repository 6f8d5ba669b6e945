/* model/law/cost_coll.h: collectives from measured tables. NCCL's curves are no line, so they are
 * interpolated in log-log, labelled as tables in the profile. */
#ifndef PEOSIM_MODEL_LAW_COST_COLL_H
#define PEOSIM_MODEL_LAW_COST_COLL_H

#include "hw/profile.h"
#include "plan/cost.h"

/* "nccl.all_gather.8"; an engine's own all-reduce ("ar_sglang") is "allreduce.sglang.8". */
void cost_coll_table(const char *name, int ranks, char *buf, size_t size);
/* Time of a collective on `ranks` GPUs of one node, by the tables of the profile that
 * cost_coll_table names; rank counts between two tables are interpolated. bytes as nccl-tests' -b
 * counts them. ERR_NOTFOUND when the profile has no such table. *outside: beyond the table's ends.
 */
int cost_coll_ns(const struct hw_profile *p, const char *name, int ranks, double bytes, double *ns,
                 bool *outside, bool *assumed);
/* The same over `nodes` nodes: inside a node as there, then a ring over all NICs of the nodes. */
int cost_coll_nodes_ns(const struct hw_profile *p, const char *name, int ranks, int nodes,
                       double bytes, double *ns, bool *outside, bool *assumed);
void cost_coll_work(const struct hw_profile *p, const struct plan *plan, const struct plan_op *op,
                    struct cost_work *out);

#endif
