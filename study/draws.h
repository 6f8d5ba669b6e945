/* study/draws.h: profiles drawn from what the fits left uncertain (their covariance), the same for
 * the same seed. Fields that were assumed or have no stated error stay as they are. */
#ifndef PEOSIM_STUDY_DRAWS_H
#define PEOSIM_STUDY_DRAWS_H

#include "study/config.h"
#include "hw/profile.h"

struct draws;
/* n profiles from each that the config's scenarios name. ERR_NOMEM or what reading them gives. */
int draws_open(const struct config *c, int n, struct draws **out);
void draws_close(struct draws *d); /* accepts NULL */
/* Draw i of a profile; NULL where the profile states no uncertainty at all. */
const struct hw_profile *draws_at(const struct draws *d, const char *profile, int i);
/* No profile in use states an uncertainty: intervals would be of no width. */
bool draws_certain(const struct draws *d);

#endif
