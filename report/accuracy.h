/* report/accuracy.h: how wrong a profile is, on kernels (calib/accuracy.h) and on whole layers
 * (study/layers.h). */
#ifndef PEOSIM_REPORT_ACCURACY_H
#define PEOSIM_REPORT_ACCURACY_H

#include <stdio.h>

#include "calib/accuracy.h"
#include "report/record.h"
#include "study/layers.h"

/* A table a file for people; groups: also one line per group. Nested: "files", each with its laws;
 * flat: a line per file, law and group (empty: the whole law). Errors are shares of 1. */
void accuracy_report(struct accuracy *const *all, size_t num, bool groups, struct record *r);
/* A Markdown table over files and laws; rows that the profile was fitted to stand apart and are
 * called in sample. ERR_NOMEM. */
int accuracy_report_markdown(struct accuracy *const *all, size_t num, FILE *f);
/* Layers of files; path[i] is that of all[i]. For programs "results", every layer, and nested
 * "files" with the errors of each. */
void layers_report(const struct layers *all, const char *const *path, size_t num,
                   const char *profile, struct record *r);

#endif
