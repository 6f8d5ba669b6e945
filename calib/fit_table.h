/* calib/fit_table.h: measured curves that no law follows become tables of the profile. */
#ifndef PEOSIM_CALIB_FIT_TABLE_H
#define PEOSIM_CALIB_FIT_TABLE_H

#include "calib/fit.h"

/* One table "nccl.<collective>.<ranks>" per curve, made monotone (pool adjacent violators) so that
 * noise cannot make a larger transfer faster. Errors in the report: every second point left out and
 * interpolated. ERR_NOMEM. */
int fit_tables(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
               const struct fit_options *options, struct fit_report *report);

#endif
