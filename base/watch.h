/* base/watch.h: a deadline for calls that have none of their own: collectives of libraries, whose
 * peers may never come. Where it passes, the process says what it waited for and ends, since a
 * thread that hangs inside such a call cannot be brought back. */
#ifndef PEOSIM_BASE_WATCH_H
#define PEOSIM_BASE_WATCH_H

#include <pthread.h>
#include <stdbool.h>

/* Seconds of a clock that only runs forward. */
double watch_now_s(void);

struct watch {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    double seconds;
    char what[200];
};

/* Until watch_end, at most `seconds` may pass. After that the process logs `what`, which reads
 * "rank 1 waited for ...", and ends with the status of ERR_TIMEOUT. ERR_NOMEM: no thread to be had;
 * then there is nothing to end. */
int watch_begin(struct watch *w, double seconds, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void watch_end(struct watch *w);

#endif
