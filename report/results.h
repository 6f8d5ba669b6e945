/* report/results.h: a folder of results that appears whole or not at all. Files are written into a
 * folder of their own, which takes the other's place in one step. Where that holds files of someone
 * else, they stay (a list in the folder tells them apart), and the new files are moved over the old
 * ones one by one before those that have no successor go. What a killed run left is removed by the
 * next. */
#ifndef PEOSIM_REPORT_RESULTS_H
#define PEOSIM_REPORT_RESULTS_H

#include <stddef.h>

#include "base/file.h"

#define RESULTS_PATH_MAX 1024

struct results {
    char folder[RESULTS_PATH_MAX]; /* where they shall be */
    char part[RESULTS_PATH_MAX];   /* where they are until results_commit */
    int lock;                      /* a descriptor of it, plus 1 */
};

/* ERR_IO (logged) when the folder cannot be made there, ERR_RANGE for a path that is too long. */
int results_open(struct results *r, const char *folder);
/* PART/NAME, for file_create and plot_draw. ERR_RANGE, logged. */
int results_path(const struct results *r, const char *name, char path[RESULTS_PATH_MAX]);
/* Opens NAME; results_done closes it, for better (err 0) or worse. A write error is logged. */
int results_create(const struct results *r, const char *name, struct file_out *f);
int results_done(struct file_out *f, int err);
/* Moves everything to the folder. */
int results_commit(struct results *r);
/* Removes what was not committed; harmless after results_commit, and on a zeroed struct. */
void results_abort(struct results *r);

#endif
