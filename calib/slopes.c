#include "calib/slopes.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_math.h>

#include "base/err.h"

/* A thread evaluates points first, first + step, ...: point 0 is x, point j + 1 has x_j moved. */
struct part {
    slopes_fn fn;
    void *self;
    gsl_vector *x;
    gsl_matrix *f; /* [points][residuals], shared; a thread writes the rows of its points */
    size_t first, step;
    int failed;
};

static double step_of(double at)
{
    double h = GSL_SQRT_DBL_EPSILON * fabs(at);

    return h > 0 ? h : GSL_SQRT_DBL_EPSILON;
}

static void *part_run(void *arg)
{
    struct part *p = arg;

    for (size_t i = p->first; i < p->f->size1 && !p->failed; i += p->step) {
        gsl_vector_view f = gsl_matrix_row(p->f, i);
        double at = i > 0 ? gsl_vector_get(p->x, i - 1) : 0;

        if (i > 0)
            gsl_vector_set(p->x, i - 1, at + step_of(at));
        p->failed = p->fn(p->x, p->self, &f.vector) != 0;
        if (i > 0)
            gsl_vector_set(p->x, i - 1, at);
    }
    return NULL;
}

static void part_free(struct part *p)
{
    free(p->self);
    gsl_vector_free(p->x);
}

static int part_make(struct part *p, const void *self, size_t bytes, const gsl_vector *x)
{
    p->self = malloc(bytes);
    p->x = gsl_vector_alloc(x->size);
    if (!p->self || !p->x)
        return ERR_NOMEM;
    memcpy(p->self, self, bytes);
    gsl_vector_memcpy(p->x, x);
    return 0;
}

/* The first part on this thread; so is one whose thread cannot be had. */
static int parts_run(struct part *part, int num)
{
    pthread_t thread[SLOPES_MAX_THREADS];
    bool started[SLOPES_MAX_THREADS] = {false};
    int failed = 0;

    for (int t = 1; t < num; t++)
        started[t] = pthread_create(&thread[t], NULL, part_run, &part[t]) == 0;
    for (int t = 0; t < num; t++)
        if (!started[t])
            part_run(&part[t]);
    for (int t = 0; t < num; t++) {
        if (started[t])
            pthread_join(thread[t], NULL);
        failed |= part[t].failed;
    }
    return failed ? ERR_RANGE : 0;
}

static void differences(const gsl_matrix *f, const gsl_vector *x, gsl_matrix *jac)
{
    for (size_t i = 0; i < jac->size1; i++)
        for (size_t j = 0; j < jac->size2; j++)
            gsl_matrix_set(jac, i, j,
                           (gsl_matrix_get(f, j + 1, i) - gsl_matrix_get(f, 0, i)) *
                               (1 / step_of(gsl_vector_get(x, j))));
}

int slopes(slopes_fn fn, const void *self, size_t bytes, const gsl_vector *x, int threads,
           gsl_matrix *jac)
{
    struct part part[SLOPES_MAX_THREADS] = {{0}};
    gsl_matrix *f = gsl_matrix_alloc(x->size + 1, jac->size1);
    int num = threads < 1 ? 1 : threads < SLOPES_MAX_THREADS ? threads : SLOPES_MAX_THREADS;
    int err = f ? 0 : ERR_NOMEM;

    num = (size_t)num < x->size + 1 ? num : (int)x->size + 1;
    for (int t = 0; !err && t < num; t++) {
        part[t] = (struct part){.fn = fn, .f = f, .first = (size_t)t, .step = (size_t)num};
        err = part_make(&part[t], self, bytes, x);
    }
    if (!err)
        err = parts_run(part, num);
    if (!err)
        differences(f, x, jac);
    for (int t = 0; t < num; t++)
        part_free(&part[t]);
    gsl_matrix_free(f);
    return err;
}
