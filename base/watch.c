#include "base/watch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"

double watch_now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct timespec deadline_of(double seconds)
{
    struct timespec t;
    long ns;

    clock_gettime(CLOCK_MONOTONIC, &t);
    ns = t.tv_nsec + (long)((seconds - (double)(long)seconds) * 1e9);
    t.tv_sec += (time_t)seconds + ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    return t;
}

static void *watch_main(void *self)
{
    struct watch *w = self;
    struct timespec deadline = deadline_of(w->seconds);
    int status = 0;

    pthread_mutex_lock(&w->lock);
    while (!w->done && status != ETIMEDOUT)
        status = pthread_cond_timedwait(&w->ended, &w->lock, &deadline);
    if (!w->done) {
        log_error("%s: in vain for %g s (%s)", w->what, w->seconds, err_text(ERR_TIMEOUT));
        _exit(err_exit_status(ERR_TIMEOUT)); /* atexit handlers may hang too */
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int watch_begin(struct watch *w, double seconds, const char *fmt, ...)
{
    pthread_condattr_t clock;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(w->what, sizeof w->what, fmt, ap);
    va_end(ap);
    w->seconds = seconds;
    w->done = false;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&w->ended, &clock);
    pthread_condattr_destroy(&clock);
    if (pthread_create(&w->thread, NULL, watch_main, w) == 0)
        return 0;
    pthread_cond_destroy(&w->ended);
    pthread_mutex_destroy(&w->lock);
    log_error("%s: no thread to watch over it", w->what);
    return ERR_NOMEM;
}

void watch_end(struct watch *w)
{
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->ended);
    pthread_mutex_destroy(&w->lock);
}
