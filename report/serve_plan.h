/* report/serve_plan.h: what serve-plan found, and the files that start it. */
#ifndef PEOSIM_REPORT_SERVE_PLAN_H
#define PEOSIM_REPORT_SERVE_PLAN_H

#include "report/record.h"
#include "serve/planner.h"

void serve_plan_report(const struct planner *p, struct record *r);

/* Launch files of a deployment into a folder, from configs/launch/<engine>.sh: one a role
 * (launch_decode.sh, launch_prefill.sh, or launch.sh). *written: how many; 0 where the engine has
 * no template. Words between @ of a template that are not known are errors with its line.
 * ERR_CONFIG, ERR_IO; logged. */
int serve_plan_launch(const struct planner *p, const struct planned *row, const char *folder,
                      int *written);

#endif
