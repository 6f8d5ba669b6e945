#include "study/map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

const char *map_sure_name(enum map_sure sure)
{
    static const char *const names[] = {"tie", "likely", "clear"};

    return names[sure];
}

static double saved_us(const struct grid_point *p)
{
    return p ? p->ev.none_us - p->ev.layer_us : -INFINITY;
}

static bool is_none(const struct grid_point *p)
{
    return p->policy == &policy_none;
}

/* The two axes; others must have one value. */
static int axes_find(struct map *m)
{
    const struct config *c = m->config;

    for (int i = 0; i < c->num_axes; i++) {
        const struct axis *a = &c->axes[i];

        if (a->num_values < 2)
            continue;
        if (!strcmp(a->opt->key, "batch")) {
            m->batch = a;
        } else if (!m->other) {
            m->other = a;
        } else {
            log_error_at(
                c->path, a->line,
                "map takes batch and one other list, and both %s and %s are lists: --set one of "
                "them to a single value",
                m->other->opt->key, a->opt->key);
            return ERR_CONFIG;
        }
    }
    if (m->batch)
        return 0;
    log_error_at(c->path, 1, "map needs a list of batches: batch: [1, 8, 64], or --batch 1,8,64");
    return ERR_CONFIG;
}

/* Scenarios count with the last axis fastest. */
static size_t scenario_of(const struct map *m, int row, int column)
{
    size_t index = 0;

    for (int i = 0; i < m->config->num_axes; i++) {
        const struct axis *a = &m->config->axes[i];
        int at = a == m->batch ? column : a == m->other ? row : 0;

        index = index * (size_t)a->num_values + (size_t)at;
    }
    return index;
}

static void cell_place(struct map_cell *cell, const struct grid_point *p)
{
    if (is_none(p))
        cell->none = p;
    if (!cell->best || saved_us(p) > saved_us(cell->best)) {
        cell->second = cell->best;
        cell->best = p;
    } else if (!cell->second || saved_us(p) > saved_us(cell->second)) {
        cell->second = p;
    }
}

static void cell_fill(struct map *m, struct map_cell *cell)
{
    for (size_t i = 0; i < policy_count(); i++) {
        const struct grid_point *p = grid_best(m->grid, cell->scenario, policy_at(i));

        if (p)
            cell_place(cell, p);
    }
    if (!cell->best)
        return;
    cell->saved_us = saved_us(cell->best);
    if (cell->second)
        cell->margin_pct = 100 * (cell->saved_us - saved_us(cell->second)) / cell->best->ev.none_us;
    cell->sure = cell->margin_pct >= MAP_CLEAR_PCT    ? MAP_CLEAR
                 : cell->margin_pct >= MAP_LIKELY_PCT ? MAP_LIKELY
                                                      : MAP_TIE;
}

static const struct grid_point *point_of(const struct map *m, const struct map_cell *cell,
                                         const struct policy *p)
{
    return grid_best(m->grid, cell->scenario, p);
}

/* Of two neighbours with different winners: their lead over one another at both ends, crossed. */
static double crossing(const struct map *m, const struct map_cell *a, const struct map_cell *b,
                       double low, double high)
{
    double lead = saved_us(a->best) - saved_us(point_of(m, a, b->best->policy));
    double lag = saved_us(b->best) - saved_us(point_of(m, b, a->best->policy));
    double t = isfinite(lead) && isfinite(lag) && lead + lag > 0 ? lead / (lead + lag) : 0.5;

    return low * pow(high / low, t);
}

static void edges_find(struct map *m)
{
    for (int row = 0; row < m->rows; row++)
        for (int i = 0; i + 1 < m->columns; i++) {
            const struct map_cell *a = &m->cell[row * m->columns + i], *b = a + 1;

            if (!a->best || !b->best || a->best->policy == b->best->policy)
                continue;
            m->edge[m->num_edges++] = (struct map_edge){
                row, crossing(m, a, b, atof(m->batch->values[i]), atof(m->batch->values[i + 1])),
                a->best, b->best};
        }
}

static int cells_make(struct map *m)
{
    size_t n = (size_t)(m->rows * m->columns);

    m->cell = calloc(n, sizeof *m->cell);
    m->edge = calloc(n, sizeof *m->edge);
    if (!m->cell || !m->edge)
        return ERR_NOMEM;
    for (int row = 0; row < m->rows; row++)
        for (int i = 0; i < m->columns; i++) {
            struct map_cell *cell = &m->cell[row * m->columns + i];

            cell->scenario = scenario_of(m, row, i);
            cell_fill(m, cell);
        }
    edges_find(m);
    return 0;
}

int map_run(const struct config *c, int jobs, void (*progress)(void *self, size_t done, size_t all),
            void *self, struct map **out)
{
    struct map *m = calloc(1, sizeof *m);
    int err;

    if (!m)
        return ERR_NOMEM;
    m->config = c;
    err = axes_find(m);
    if (!err)
        err = grid_run(c, jobs, -1, progress, self, &m->grid);
    if (!err) {
        m->columns = m->batch->num_values;
        m->rows = m->other ? m->other->num_values : 1;
        err = cells_make(m);
    }
    if (err) {
        map_free(m);
        return err;
    }
    *out = m;
    return 0;
}

void map_free(struct map *m)
{
    if (!m)
        return;
    grid_free(m->grid);
    free(m->cell);
    free(m->edge);
    free(m);
}
