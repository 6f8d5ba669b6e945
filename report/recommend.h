/* report/recommend.h: the best policy of every scenario as a table, CSV, JSON and bars. */
#ifndef PEOSIM_REPORT_RECOMMEND_H
#define PEOSIM_REPORT_RECOMMEND_H

#include <stdbool.h>

#include "report/record.h"
#include "study/recommend.h"

/* For people with break-even batches, settings of engines and what the answer rests on; in flat
 * files the winners in the columns of run's. An error of reading a profile or a scenario, logged.
 */
int recommend_report(const struct recommend *r, struct record *out);
/* FOLDER/recommend.csv and, where draw is set, a picture of the gains. ERR_IO, logged. */
int recommend_report_bars(const struct recommend *r, const char *folder, bool draw);

#endif
