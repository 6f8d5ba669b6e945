/* model/law/cost_range.h: is an op inside the range that its law was fitted in? */
#ifndef PEOSIM_MODEL_LAW_COST_RANGE_H
#define PEOSIM_MODEL_LAW_COST_RANGE_H

#include "hw/profile.h"
#include "plan/plan.h"

/* True when op lies outside a range stored in the profile; why (may be NULL) then says so, as in
 * "ll_dispatch was fitted for tokens 1..1024, here 4096". Ops whose law has no stored range (never
 * fitted on this profile) answer false: they are marked as assumed instead. */
bool cost_range_outside(const struct hw_profile *profile, const struct plan *plan, int op,
                        char *why, size_t size);

#endif
