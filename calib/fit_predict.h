/* calib/fit_predict.h: what the laws say about a measured row. */
#ifndef PEOSIM_CALIB_FIT_PREDICT_H
#define PEOSIM_CALIB_FIT_PREDICT_H

#include "hw/profile.h"
#include "calib/data.h"
#include "model/law/gemm.h"

/* The values laws are evaluated with; fits change v, tables come from the profile. */
struct predictor {
    double v[HW_FIELD_COUNT];
    const struct hw_profile *profile;
    const struct hw_table *dense[LAW_DENSE_COUNT]; /* corrections of the dense laws; NULL = none */
};
void predictor_init(struct predictor *p, const struct hw_profile *profile);
/* The same without the tables that correct laws: what laws are fitted with. */
void predictor_init_bare(struct predictor *p, const struct hw_profile *profile);

/* Of the rows of a dense GEMM. */
enum law_dense_dtype predict_dense_dtype(enum data_law law);

/* The time of a row in us, NAN where the profile has no table for it. */
double predict_us(const struct predictor *p, const struct data_row *row);

/* Does the profile predict rows of that system? Rows of "hopper" (which of the
 * two is not said) go with h100 and h200, rows that name no
 * system with every profile. A profile h200-own takes rows of h200-own. */
bool predict_system(const struct hw_profile *profile, const char *system);

/* The variables of a row that a law depends on, for fitted ranges: name and value of variable i, or
 * false past the last one. Zero values (not given) have no range. */
bool predict_variable(const struct data_row *row, int i, const char **name, double *value);
/* Is the row outside the range its law was fitted in? Laws without ranges answer false. */
bool predict_outside(const struct hw_profile *profile, const struct data_row *row);

#endif
