/* report/coverage.h: how much of a layer's time a profile has measurements for, as a table. */
#ifndef PEOSIM_REPORT_COVERAGE_H
#define PEOSIM_REPORT_COVERAGE_H

#include <stdio.h>

#include "report/record.h"
#include "study/coverage.h"

/* A row per (EP, phase): shares 0..1 of "measured", "transferred" and "assumed", nested also of the
 * MoE part and by op kind. For people below it what is not measured and what would close it. */
void coverage_report(const struct coverage *c, const char *profile, struct record *r);
/* The same as rows of a Markdown table, each beginning with the profile. */
void coverage_print_markdown(const struct coverage *c, const char *profile, FILE *f);
#endif
