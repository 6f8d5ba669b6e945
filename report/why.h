/* report/why.h: one point taken apart, as tables, CSV, JSON and bars. */
#ifndef PEOSIM_REPORT_WHY_H
#define PEOSIM_REPORT_WHY_H

#include <stdbool.h>
#include <stdio.h>

#include "study/why.h"

void why_report_table(const struct config *c, const struct why *w, FILE *f);
void why_report_csv(const struct why *w, FILE *f); /* what each change would be worth */
int why_report_json(const struct config *c, const struct why *w, FILE *f); /* ERR_NOMEM */
/* FOLDER/why.csv and, where draw is set, a picture of the changes. ERR_IO, logged. */
int why_report_bars(const struct why *w, const char *folder, bool draw);

#endif
