/* report/html.h: one self-contained page of a folder of results, that opens in any browser without
 * a network: what `run`, `why` and `validate` left there (summary.json, *spans.csv, counters.csv,
 * why.csv, timelines.json), each where it exists. The page's own files are in report/page/, the
 * charting library with its licence in report/vendor/. */
#ifndef PEOSIM_REPORT_HTML_H
#define PEOSIM_REPORT_HTML_H

#include <stdio.h>

/* Writes the page. Timelines of over HTML_MAX_SPANS spans keep the ranks around the slowest one,
 * and their title says so. ERR_NOTFOUND (logged) for a folder without summary and spans, or where
 * the page's files are not shipped; else what reading them gave. */
#define HTML_MAX_SPANS 60000
int html_write(const char *folder, FILE *out);

#endif
