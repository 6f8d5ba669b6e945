/* calib/fit_rows.h: which rows a law is fitted to, and what they have in common. */
#ifndef PEOSIM_CALIB_FIT_ROWS_H
#define PEOSIM_CALIB_FIT_ROWS_H

#include "calib/problem.h"

/* The rows that the law is fitted to, into out->rows, which the caller frees. ERR_NOMEM. */
int rows_gather(const struct hw_profile *p, const struct fit_law *law, struct data_set *const *sets,
                size_t num_sets, struct problem *out);
const struct data_set *rows_set_of(struct data_set *const *sets, size_t num_sets,
                                   const struct data_row *r);
/* Do the sets hold rows of this system of any of these laws (bits of enum data_law)? */
bool rows_any_of(const struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
                 unsigned long long laws);
/* Do the rows vary in what the law needs, often enough to determine its extra parameters? */
bool rows_needs_met(const struct hw_profile *p, const struct fit_law *law,
                    struct data_set *const *sets, size_t num_sets);
/* Rows that differ in what a law predicts by, at most FIT_MAX_FIELDS. Few are asked about:
 * quadratic. */
size_t rows_count_shapes(const struct problem *q);
/* "deepep_ll.csv sha256:0123456789ab, 2026-11-21" for all files that gave rows. */
void rows_source_text(const struct problem *p, struct data_set *const *sets, size_t num_sets,
                      const char *date, char *buf, size_t size);

/* Have both rows the same key of a cross-validation? */
bool rows_key_equal(enum fit_cv cv, const struct data_row *a, const struct data_row *b);
/* Numbers the distinct keys in order of appearance; returns how many there are. ERR_NOMEM. */
int rows_number_groups(enum fit_cv cv, const struct data_row *const *rows, size_t n, int *group);

#endif
