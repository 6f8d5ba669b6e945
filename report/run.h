/* report/run.h: the folder of files that a run leaves: points, best knobs, timelines, pictures, the
 * page. */
#ifndef PEOSIM_REPORT_RUN_H
#define PEOSIM_REPORT_RUN_H

#include <stdbool.h>
#include <stdio.h>

#include "report/record.h"
#include "study/eps_rule.h"
#include "study/grid.h"

/* confidence: what summary.json says of it, NULL = nothing (taken over by nobody). plots: pictures
 * too, where gnuplot is; html: the page too. The folder appears whole or not at all. ERR_IO,
 * logged. */
int run_report_files(const struct grid *g, const char *folder, struct json_t *confidence,
                     bool plots, bool html);
/* The answer in any format; with the confidence of its rows (NULL: none). */
void run_report(const struct grid *g, struct json_t *confidence, struct record *r);
/* Beside what simulation chose for eps, what the paper's own rule says. */
void run_report_eps_rules(const struct eps_rule *rules, size_t n, FILE *f);

#endif
