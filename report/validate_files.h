/* report/validate_files.h: what a validation leaves in its folder. */
#ifndef PEOSIM_REPORT_VALIDATE_FILES_H
#define PEOSIM_REPORT_VALIDATE_FILES_H

#include "study/validate.h"

struct validate_files {
    const struct validate_set *set;
    const char *folder;
    const char *measured; /* an earlier run's folder, with its timelines, or NULL */
    bool draw;
};

/* All of these: ERR_IO, each file whole or not at all.
 * layers.csv and ops.csv. */
int validate_files_tables(const struct validate_files *x);
int validate_files_json(const struct validate_files *x, const char *text);
/* What all points of the folder are measured as; makes the folder. */
int validate_files_key(const struct validate_files *x, const char *key);
/* A point as it comes, before any prediction: its timeline (plan: its own; NULL: none is kept) and
 * the tables, whose predictions hold 0. A run that ends early loses nothing. */
int validate_files_keep(const struct validate_files *x, const struct validate_point *p,
                        const struct plan *plan);
/* Both timelines of a point, as CSV, for Chrome and as a picture. Nothing where there is no
 * measured one. */
int validate_files_pair(const struct validate_files *x, const struct validate_point *p,
                        const struct trace *predicted, const struct plan *plan);

#endif
