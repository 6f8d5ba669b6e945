/* report/progress.h: a line on stderr that says how far a long command is: rate and time left. Only
 * where stderr is a terminal, and only once it has taken a second. */
#ifndef PEOSIM_REPORT_PROGRESS_H
#define PEOSIM_REPORT_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

struct progress {
    const char *what;
    bool on, shown;
    double start_s, last_s;
};

void progress_open(struct progress *p, const char *what, bool quiet);
void progress_step(void *self, size_t done, size_t all); /* self: struct progress */
void progress_close(struct progress *p);

#endif
