#include "study/confidence.h"

#include <stdlib.h>

#include "base/err.h"
#include "study/draws.h"
#include "model/law/cost_range.h"

struct work {
    const struct grid *grid;
    struct confidence *c;
    struct draws *draws;
    double *layer_us, *gain_pct; /* [row * draws + draw] */
};

static int rows_find(struct confidence *c, const struct grid *g)
{
    size_t scenarios = config_num_scenarios(g->config);

    c->rows = calloc(scenarios * GRID_ROWS_MAX, sizeof *c->rows);
    if (!c->rows)
        return ERR_NOMEM;
    for (size_t i = 0; i < scenarios; i++) {
        const struct grid_point *rows[GRID_ROWS_MAX];
        int n = grid_rows(g, i, rows);

        for (int j = 0; j < n; j++)
            c->rows[c->num_rows++].point = rows[j];
    }
    return 0;
}

/* The first op of the point's plan that lies outside its law's fitted range. */
static int outside_find(struct evaluator *e, const struct scenario *s, struct confidence_row *row)
{
    const struct grid_point *p = row->point;
    struct plan *plan = NULL;
    int err = evaluate_plan(e, s, p->policy, &p->knobs, &plan);

    for (int op = 0; !err && op < plan->num_ops; op++)
        if (cost_range_outside(evaluate_profile(e), plan, op, row->outside, sizeof row->outside))
            break;
    plan_free(plan);
    return err;
}

static int draw_task(void *self, struct evaluator *e, size_t i)
{
    struct work *w = self;
    size_t n = (size_t)w->c->draws, draw = i % n;
    struct confidence_row *row = &w->c->rows[i / n];
    const struct grid_point *p = row->point;
    struct evaluation ev;
    struct scenario s;
    int err = config_scenario(w->grid->config, p->scenario, &s);

    if (err)
        return err;
    evaluator_use_profile(e, draws_at(w->draws, s.profile, (int)draw));
    err = evaluate_point(e, &s, p->policy, &p->knobs, -1, &ev, NULL, NULL);
    if (!err && draw == 0)
        err = outside_find(e, &s, row);
    w->layer_us[i] = err ? 0 : ev.layer_us;
    w->gain_pct[i] = err ? 0 : ev.gain_pct;
    evaluator_use_profile(e, NULL);
    scenario_free(&s);
    return err;
}

/* Gains compare rows: a policy measured with attention has another layer time than one without. */
static bool beats_others(const struct work *w, size_t row, size_t draw)
{
    size_t n = (size_t)w->c->draws;

    for (size_t i = 0; i < w->c->num_rows; i++)
        if (i != row && w->c->rows[i].point->scenario == w->c->rows[row].point->scenario &&
            w->gain_pct[i * n + draw] >= w->gain_pct[row * n + draw])
            return false;
    return true;
}

static void rows_fill(struct work *w)
{
    size_t n = (size_t)w->c->draws;

    for (size_t i = 0; i < w->c->num_rows; i++) {
        struct confidence_row *row = &w->c->rows[i];

        row->layer_us = interval_of(&w->layer_us[i * n], n, row->point->ev.layer_us);
        row->gain_pct = interval_of(&w->gain_pct[i * n], n, row->point->ev.gain_pct);
        for (size_t d = 0; d < n; d++) {
            row->beats_none += (w->gain_pct[i * n + d] > 0) / (double)n;
            row->beats_all += beats_others(w, i, d) / (double)n;
        }
    }
}

int confidence_run(const struct grid *g, int draws, int jobs, struct confidence **out)
{
    struct confidence *c = calloc(1, sizeof *c);
    struct work w = {.grid = g, .c = c};
    int err = c ? rows_find(c, g) : ERR_NOMEM;

    if (!err) {
        c->draws = draws;
        err = draws_open(g->config, draws, &w.draws);
    }
    if (!err) {
        w.layer_us = calloc(c->num_rows * (size_t)draws, sizeof *w.layer_us);
        w.gain_pct = calloc(c->num_rows * (size_t)draws, sizeof *w.gain_pct);
        err = w.layer_us && w.gain_pct ? 0 : ERR_NOMEM;
    }
    if (!err)
        err = grid_each(c->num_rows * (size_t)draws, jobs, draw_task, &w);
    if (!err)
        rows_fill(&w);
    draws_close(w.draws);
    free(w.layer_us);
    free(w.gain_pct);
    if (err)
        confidence_free(c);
    else
        *out = c;
    return err;
}

void confidence_free(struct confidence *c)
{
    if (!c)
        return;
    free(c->rows);
    free(c);
}
