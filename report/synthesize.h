/* report/synthesize.h: schedules found by search: the table, and a folder with a plan file, spans
 * and a picture of each. */
#ifndef PEOSIM_REPORT_SYNTHESIZE_H
#define PEOSIM_REPORT_SYNTHESIZE_H

#include "report/record.h"
#include "study/synthesize.h"

void synthesize_report(const struct synthesis *s, const char *folder, struct record *r);
/* plan-N.txt of each scenario with a program, N counted from 1, and its timeline. ERR_IO, logged.
 */
int synthesize_files(const struct synthesis *s, const char *folder, bool plots);

#endif
