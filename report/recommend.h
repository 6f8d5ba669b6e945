/* report/recommend.h: the best policy of every scenario as a table, CSV, JSON and bars. */
#ifndef PEOSIM_REPORT_RECOMMEND_H
#define PEOSIM_REPORT_RECOMMEND_H

#include <stdbool.h>
#include <stdio.h>

#include "study/recommend.h"

/* With break-even batches, settings of engines and what the answer rests on. An error of reading a
 * profile or a scenario, logged. */
int recommend_report_table(const struct recommend *r, FILE *f);
/* The winners, in the columns of run's CSV. */
void recommend_report_csv(const struct recommend *r, FILE *f);
int recommend_report_json(const struct recommend *r, FILE *f); /* ERR_NOMEM */
/* FOLDER/recommend.csv and, where draw is set, a picture of the gains. ERR_IO, logged. */
int recommend_report_bars(const struct recommend *r, const char *folder, bool draw);

#endif
