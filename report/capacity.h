/* report/capacity.h: the answer of a capacity search as table, CSV and JSON. */
#ifndef PEOSIM_REPORT_CAPACITY_H
#define PEOSIM_REPORT_CAPACITY_H

#include <stdio.h>

#include "report/record.h"
#include "study/capacity.h"

/* The question, the best plans (or, when none keeps its promises, the nearest), what could not be
 * considered and why, and the changes. Tables "plans" and, nested, "sensitivity". */
void capacity_report(const struct capacity *k, const struct capacity_change *changes, int num,
                     struct record *r);
void capacity_report_plans(const struct capacity *k, struct record *r); /* best first */
void capacity_report_changes(const struct capacity *k, const struct capacity_change *changes,
                             int num, struct record *r);
void capacity_report_points(const struct capacity *k, FILE *f); /* CSV, every point */
/* CSV for plots/pareto.gp: one point per plan that keeps its TTFT, by tokens_s_user. */
int capacity_report_pareto(const struct capacity *k, FILE *f);

#endif
