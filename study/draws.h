/* study/draws.h: profiles drawn from what is not known of them (hw_profile_sample): the covariance
 * of the fits, the prior spread of fields without data, the laws' own error. The same for the same
 * seed. */
#ifndef PEOSIM_STUDY_DRAWS_H
#define PEOSIM_STUDY_DRAWS_H

#include "study/config.h"
#include "hw/profile.h"

struct draws;
/* n profiles from each that the config's scenarios name. ERR_NOMEM or what reading them gives. */
int draws_open(const struct config *c, int n, struct draws **out);
void draws_close(struct draws *d); /* accepts NULL */
/* Draw i of a profile that the config names. */
const struct hw_profile *draws_at(const struct draws *d, const char *profile, int i);

/* 90% of n draws, widened to hold the answer `value` of the profile itself. */
struct interval {
    double low, high;
};
struct interval interval_of(const double *drawn, size_t n, double value);

#endif
