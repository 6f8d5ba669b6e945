/* calib/attn.h: measured attention and state-space modules: formats, families, fit. */
#ifndef PEOSIM_CALIB_ATTN_H
#define PEOSIM_CALIB_ATTN_H

#include "calib/fit.h"
#include "calib/read_cells.h"
#include "model/law/attention.h"

/* What a row of DATA_ATTN_* measured; owned by its set. */
struct data_attn {
    struct law_attn_load load;
    char family[80]; /* whose parameters it determines: "gqa.fa3.decode.fp8.d128" */
    char kind[48];   /* what error tables group by: "gqa fa3 decode fp8" */
};

/* The four formats of public attention measurements (read_csv.c lists their columns). */
void read_attn_gqa(struct cells *c, struct data_row *r);
void read_attn_mla(struct cells *c, struct data_row *r);
void read_attn_sparse(struct cells *c, struct data_row *r);
void read_attn_linear(struct cells *c, struct data_row *r);
/* Behind all rows: those that take longer than a row of the same kernel with no less work, by more
 * than a quarter, are warm-up: shown, not fitted. ERR_NOMEM. */
int read_attn_finish(struct data_set *set);

/* Order of what was measured, 0 where all of it is equal; and how much work it is, in no unit. */
int data_attn_compare(const struct data_attn *a, const struct data_attn *b);
double data_attn_size(const struct data_attn *a);

static inline bool data_is_attn(enum data_law law)
{
    return law >= DATA_ATTN_GQA && law <= DATA_ATTN_STATE;
}

/* The time of a row in us; NAN where the profile holds no family for it. */
double predict_attn_us(const struct hw_profile *profile, const double *v,
                       const struct data_row *row);

/* Fits every family that has rows, stores its parameters as a table of p and one result per kind in
 * the report: errors in the fit and, with options->cv, on head counts (models of a kind) left out.
 * ERR_NOMEM. */
int fit_attn(struct hw_profile *p, struct data_set *const *sets, size_t num_sets,
             const struct fit_options *options, struct fit_report *report);

#endif
