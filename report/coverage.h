/* report/coverage.h: how much of a layer's time a profile has measurements for, as a table. */
#ifndef PEOSIM_REPORT_COVERAGE_H
#define PEOSIM_REPORT_COVERAGE_H

#include <stdio.h>

#include "study/coverage.h"

/* For people: a line per (EP, phase), below it what is not measured and what would close it. */
void coverage_print(const struct coverage *c, FILE *f);
/* The same as rows of a Markdown table, each beginning with the profile. */
void coverage_print_markdown(const struct coverage *c, const char *profile, FILE *f);
/* {"coverage":[{"ep","nodes","phase","exchange","measured","transferred","assumed",
 * "moe":{...},"ops":{kind:{...}}}],"profile"}: shares 0..1. */
int coverage_print_json(const struct coverage *c, const char *profile, FILE *f);

#endif
