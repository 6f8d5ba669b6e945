#include "study/grid.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/interrupt.h"
#include "study/pass.h"

/* Every combination of values for the knobs that stand at `auto`, the last row of the policy's
 * search table changing first. Returns the number of candidates written. */
enum { CANDIDATES_MAX = 256 };

static int candidates(const struct policy *p, const struct layer_spec *spec, const struct knobs *k,
                      struct knobs *out)
{
    int n = 1;

    out[0] = *k;
    for (const struct knob_search *s = p->search; s->key; s++) {
        const struct opt *o = opt_find(p->knobs, s->key);
        struct knobs before[CANDIDATES_MAX];
        int values[CANDIDATES_MAX], num, kept = n;

        if (!policy_knob_is_auto(p, k, s))
            continue;
        num = policy_knob_values(p, o, spec, values, CANDIDATES_MAX);
        memcpy(before, out, (size_t)n * sizeof *out);
        n = 0;
        for (int i = 0; i < kept; i++)
            for (int v = 0; v < num && n < CANDIDATES_MAX; v++) {
                out[n] = before[i];
                knob_set(o, &out[n++], values[v]);
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

    if (!policy_has_auto(p, k))
        return evaluate_point(e, s, p, k, -1, out, NULL, NULL);
    err = evaluate_spec(e, s, p, &spec);
    if (!err)
        n = candidates(p, &spec, k, tries);
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

/* What the threads of grid_work_run share; the lock guards err and every call of the user's. */
struct shared {
    const struct grid_work *work;
    pthread_mutex_t lock;
    int err;
};

static size_t chunks_per_scenario(const struct config *c)
{
    return (config_num_points_per_scenario(c) + GRID_CHUNK - 1) / GRID_CHUNK;
}

size_t grid_num_chunks(const struct config *c)
{
    return config_num_scenarios(c) * chunks_per_scenario(c);
}

void grid_chunk(const struct config *c, size_t chunk, size_t *first, size_t *count)
{
    size_t per = config_num_points_per_scenario(c), chunks = chunks_per_scenario(c);
    size_t within = chunk % chunks * GRID_CHUNK;

    *first = chunk / chunks * per + within;
    *count = per - within < GRID_CHUNK ? per - within : GRID_CHUNK;
}

static bool chunk_take(struct shared *w, size_t *chunk)
{
    bool got;
    int err = 0;

    pthread_mutex_lock(&w->lock);
    got = !w->err && w->work->take(w->work->self, chunk, &err);
    if (err && !w->err)
        w->err = err;
    got = got && !err;
    pthread_mutex_unlock(&w->lock);
    return got;
}

static int point_done(struct shared *w, size_t index, const struct grid_point *p, int err)
{
    pthread_mutex_lock(&w->lock);
    if (!err && !w->err)
        err = w->work->done(w->work->self, index, p);
    if (err && !w->err)
        w->err = err;
    err = w->err;
    pthread_mutex_unlock(&w->lock);
    return err;
}

/* before: a point of the same scenario whose bound is known, or NULL. */
static int bound_fill(struct evaluator *e, const struct scenario *s,
                      const struct grid_point *before, struct grid_point *p)
{
    if (!before || !bound_same(&before->knobs, before->policy, &p->knobs, p->policy))
        return bound_of(e, s, p->policy, &p->knobs, &p->bound);
    p->bound = before->bound;
    return 0;
}

static int point_run(struct evaluator *e, const struct config *c, const struct scenario *s,
                     size_t index, const struct grid_point *before, struct grid_point *p)
{
    size_t per = config_num_points_per_scenario(c);
    char why[200];
    int err;

    *p = (struct grid_point){.scenario = index / per};
    config_knobs(c, index % per, &p->policy, &p->knobs, &p->entry);
    err = evaluate_settle(e, s, p->policy, &p->knobs);
    if (err)
        return err;
    err = evaluate_check(e, s, p->policy, &p->knobs, why, sizeof why);
    p->skipped = err == ERR_INFEASIBLE;
    if (p->skipped)
        return 0;
    if (!err)
        err = grid_evaluate(e, s, p->policy, &p->knobs, &p->ev);
    return err ? err : bound_fill(e, s, before, p);
}

static int chunk_run(struct shared *w, struct evaluator *e, size_t chunk)
{
    const struct config *c = w->work->config;
    struct grid_point before = {.skipped = true};
    size_t first, count;
    struct scenario s;
    int err;

    grid_chunk(c, chunk, &first, &count);
    err = config_scenario(c, first / config_num_points_per_scenario(c), &s);
    if (err)
        return err;
    for (size_t i = first; i < first + count && !err; i++) {
        struct grid_point p;

        if (w->work->have && w->work->have(w->work->self, i))
            continue;
        err = point_run(e, c, &s, i, before.skipped ? NULL : &before, &p);
        if (!err && !p.skipped)
            before = p;
        err = point_done(w, i, &p, err);
    }
    scenario_free(&s);
    return err;
}

static void *worker(void *arg)
{
    struct shared *w = arg;
    struct evaluator *e = NULL;
    size_t chunk;
    int err = evaluator_open(&e);

    if (!err)
        evaluator_whole_layers(e);
    while (!err && chunk_take(w, &chunk))
        err = chunk_run(w, e, chunk);
    if (err)
        point_done(w, 0, NULL, err);
    evaluator_close(e);
    return NULL;
}

/* Runs a worker on `jobs` threads, this one among them: with one processor, or no threads to be
 * had, the caller does it all. */
static void threads_run(int jobs, void *(*run)(void *arg), void *arg)
{
    pthread_t threads[256];
    int n = 0;

    if (jobs > 256)
        jobs = 256;
    for (int i = 1; i < jobs; i++)
        if (!pthread_create(&threads[n], NULL, run, arg))
            n++;
    run(arg);
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

int grid_work_run(const struct grid_work *work, int jobs)
{
    struct shared w = {.work = work};

    pthread_mutex_init(&w.lock, NULL);
    threads_run(jobs, worker, &w);
    pthread_mutex_destroy(&w.lock);
    return w.err;
}

/* Evaluators that last from one round of work to the next, one for each thread. */
struct grid_crew {
    int jobs;
    struct evaluator **evaluator; /* [jobs], NULL until its thread has worked */
};

int grid_crew_open(int jobs, struct grid_crew **out)
{
    struct grid_crew *c = calloc(1, sizeof *c);

    if (!c)
        return ERR_NOMEM;
    c->jobs = jobs < 1 ? 1 : jobs;
    c->evaluator = calloc((size_t)c->jobs, sizeof(struct evaluator *));
    if (!c->evaluator) {
        free(c);
        return ERR_NOMEM;
    }
    *out = c;
    return 0;
}

void grid_crew_close(struct grid_crew *c)
{
    for (int i = 0; c && i < c->jobs; i++)
        evaluator_close(c->evaluator[i]);
    if (c)
        free(c->evaluator);
    free(c);
}

int grid_crew_evaluator(struct grid_crew *c, int thread, struct evaluator **out)
{
    int err = 0;

    if (!c->evaluator[thread]) {
        err = evaluator_open(&c->evaluator[thread]);
        if (!err)
            evaluator_whole_layers(c->evaluator[thread]);
    }
    *out = c->evaluator[thread];
    return err;
}

struct each {
    struct grid_crew *crew;
    size_t n, next;
    int threads; /* that have begun */
    int (*fn)(void *self, struct evaluator *e, size_t i);
    void *self;
    pthread_mutex_t lock; /* guards next, threads and err */
    int err;
};

/* Books the last call's error and takes the next number. */
static bool each_take(struct each *w, int err, size_t *i)
{
    bool got;

    pthread_mutex_lock(&w->lock);
    if (err && !w->err)
        w->err = err;
    got = !w->err && w->next < w->n;
    if (got)
        *i = w->next++;
    pthread_mutex_unlock(&w->lock);
    return got;
}

static void *each_worker(void *arg)
{
    struct each *w = arg;
    struct evaluator *e = NULL;
    int thread, err;
    size_t i;

    pthread_mutex_lock(&w->lock);
    thread = w->threads++;
    pthread_mutex_unlock(&w->lock);
    err = grid_crew_evaluator(w->crew, thread, &e);
    while (each_take(w, err, &i))
        err = w->fn(w->self, e, i);
    return NULL;
}

int grid_crew_each(struct grid_crew *crew, size_t n,
                   int (*fn)(void *self, struct evaluator *e, size_t i), void *self)
{
    struct each w = {.crew = crew, .n = n, .fn = fn, .self = self};

    pthread_mutex_init(&w.lock, NULL);
    threads_run(n < (size_t)crew->jobs ? (int)n : crew->jobs, each_worker, &w);
    pthread_mutex_destroy(&w.lock);
    return w.err;
}

int grid_each(size_t n, int jobs, int (*fn)(void *self, struct evaluator *e, size_t i), void *self)
{
    struct grid_crew *crew = NULL;
    int err = grid_crew_open(jobs, &crew);

    if (!err)
        err = grid_crew_each(crew, n, fn, self);
    grid_crew_close(crew);
    return err;
}

/* grid_run: all points are kept. */
struct keep {
    struct grid *grid;
    size_t next, done;
    int interrupt;
    void (*progress)(void *self, size_t done, size_t all);
    void *self;
};

static bool keep_take(void *self, size_t *chunk, int *err)
{
    struct keep *k = self;

    (void)err;
    *chunk = k->next;
    if (interrupt_came(k->interrupt))
        return false;
    return k->next < grid_num_chunks(k->grid->config) ? (k->next++, true) : false;
}

static int keep_done(void *self, size_t index, const struct grid_point *p)
{
    struct keep *k = self;

    k->grid->points[index] = *p;
    k->done++;
    if (k->progress)
        k->progress(k->self, k->done, k->grid->num_points);
    return 0;
}

/* Points that nobody took keep their names. */
static void left_fill(struct grid *g)
{
    size_t per = config_num_points_per_scenario(g->config);

    for (size_t i = 0; i < g->num_points; i++) {
        struct grid_point *p = &g->points[i];

        if (p->policy)
            continue;
        p->scenario = i / per;
        config_knobs(g->config, i % per, &p->policy, &p->knobs, &p->entry);
        p->skipped = true;
        g->num_left++;
    }
}

enum { LAST_TASKS = GRID_ROWS_MAX }; /* of a scenario */

/* Of every row of a table the MoE part alone, too. */
static int last_task(void *self, struct evaluator *e, size_t i)
{
    struct grid *g = self;
    const struct grid_point *rows[GRID_ROWS_MAX];
    size_t scenario = i / LAST_TASKS;
    int n = grid_rows(g, scenario, rows), row = (int)(i % LAST_TASKS), err;
    struct grid_point *p;
    struct scenario s;

    if (row >= n)
        return 0;
    err = config_scenario(g->config, scenario, &s);
    if (err)
        return err;
    p = &g->points[rows[row] - g->points];
    err = evaluate_moe_part(e, &s, p->policy, &p->knobs, &p->ev);
    scenario_free(&s);
    return err;
}

int grid_run(const struct config *c, int jobs, int interrupt,
             void (*progress)(void *self, size_t done, size_t all), void *self, struct grid **out)
{
    struct grid *g = calloc(1, sizeof *g);
    struct keep keep = {.grid = g, .interrupt = interrupt, .progress = progress, .self = self};
    struct grid_work work = {.config = c, .take = keep_take, .done = keep_done, .self = &keep};
    struct evaluator *e = NULL;
    int err = g ? evaluator_open(&e) : ERR_NOMEM;

    if (!err) {
        evaluator_whole_layers(e);
        g->config = c;
        g->num_points = config_num_points(c);
        g->points = calloc(g->num_points, sizeof *g->points);
        err = g->points ? evaluate_config(e, c, NULL) : ERR_NOMEM;
    }
    if (!err)
        err = pass_memory_warn(e, c);
    evaluator_close(e);
    if (!err)
        err = grid_work_run(&work, jobs);
    if (!err)
        left_fill(g);
    if (!err)
        err = grid_each(config_num_scenarios(c) * LAST_TASKS, jobs, last_task, g);
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

const struct grid_point *grid_point_to_show(const struct grid *g)
{
    const struct grid_point *show = NULL;

    for (size_t i = 0; i < g->num_points; i++) {
        const struct grid_point *p = &g->points[i];

        if (!p->skipped && p->ev.gain_pct > 0 && (!show || p->ev.gain_pct > show->ev.gain_pct))
            show = p;
    }
    for (size_t i = 0; i < g->num_points && !show; i++)
        if (!g->points[g->num_points - 1 - i].skipped)
            show = &g->points[g->num_points - 1 - i];
    return show;
}

int grid_point_method(const struct grid_point *p)
{
    return policy_knob(p->policy, &p->knobs, p->policy->method_knob, 0);
}

void grid_point_name(const struct grid_point *p, char *buf, size_t size)
{
    if (p->policy->method_knob)
        snprintf(buf, size, "%s %d", p->policy->name, grid_point_method(p));
    else
        snprintf(buf, size, "%s", p->policy->name);
}

/* Of one scenario and row name (a PEO method is a row of its own) the fastest point. */
static const struct grid_point *row_best(const struct grid *g, size_t scenario, const char *name)
{
    size_t per = config_num_points_per_scenario(g->config);
    const struct grid_point *best = NULL;

    for (size_t i = scenario * per; i < (scenario + 1) * per; i++) {
        const struct grid_point *p = &g->points[i];
        char own[24];

        grid_point_name(p, own, sizeof own);
        if (!p->skipped && !strcmp(own, name) && (!best || p->ev.layer_us < best->ev.layer_us))
            best = p;
    }
    return best;
}

/* The rows of a scenario in the order of the grid; returns how many. */
int grid_rows(const struct grid *g, size_t scenario, const struct grid_point **rows)
{
    size_t per = config_num_points_per_scenario(g->config);
    char names[GRID_ROWS_MAX][24];
    int n = 0;

    for (size_t i = scenario * per; i < (scenario + 1) * per && n < GRID_ROWS_MAX; i++) {
        char name[24];
        int seen = 0;

        grid_point_name(&g->points[i], name, sizeof name);
        for (int j = 0; j < n; j++)
            seen |= !strcmp(names[j], name);
        if (seen || !(rows[n] = row_best(g, scenario, name)))
            continue;
        snprintf(names[n++], sizeof names[0], "%s", name);
    }
    return n;
}
