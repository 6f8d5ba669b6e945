/* plan/counts.h: what follows from a routing table, counted once: rows by source rank and expert of
 * a slice of the batch, and copies where several experts of a rank or node share one. All layers
 * and half batches of a plan, and all plans made over one table, ask for the same few of these. */
#ifndef PEOSIM_PLAN_COUNTS_H
#define PEOSIM_PLAN_COUNTS_H

#include "plan/plan.h"

/* Counts kept for reuse; one thread at a time. */
struct plan_counts;

/* NULL if there is no memory. plan_counts_free accepts NULL. */
struct plan_counts *plan_counts_new(void);
void plan_counts_free(struct plan_counts *c);

/* Sets b->prefix and b->rows, which stay the counts' own. 0 or ERR_NOMEM. */
int plan_counts_rows(struct plan_counts *c, int experts, struct plan_batch *b);
/* Sets f->pair, f->fwd and f->copies of a deduplicated group, likewise. */
int plan_counts_copies(struct plan_counts *c, const struct plan *plan, struct plan_flow *f);
/* Bytes of tables that it holds. */
size_t plan_counts_bytes(const struct plan_counts *c);

#endif
