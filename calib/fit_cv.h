/* calib/fit_cv.h: how wrong a law is on groups of rows that it was not fitted to. */
#ifndef PEOSIM_CALIB_FIT_CV_H
#define PEOSIM_CALIB_FIT_CV_H

#include "calib/problem.h"

/* Sets out->unseen for each cross-validation of the law. ERR_NOMEM. */
int fit_cross_validate(const struct hw_profile *p, const struct fit_law *law,
                       struct data_set *const *sets, size_t num_sets, struct fit_result *out);

#endif
