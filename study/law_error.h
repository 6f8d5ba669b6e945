/* study/law_error.h: a law's own error, drawn: the fields `error.*` of a profile, 1 but in draws.
 */
#ifndef PEOSIM_STUDY_LAW_ERROR_H
#define PEOSIM_STUDY_LAW_ERROR_H

#include "hw/profile.h"
#include "plan/cost.h"

/* All that the op itself takes, by the error field of the law that prices it; links stay. */
void law_error_apply(const struct hw_profile *p, const struct plan_op *op, struct cost_work *w);

#endif
