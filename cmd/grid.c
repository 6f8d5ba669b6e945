#include "cmd/grid.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/err.h"

struct work {
    struct grid *grid;
    pthread_mutex_t lock; /* guards next, done, err and the progress calls */
    size_t next, done;
    int err;
    void (*progress)(void *self, size_t done, size_t all);
    void *self;
};

/* eps: each divisor of the local experts where pipeline_num is 0, each kind of GEMM where it is
 * auto. Returns the number of candidates written. */
enum { CANDIDATES_MAX = 256 };

static int candidates(const struct scenario *s, const struct knobs *k, int experts,
                      struct knobs *out)
{
    int local = experts / (s->nodes * s->gpus_per_node), n = 0;

    for (int pn = 1; pn <= local; pn++) {
        if (k->pipeline_num ? pn != k->pipeline_num : local % pn != 0)
            continue;
        for (int kinds = 0; kinds < 4 && n < CANDIDATES_MAX; kinds++) {
            struct knobs one = *k;
            int up = kinds & 1 ? GEMM_KIND_DENSE : GEMM_KIND_GROUP;
            int down = kinds & 2 ? GEMM_KIND_DENSE : GEMM_KIND_GROUP;

            if ((k->gate_up_gemm != GEMM_KIND_AUTO && k->gate_up_gemm != up) ||
                (k->down_gemm != GEMM_KIND_AUTO && k->down_gemm != down))
                continue;
            one.pipeline_num = pn;
            one.gate_up_gemm = up;
            one.down_gemm = down;
            out[n++] = one;
        }
    }
    return n;
}

int grid_evaluate(struct evaluator *e, const struct scenario *s, const struct policy *p,
                  struct knobs *k, struct evaluation *out)
{
    struct knobs tries[CANDIDATES_MAX];
    struct layer_spec spec;
    struct evaluation ev;
    int n = 0, best = -1, err;

    if (p != &policy_eps ||
        (k->pipeline_num && k->gate_up_gemm != GEMM_KIND_AUTO && k->down_gemm != GEMM_KIND_AUTO))
        return evaluate_point(e, s, p, k, -1, out, NULL, NULL);
    err = evaluate_spec(e, s, p, &spec);
    if (!err)
        n = candidates(s, k, spec.model->experts, tries);
    for (int i = 0; i < n && !err; i++) {
        err = evaluate_point(e, s, p, &tries[i], -1, &ev, NULL, NULL);
        if (!err && (best < 0 || ev.layer_us < out->layer_us)) {
            *out = ev;
            best = i;
        }
    }
    if (!err && best < 0)
        return ERR_INFEASIBLE;
    if (!err)
        *k = tries[best];
    return err;
}

/* Takes the next scenario; all its points go to one thread, which then simulates their baseline
 * once. False: nothing is left. */
static bool take(struct work *w, size_t *scenario)
{
    bool got;

    pthread_mutex_lock(&w->lock);
    got = !w->err && w->next < config_num_scenarios(w->grid->config);
    if (got)
        *scenario = w->next++;
    pthread_mutex_unlock(&w->lock);
    return got;
}

static void report(struct work *w, int err)
{
    pthread_mutex_lock(&w->lock);
    w->done++;
    if (err && !w->err)
        w->err = err;
    if (w->progress && !err)
        w->progress(w->self, w->done, w->grid->num_points);
    pthread_mutex_unlock(&w->lock);
}

static int scenario_run(struct work *w, struct evaluator *e, size_t scenario)
{
    size_t per = config_num_points_per_scenario(w->grid->config);
    struct scenario s;
    int err = config_scenario(w->grid->config, scenario, &s);

    if (err)
        return err;
    for (size_t j = 0; j < per && !err; j++) {
        struct grid_point *p = &w->grid->points[scenario * per + j];

        if (!p->skipped)
            err = grid_evaluate(e, &s, p->policy, &p->knobs, &p->ev);
        report(w, err);
    }
    scenario_free(&s);
    return err;
}

static void *worker(void *arg)
{
    struct work *w = arg;
    struct evaluator *e;
    size_t scenario;
    int err = evaluator_open(&e);

    while (!err && take(w, &scenario))
        err = scenario_run(w, e, scenario);
    if (err)
        report(w, err);
    evaluator_close(e);
    return NULL;
}

static int points_fill(struct grid *g, const unsigned char *skip)
{
    size_t per = config_num_points_per_scenario(g->config);

    for (size_t i = 0; i < g->num_points; i++) {
        struct grid_point *p = &g->points[i];

        p->scenario = i / per;
        p->skipped = skip[i];
        config_knobs(g->config, i % per, &p->policy, &p->knobs, &p->entry);
    }
    return 0;
}

static int threads_run(struct work *w, int jobs)
{
    pthread_t threads[256];
    int n = 0;

    if (jobs > 256)
        jobs = 256;
    for (int i = 1; i < jobs; i++)
        if (!pthread_create(&threads[n], NULL, worker, w))
            n++;
    worker(w); /* with one processor, or no threads to be had, the caller does it all */
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    return w->err;
}

int grid_run(const struct config *c, int jobs,
             void (*progress)(void *self, size_t done, size_t all), void *self, struct grid **out)
{
    struct grid *g = calloc(1, sizeof *g);
    struct work w = {.grid = g, .progress = progress, .self = self};
    struct evaluator *e = NULL;
    unsigned char *skip = NULL;
    int err = g ? evaluator_open(&e) : ERR_NOMEM;

    if (err)
        return err;
    pthread_mutex_init(&w.lock, NULL);
    g->config = c;
    g->num_points = config_num_points(c);
    g->points = calloc(g->num_points, sizeof *g->points);
    skip = calloc(g->num_points, 1);
    err = g->points && skip ? evaluate_config(e, c, skip) : ERR_NOMEM;
    if (!err)
        err = points_fill(g, skip);
    if (!err)
        err = threads_run(&w, jobs);
    pthread_mutex_destroy(&w.lock);
    free(skip);
    evaluator_close(e);
    if (err)
        grid_free(g);
    else
        *out = g;
    return err;
}

void grid_free(struct grid *g)
{
    if (!g)
        return;
    free(g->points);
    free(g);
}

const struct grid_point *grid_best(const struct grid *g, size_t scenario,
                                   const struct policy *policy)
{
    size_t per = config_num_points_per_scenario(g->config);
    const struct grid_point *best = NULL;

    for (size_t i = scenario * per; i < (scenario + 1) * per; i++) {
        const struct grid_point *p = &g->points[i];

        if (!p->skipped && p->policy == policy && (!best || p->ev.layer_us < best->ev.layer_us))
            best = p;
    }
    return best;
}
