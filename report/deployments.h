/* report/deployments.h: measured deployments against predictions, for people and programs. */
#ifndef PEOSIM_REPORT_DEPLOYMENTS_H
#define PEOSIM_REPORT_DEPLOYMENTS_H

#include "report/record.h"
#include "serve/judge.h"

/* how: "engines fitted on the same rows", "each model left out", ... */
void deployments_report(const struct judged *j, const char *how, struct record *r);
/* One CSV line per row of the file: what was read, predicted, or why not. Appears whole or not at
 * all. ERR_IO. */
int deployments_write_rows(const struct judged *j, const char *path);

#endif
