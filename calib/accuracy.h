/* calib/accuracy.h: how wrong a profile is on a file of measurements. */
#ifndef PEOSIM_CALIB_ACCURACY_H
#define PEOSIM_CALIB_ACCURACY_H

#include <stdio.h>

#include "base/stats.h"
#include "hw/profile.h"
#include "calib/data.h"

struct accuracy_group {
    enum data_law law;
    char name[56];          /* empty: the whole law */
    struct stats_error err; /* fractions */
    size_t outside;         /* rows outside the law's fitted range */
};

struct accuracy {
    const struct data_set *set; /* borrowed */
    char *profile;
    bool is_fitted; /* the profile was fitted to this file: its reference rows are in sample */
    size_t n;       /* rows predicted */
    size_t other;   /* rows of other systems */
    size_t no_law;  /* rows of this system without a prediction (no table) */
    size_t outside; /* of n: outside the fitted range */
    struct stats_error err;
    struct accuracy_group *law; /* one per law present */
    int num_laws;
    struct accuracy_group *group; /* one per law and group, in order of the file */
    int num_groups;
    int pairs;            /* fused layers against split ones beside them that differ by over 5% */
    int pairs_right;      /* of them: predicted to be the faster or slower one as measured */
    double *predicted_us; /* [set->n]; NAN where not predicted */
    unsigned char *is_outside;
};

/* The set must outlive the result. ERR_NOMEM. */
int accuracy_open(const struct hw_profile *profile, const struct data_set *set,
                  struct accuracy **out);
void accuracy_free(struct accuracy *a); /* accepts NULL */

/* Errors of the law's rows that fits use (`reference`), or of the others. ERR_NOMEM. */
int accuracy_split(const struct accuracy *a, enum data_law law, bool reference,
                   struct accuracy_group *out);
/* One CSV line per predicted row: file,line,system,law,group,measured_us,predicted_us,
 * error,outside,reference. Appears whole or not at all. ERR_IO. */
int accuracy_write_rows(struct accuracy *const *all, size_t num, const char *path);

#endif
