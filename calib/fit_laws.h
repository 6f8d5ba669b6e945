/* calib/fit_laws.h: which fields each law has and which rows determine them. */
#ifndef PEOSIM_CALIB_FIT_LAWS_H
#define PEOSIM_CALIB_FIT_LAWS_H

#include "calib/fit.h"

struct fit_param {
    int id;        /* enum hw_field_id; the list ends at max 0 */
    double lo, hi; /* bounds of the fit, inside the field's own */
};

/* What the rows must vary in for a law to be worth its extra parameters. */
enum fit_needs { FIT_NEEDS_NOTHING, FIT_NEEDS_PARTS, FIT_NEEDS_SMS };

/* What of a row is predicted and fitted. */
enum fit_what { FIT_LATENCY, FIT_NOTIFY, FIT_WAIT };

struct fit_law {
    const char *name;
    enum fit_needs needs;
    const char *instead_of;  /* a law with fewer parameters that is then skipped */
    unsigned long long rows; /* bit set of enum data_law */
    int min_nodes, max_nodes;
    enum fit_what what;
    int rule; /* a field that tells kernels apart: all its whole values are tried, the best stays; 0
                 = no such field */
    const char *coll;          /* only rows of this part of an exchange; NULL = all */
    const char *builds_on;     /* an earlier law fitted to a part of the same rows' time, or NULL */
    unsigned long long unless; /* skipped when the sets hold rows of these laws */
    enum fit_cv cv[2];
    struct fit_param param[FIT_MAX_FIELDS + 1];
};

extern const struct fit_law fit_laws[];
extern const int fit_num_laws;

#endif
