/* report/engine.h: the settings of a policy in the names of the engines and libraries that have it,
 * so that an answer can be copied into a launch script. */
#ifndef PEOSIM_REPORT_ENGINE_H
#define PEOSIM_REPORT_ENGINE_H

#include <stdio.h>

#include "model/policy/policy.h"

/* One line per engine, each after `indent`. num_sms: N of the GPU. decode: which kernels. Nothing
 * for `none` and for policies that no public engine has. */
void engine_settings_print(const struct policy *p, const struct knobs *k, int num_sms, bool decode,
                           bool blackwell, const char *indent, FILE *f);

#endif
