/* report/sweep.h: what a finished sweep leaves: points.csv in grid order, best.csv, pictures
 * and a table. Everything is read back from the journal, a scenario at a time, so that memory does
 * not grow with the sweep. */
#ifndef PEOSIM_REPORT_SWEEP_H
#define PEOSIM_REPORT_SWEEP_H

#include <stdbool.h>
#include <stdio.h>

#include "study/config.h"
#include "study/journal.h"

/* Writes FOLDER/points.csv and best.csv whole or not at all, and the CSV file of each picture,
 * which is drawn where draw is true. *rows: how many points there are. */
int sweep_report_write(const struct config *c, struct journal *j, const char *folder, bool draw,
                       size_t *rows);
/* From FOLDER/points.csv and best.csv, to f. */
int sweep_report_table(const struct config *c, const char *folder, FILE *f);
int sweep_report_csv(const char *folder, FILE *f);
/* {"version", "config", "config_hash", "profile", "seed", "results": [a point, ...]} */
int sweep_report_json(const struct config *c, const char *folder, FILE *f);

#endif
