/* report/sweep.h: what a finished sweep leaves: points.csv in grid order, best.csv, pictures
 * and a table. Everything is read back from the journal, a scenario at a time, so that memory does
 * not grow with the sweep. */
#ifndef PEOSIM_REPORT_SWEEP_H
#define PEOSIM_REPORT_SWEEP_H

#include <stdbool.h>
#include <stddef.h>

#include "report/record.h"
#include "study/config.h"
#include "study/journal.h"

/* Writes FOLDER/points.csv and best.csv whole or not at all, and the CSV file of each picture,
 * which is drawn where draw is true. *rows: how many points there are. */
int sweep_report_write(const struct config *c, struct journal *j, const char *folder, bool draw,
                       size_t *rows);
/* From those files: for people the best policy of each scenario, else every point, in the columns
 * that `peosim run` has. */
int sweep_report(const struct config *c, const char *folder, struct record *r);

#endif
