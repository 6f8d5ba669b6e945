#include "calib/slopes.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_math.h>

#include "base/err.h"

/* What one thread has: the columns first, first + step, ... */
struct part {
    slopes_fn fn;
    void *self;
    gsl_vector *x, *f;
    const gsl_vector *f0;
    gsl_matrix *jac;
    size_t first, step;
};

static void column(struct part *p, size_t j)
{
    double at = gsl_vector_get(p->x, j), h = GSL_SQRT_DBL_EPSILON * fabs(at);

    if (h == 0)
        h = GSL_SQRT_DBL_EPSILON;
    gsl_vector_set(p->x, j, at + h);
    p->fn(p->x, p->self, p->f);
    gsl_vector_set(p->x, j, at);
    for (size_t i = 0; i < p->f->size; i++)
        gsl_matrix_set(p->jac, i, j,
                       (gsl_vector_get(p->f, i) - gsl_vector_get(p->f0, i)) * (1 / h));
}

static void *part_run(void *arg)
{
    struct part *p = arg;

    for (size_t j = p->first; j < p->x->size; j += p->step)
        column(p, j);
    return NULL;
}

static void part_free(struct part *p)
{
    free(p->self);
    gsl_vector_free(p->x);
    gsl_vector_free(p->f);
}

static int part_make(struct part *p, const void *self, size_t bytes, const gsl_vector *x, size_t n)
{
    p->self = malloc(bytes);
    p->x = gsl_vector_alloc(x->size);
    p->f = gsl_vector_alloc(n);
    if (!p->self || !p->x || !p->f)
        return ERR_NOMEM;
    memcpy(p->self, self, bytes);
    gsl_vector_memcpy(p->x, x);
    return 0;
}

/* The first part on this thread; so is one whose thread cannot be had. */
static void parts_run(struct part *part, int num)
{
    pthread_t thread[SLOPES_MAX_THREADS];
    bool started[SLOPES_MAX_THREADS] = {false};

    for (int t = 1; t < num; t++)
        started[t] = pthread_create(&thread[t], NULL, part_run, &part[t]) == 0;
    for (int t = 0; t < num; t++)
        if (!started[t])
            part_run(&part[t]);
    for (int t = 1; t < num; t++)
        if (started[t])
            pthread_join(thread[t], NULL);
}

int slopes(slopes_fn fn, const void *self, size_t bytes, const gsl_vector *x, int threads,
           gsl_matrix *jac)
{
    struct part part[SLOPES_MAX_THREADS] = {{0}};
    gsl_vector *f0 = gsl_vector_alloc(jac->size1);
    int num = threads < 1 ? 1 : threads < SLOPES_MAX_THREADS ? threads : SLOPES_MAX_THREADS;
    int err = f0 ? 0 : ERR_NOMEM;

    num = (size_t)num < x->size ? num : (int)x->size;
    for (int t = 0; !err && t < num; t++) {
        part[t] =
            (struct part){.fn = fn, .f0 = f0, .jac = jac, .first = (size_t)t, .step = (size_t)num};
        err = part_make(&part[t], self, bytes, x, jac->size1);
    }
    if (!err)
        err = fn(x, part[0].self, f0) ? ERR_NOMEM : 0;
    if (!err)
        parts_run(part, num);
    for (int t = 0; t < num; t++)
        part_free(&part[t]);
    gsl_vector_free(f0);
    return err;
}
