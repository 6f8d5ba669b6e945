/* report/why.h: one point taken apart, as tables, CSV, JSON and bars. */
#ifndef PEOSIM_REPORT_WHY_H
#define PEOSIM_REPORT_WHY_H

#include <stdbool.h>

#include "report/record.h"
#include "study/why.h"

/* In flat files: what each change would be worth. */
void why_report(const struct config *c, const struct why *w, struct record *r);
/* FOLDER/why.csv and, where draw is set, a picture of the changes. ERR_IO, logged. */
int why_report_bars(const struct why *w, const char *folder, bool draw);

#endif
