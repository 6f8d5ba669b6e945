/* serve/fit.h: engine parameters from measured deployments.
 *
 * Robust least squares (soft-L1 loss) on log(predicted/measured): first one set of parameters for
 * all engines together, then each engine's own with a prior at those, so that what an engine's rows
 * do not determine is what engines have in common. TPOT decides all but the three that TTFT alone
 * depends on, which are fitted behind. */
#ifndef PEOSIM_SERVE_FIT_H
#define PEOSIM_SERVE_FIT_H

#include "serve/judge.h"

/* left_out: rows of this group (by) are not looked at; NULL = all are. Rows that do not state their
 * configuration never are. drafts and source of out[] are kept. ERR_FIT, ERR_NOMEM. */
int serve_fit(const struct judged *j, enum judge_by by, const char *left_out,
              struct engine out[SERVE_ENGINES]);

/* Predicts every row with parameters fitted without its group; by: JUDGE_MODEL (versions of one
 * architecture count as one), JUDGE_SYSTEM, ... */
int serve_cross_validate(struct judged *j, enum judge_by by);

#endif
