/* report/run.h: the folder of files that a run leaves: points, best knobs, timelines, pictures, the
 * page. */
#ifndef PEOSIM_REPORT_RUN_H
#define PEOSIM_REPORT_RUN_H

#include <stdbool.h>
#include <stdio.h>

#include "study/eps_rule.h"
#include "study/grid.h"

/* json: what summary.json will hold. plots: pictures too, where gnuplot is; html: the page too. The
 * folder appears whole or not at all. ERR_IO, logged. */
int run_report_files(const struct grid *g, const char *folder, const char *json, bool plots,
                     bool html);
/* Beside what simulation chose for eps, what the paper's own rule says. */
void run_report_eps_rules(const struct eps_rule *rules, size_t n, FILE *f);

#endif
