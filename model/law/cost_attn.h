/* model/law/cost_attn.h: attention ops of a plan by the law of the nearest measured family. */
#ifndef PEOSIM_MODEL_LAW_COST_ATTN_H
#define PEOSIM_MODEL_LAW_COST_ATTN_H

#include "model/law/attn_family.h"

/* The work of OP_ATTN_PROJ, OP_ATTN_CORE or OP_ATTN_OUT. Where a family measured whole modules,
 * all three are its parts: projections and fixed time by the weights in front of the core and
 * behind it. False: no family holds this op; the laws of dense GEMMs and the roofline remain. Sets
 * out->assumed where data are of another GPU, type or width. */
bool cost_attn_work(const double *v, const struct law_attn_families *f, const struct plan *plan,
                    const struct plan_op *op, struct cost_work *out);

/* The family that prices the op, or NULL. */
const struct law_attn_family_entry *cost_attn_family(const struct law_attn_families *f,
                                                     const struct plan *plan,
                                                     const struct plan_op *op,
                                                     struct law_attn_load *load, bool *stands_in);

#endif
