/* hw/profile.h: what a machine is. One YAML file per GPU (hw/profiles/h200.yaml ...); every field
 * carries its unit in its name and an origin with a source. Fields are listed once, in hw/fields.h.
 */
#ifndef PEOSIM_HW_PROFILE_H
#define PEOSIM_HW_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "hw/fields.h"

enum hw_origin {
    HW_UNSET,       /* the file says nothing: the default of hw/fields.h */
    HW_DATASHEET,   /* the vendor's figure */
    HW_MEASURED,    /* read off this machine */
    HW_FITTED,      /* by `peosim calibrate` from data whose hash is kept */
    HW_ASSUMED,     /* no data anywhere: somebody's guess */
    HW_TRANSFERRED, /* no data of this GPU: another's, maybe scaled by nominal rates */
};
/* Is the value this machine's own: stated by its vendor, measured or fitted on it? */
static inline bool hw_origin_is_own(enum hw_origin origin)
{
    return origin == HW_DATASHEET || origin == HW_MEASURED || origin == HW_FITTED;
}

struct hw_field {
    double value;
    double std_err; /* 0 = unknown */
    enum hw_origin origin;
    char *source; /* what, where, when; "assumed from h800, scaled by hbm_GBps" */
};

/* A measured curve where no law follows the data: monotone in x, interpolated in log-log. */
struct hw_table {
    char *name; /* "nccl.all_to_all.4" */
    size_t n;
    double *x, *y;
    enum hw_origin origin;
    char *source;
};

/* Covariance of the fitted fields of one law, for `run --confidence`. */
struct hw_covariance {
    char *law;
    int n;
    int *field;  /* enum hw_field_id */
    double *cov; /* [n*n], row major */
};

/* Where a law was fitted: outside it the answer is an extrapolation and says so. */
struct hw_range {
    char *law, *variable; /* "ll_dispatch", "tokens" */
    double min, max;
};

struct hw_profile {
    char *name; /* "h200" */
    char *path;
    char *description, *date, *driver, *cuda, *nccl, *commit;
    char *nic_choices; /* "4x200, 4x400 or 8x400 Gb/s": where nodes differ; "" = they do not */
    struct hw_field f[HW_FIELD_COUNT];
    struct hw_table *tables;
    int num_tables;
    struct hw_covariance *covs;
    int num_covs;
    struct hw_range *ranges;
    int num_ranges;
};

/* name: a path, or a shipped name ("h200" finds hw/profiles/h200.yaml). Unknown fields (nearest
 * offered), missing required ones, wrong units, absurd values: one line with file and line.
 * ERR_NOTFOUND, ERR_CONFIG, ERR_PARSE. */
int hw_profile_read(const char *name, struct hw_profile **out);
/* The same from a document already read. */
struct doc;
int hw_profile_parse(const struct doc *doc, struct hw_profile **out);
/* Appears whole or not at all. */
int hw_profile_write(const struct hw_profile *p, const char *path);
/* An empty profile: every field unset, at its default. ERR_NOMEM. */
int hw_profile_new(const char *name, struct hw_profile **out);
int hw_profile_copy(const struct hw_profile *p, struct hw_profile **out);
void hw_profile_free(struct hw_profile *p);

static inline double hw_value(const struct hw_profile *p, enum hw_field_id id)
{
    return p->f[id].value;
}

const char *hw_field_name(enum hw_field_id id);
const char *hw_field_unit(enum hw_field_id id); /* "" for pure numbers */
const char *hw_field_help(enum hw_field_id id);
void hw_field_bounds(enum hw_field_id id, double *min, double *max);
double hw_field_default(enum hw_field_id id); /* HW_REQUIRED = none */
int hw_field_find(const char *name);          /* an enum hw_field_id, or -1 */
const char *hw_origin_name(enum hw_origin origin);

/* Setters copy their strings; hw_table_set and hw_range_set replace what has the same name, and
 * hw_covariance_set what has the same law; its fields leave every other law's block, so that no
 * field is drawn twice, and n = 0 only clears the law's block. ERR_NOMEM. */
int hw_field_set(struct hw_profile *p, enum hw_field_id id, double value, double std_err,
                 enum hw_origin origin, const char *source);
int hw_table_set(struct hw_profile *p, const char *name, const double *x, const double *y, size_t n,
                 enum hw_origin origin, const char *source);
int hw_covariance_set(struct hw_profile *p, const char *law, const int *field, int n,
                      const double *cov);
void hw_covariance_drop(struct hw_profile *p, int field); /* from every block */
int hw_range_set(struct hw_profile *p, const char *law, const char *variable, double min,
                 double max);
const struct hw_range *hw_range_find(const struct hw_profile *p, const char *law,
                                     const char *variable);

/* Fills every field of p that is not its own from what `from` has of its own, scaled by the ratio
 * of nominal rates where the field says so; it is then transferred, and its source names `from` and
 * what stood behind the field there. ERR_NOMEM. */
int hw_profile_assume(struct hw_profile *p, const struct hw_profile *from);

/* Back to what the vendor states and what was measured directly: drops every fitted,
 * transferred or assumed field, all tables, covariances and ranges. ERR_NOMEM. */
int hw_profile_forget(struct hw_profile *p);

/* Draws the fitted fields from their covariance (multivariate normal, GSL's mt19937 from seed),
 * clamped to the fields' ranges; fields without covariance but with a standard error are drawn
 * alone, and those that are not the machine's own from their prior (hw/spread.h): the value times
 * exp(Laplace), with 90% of the factors inside. The caller frees *out. ERR_NOMEM, ERR_DATA (a
 * covariance that is not positive). */
int hw_profile_sample(const struct hw_profile *p, unsigned long seed, struct hw_profile **out);
const struct hw_table *hw_table_find(const struct hw_profile *p, const char *name);
/* Log-log interpolation; *extrapolated is set outside [x0, xn] (end slope is kept there). */
double hw_table_at(const struct hw_table *t, double x, bool *extrapolated);

#endif
