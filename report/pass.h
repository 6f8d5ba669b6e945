/* report/pass.h: whole passes as records, and the files that the command leaves. */
#ifndef PEOSIM_REPORT_PASS_H
#define PEOSIM_REPORT_PASS_H

#include <stdbool.h>

#include "report/record.h"
#include "study/passes.h"

void pass_report(const struct passes *a, struct record *r);
/* FOLDER/pass.csv and, where plots is set, the fastest point's timeline with its picture. ERR_IO,
 * logged. */
int pass_report_files(const struct passes *a, const char *folder, bool plots);

#endif
