/* report/engine.h: the settings of a policy in the names of the engines and libraries that have it,
 * so that an answer can be copied into a launch script. */
#ifndef PEOSIM_REPORT_ENGINE_H
#define PEOSIM_REPORT_ENGINE_H

#include <stdio.h>

#include "model/policy/policy.h"

/* One line per engine, each after `indent`; nothing for policies without settings. ERR_NOMEM. */
int engine_settings_print(const struct policy *p, const struct knobs *k,
                          const struct policy_place *place, const char *indent, FILE *f);
/* Likewise for the exchange of the place, of the engines that have the policy. */
int engine_exchange_print(const struct policy *p, const struct knobs *k,
                          const struct policy_place *place, const char *indent, FILE *f);

#endif
