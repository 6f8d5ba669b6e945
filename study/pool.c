#include "study/pool.h"

#include <pthread.h>

#define POOL_MAX_THREADS 256

struct pool {
    pthread_mutex_t lock; /* guards next, done, err and the progress calls */
    size_t n, next, done;
    int err;
    int (*work)(void *self, struct evaluator *e, size_t i);
    void *self;
    void (*progress)(void *self, size_t done, size_t all);
    void *progress_self;
};

static bool take(struct pool *p, size_t *i)
{
    bool got;

    pthread_mutex_lock(&p->lock);
    got = !p->err && p->next < p->n;
    if (got)
        *i = p->next++;
    pthread_mutex_unlock(&p->lock);
    return got;
}

static void finish(struct pool *p, int err)
{
    pthread_mutex_lock(&p->lock);
    p->done++;
    if (err && !p->err)
        p->err = err;
    if (p->progress && !err)
        p->progress(p->progress_self, p->done, p->n);
    pthread_mutex_unlock(&p->lock);
}

static void *worker(void *arg)
{
    struct pool *p = arg;
    struct evaluator *e = NULL;
    size_t i;
    int err = evaluator_open(&e);

    if (err)
        finish(p, err);
    while (!err && take(p, &i)) {
        err = p->work(p->self, e, i);
        finish(p, err);
    }
    evaluator_close(e);
    return NULL;
}

int pool_run(size_t n, int jobs, int (*work)(void *self, struct evaluator *e, size_t i), void *self,
             void (*progress)(void *self, size_t done, size_t all), void *progress_self)
{
    struct pool p = {
        .n = n, .work = work, .self = self, .progress = progress, .progress_self = progress_self};
    pthread_t threads[POOL_MAX_THREADS];
    int started = 0;

    pthread_mutex_init(&p.lock, NULL);
    for (int j = 1; j < jobs && j < POOL_MAX_THREADS && (size_t)j < n; j++)
        if (!pthread_create(&threads[started], NULL, worker, &p))
            started++;
    worker(&p);
    for (int j = 0; j < started; j++)
        pthread_join(threads[j], NULL);
    pthread_mutex_destroy(&p.lock);
    return p.err;
}
