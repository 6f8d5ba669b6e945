/* calib/fit_dense.h: tables of what the laws of dense GEMMs leave of their measurements. */
#ifndef PEOSIM_CALIB_FIT_DENSE_H
#define PEOSIM_CALIB_FIT_DENSE_H

#include "calib/fit.h"

/* One table "dense.<dtype>" per dtype with rows enough (model/law/dense_table.h): factors by robust
 * least squares on the logarithm of measured over predicted, neighbours held together. Errors in
 * the report: in sample, and with options->cv on shapes (n, k) and on m left out, a fifth at a
 * time; the law under the table is the one fitted to all rows. ERR_NOMEM. */
int fit_dense(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
              const struct fit_options *options, struct fit_report *report);

#endif
