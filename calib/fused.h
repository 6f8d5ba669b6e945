/* calib/fused.h: engines' fused expert layers: rows, families, fit. */
#ifndef PEOSIM_CALIB_FUSED_H
#define PEOSIM_CALIB_FUSED_H

#include "calib/fit.h"
#include "calib/read_cells.h"
#include "model/law/fused.h"

/* What a row of DATA_FFN_FUSED measured; owned by its set. */
struct data_fused {
    struct law_fused load;
    char family[120]; /* "ffn.vllm-moe_..._cutlass.fp8_block": the table of its parameters */
};

/* A row of moe_ffn.csv with the layout "fused". Its tokens_per_rank counts all tokens of the call,
 * of which this rank has the rows of its experts (num_slots / ep of them). */
void read_fused(struct cells *c, struct data_row *r);

/* The time of a row in us; NAN where the profile holds no family for it. */
double predict_fused_us(const struct hw_profile *profile, const double *v,
                        const struct data_row *row);

/* Fits every family that has rows enough, stores its parameters as a table of p; with options->cv
 * also errors on shapes (hidden, inter, experts) left out. ERR_NOMEM. */
int fit_fused(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
              const struct fit_options *options, struct fit_report *report);

#endif
