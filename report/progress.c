#include "report/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/watch.h"

void progress_open(struct progress *p, const char *what, bool quiet)
{
    *p = (struct progress){.what = what, .on = !quiet && isatty(STDERR_FILENO)};
    p->start_s = p->last_s = watch_now_s();
}

void progress_step(void *self, size_t done, size_t all)
{
    struct progress *p = self;
    double now, rate;

    if (!p->on)
        return;
    now = watch_now_s();
    if (now - p->start_s < 1 || (now - p->last_s < 0.2 && done < all))
        return;
    p->last_s = now;
    p->shown = true;
    rate = (double)done / (now - p->start_s);
    fprintf(stderr, "\r%zu of %zu %s, %.0f per second, %.0f s left   ", done, all, p->what, rate,
            rate > 0 ? (double)(all - done) / rate : 0);
}

void progress_close(struct progress *p)
{
    if (p->shown)
        fprintf(stderr, "\r%60s\r", "");
}
