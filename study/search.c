#include "study/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/num.h"

/* A choice that takes this much longer than the best point, from where it was tried, is dropped. */
#define FOLLOW 1.2
/* Times this close are a plateau: kernels' grids round SM counts, so that a step may change nothing
 * and the next one may. */
#define PLATEAU       1.002
#define PLATEAU_STEPS 2
/* A policy that takes this much longer than it may, wherever it was tried first, is dropped. */
#define LOST 1.2
#define FLAT 1.02

static int value_cmp(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Integers have an order, but for those that are names. */
static bool opt_is_ordered(const struct policy *p, const struct opt *o)
{
    const struct knob_search *s = policy_knob_search(p, o->key);

    return o->type == OPT_INT && !(s && s->unordered);
}

static int dim_value_add(struct search_dim *d, int value)
{
    for (int i = 0; i < d->num_values; i++)
        if (d->value[i] == value)
            return 0;
    if (d->num_values == SEARCH_MAX_VALUES)
        return ERR_RANGE;
    d->value[d->num_values++] = value;
    return 0;
}

static int dim_from_axis(struct search_dim *d, const struct policy *p, const struct axis *a,
                         const char *path)
{
    struct knobs k;
    int err = 0;

    for (int i = 0; i < a->num_values && !err; i++) {
        knobs_default(p, &k);
        err = opt_set(p->knobs, &k, a->opt->key, a->values[i], "config", 0);
        if (!err)
            err = dim_value_add(d, knob_get(a->opt, &k));
    }
    if (err == ERR_RANGE)
        log_error_at(path, a->line, "%s: a search takes at most %d values", a->opt->key,
                     SEARCH_MAX_VALUES);
    return err;
}

/* `auto` stands for a search of its own: here it is one, over all that is possible. */
static bool axis_is_auto(const struct policy *p, const struct axis *a)
{
    const struct knob_search *s = policy_knob_search(p, a->opt->key);

    for (int i = 0; i < a->num_values && s && s->auto_word; i++)
        if (!strcmp(a->values[i], s->auto_word))
            return true;
    return false;
}

int search_space_of(struct evaluator *e, const struct config *c, const struct scenario *s,
                    int entry, struct search_space *out)
{
    const struct config_policy *cp = &c->policies[entry];
    struct layer_spec spec;
    int err = evaluate_spec(e, s, cp->policy, &spec);

    *out = (struct search_space){.policy = cp->policy};
    for (const struct opt *o = cp->policy->knobs; o->key && !err; o++) {
        struct search_dim *d = &out->dim[out->num_dims];
        const struct axis *a = NULL;

        *d = (struct search_dim){.opt = o, .ordered = opt_is_ordered(cp->policy, o)};
        for (int i = 0; i < cp->num_axes; i++)
            if (cp->axes[i].opt == o && !axis_is_auto(cp->policy, &cp->axes[i]))
                a = &cp->axes[i];
        if (a)
            err = dim_from_axis(d, cp->policy, a, c->path);
        else
            d->num_values = policy_knob_values(cp->policy, o, &spec, d->value, SEARCH_MAX_VALUES);
        if (d->ordered)
            qsort(d->value, (size_t)d->num_values, sizeof *d->value, value_cmp);
        if (d->num_values && out->num_dims < SEARCH_MAX_DIMS - 1)
            out->num_dims++;
    }
    return err;
}

/* A point is an index into the values of each dimension. */
struct point {
    int at[SEARCH_MAX_DIMS];
};

struct search_memo {
    struct point point;
    double layer_us; /* INFINITY: cannot run */
};

struct search {
    struct evaluator *e;
    const struct scenario *s;
    const struct search_space *space;
    struct search_result *out;
    double to_beat_us;
    struct point best;
    double best_us;
};

static void knobs_of(const struct search_space *space, const struct point *p, struct knobs *k)
{
    knobs_default(space->policy, k);
    for (int i = 0; i < space->num_dims; i++)
        knob_set(space->dim[i].opt, k, space->dim[i].value[p->at[i]]);
}

static bool point_equal(const struct search *s, const struct point *a, const struct point *b)
{
    return !memcmp(a->at, b->at, (size_t)s->space->num_dims * sizeof *a->at);
}

static int memo_add(struct search *s, const struct point *p, double layer_us)
{
    struct search_result *r = s->out;

    if (r->num_memo == r->cap_memo) {
        size_t cap = r->cap_memo ? 2 * r->cap_memo : 64;
        struct search_memo *more = realloc(r->memo, cap * sizeof *more);

        if (!more)
            return ERR_NOMEM;
        r->memo = more;
        r->cap_memo = cap;
    }
    r->memo[r->num_memo++] = (struct search_memo){*p, layer_us};
    return 0;
}

/* Simulates a point once; points that cannot run cost nothing. */
static int time_of(struct search *s, const struct point *p, double *layer_us)
{
    struct knobs k;
    struct evaluation ev;
    char why[200];
    int err;

    for (size_t i = 0; i < s->out->num_memo; i++)
        if (point_equal(s, &s->out->memo[i].point, p)) {
            *layer_us = s->out->memo[i].layer_us;
            return 0;
        }
    knobs_of(s->space, p, &k);
    *layer_us = INFINITY;
    err = evaluate_check(s->e, s->s, s->space->policy, &k, why, sizeof why);
    if (!err) {
        err = evaluate_point(s->e, s->s, s->space->policy, &k, -1, &ev, NULL, NULL);
        s->out->simulations++;
        *layer_us = ev.layer_us;
        if (!err && (!s->out->found || ev.layer_us < s->best_us)) {
            s->best = *p;
            s->best_us = ev.layer_us;
            s->out->found = true;
            s->out->knobs = k;
            s->out->ev = ev;
        }
    }
    if (err && err != ERR_INFEASIBLE)
        return err;
    return memo_add(s, p, *layer_us);
}

/* Steps by `step` values in one dimension; false at the end of the range. */
static bool point_step(const struct search *s, struct point *p, int dim, int step)
{
    int at = p->at[dim] + step;

    if (at < 0 || at >= s->space->dim[dim].num_values)
        return false;
    p->at[dim] = at;
    return true;
}

/* Moves *p to a neighbour that is faster, across a plateau where need be; *moved says whether. */
static int try_step(struct search *s, struct point *p, double *us, int dim, int step, int dim2,
                    int step2, bool *moved)
{
    struct point q = *p;
    double q_us = *us;
    int err = 0;

    for (int n = 0; n < PLATEAU_STEPS && !err && q_us >= *us && q_us < PLATEAU * *us; n++) {
        if (!point_step(s, &q, dim, step) || (dim2 >= 0 && !point_step(s, &q, dim2, step2)))
            return 0;
        err = time_of(s, &q, &q_us);
    }
    if (!err && q_us < *us) {
        *p = q;
        *us = q_us;
        *moved = true;
    }
    return err;
}

/* Up and down from the same point: the better one is taken. */
static int try_both(struct search *s, struct point *p, double *us, int dim, int step, bool *moved)
{
    struct point up = *p, down = *p;
    double up_us = *us, down_us = *us;
    int err = try_step(s, &up, &up_us, dim, step, -1, 0, moved);

    if (!err)
        err = try_step(s, &down, &down_us, dim, -step, -1, 0, moved);
    if (!err && *moved) {
        *p = down_us < up_us ? down : up;
        *us = fmin(down_us, up_us);
    }
    return err;
}

/* All pairs of ordered dimensions, both ways, once no single step helps. */
static int try_diagonals(struct search *s, struct point *p, double *us, bool *moved)
{
    int err = 0;

    for (int i = 0; i < s->space->num_dims && !err; i++)
        for (int j = i + 1; j < s->space->num_dims && !err; j++)
            for (int way = 0; way < 4 && !err && !*moved; way++)
                if (s->space->dim[i].ordered && s->space->dim[j].ordered)
                    err = try_step(s, p, us, i, way & 1 ? 1 : -1, j, way & 2 ? 1 : -1, moved);
    return err;
}

/* Goes downhill from p; steps begin at a quarter of each range, or at one value where near. */
static int pattern_search(struct search *s, struct point p, bool near)
{
    const struct search_space *space = s->space;
    int step[SEARCH_MAX_DIMS] = {0}, largest = 1, err;
    double us;

    for (int i = 0; i < space->num_dims; i++)
        if (space->dim[i].ordered)
            step[i] = near ? 1 : (space->dim[i].num_values + 2) / 4;
    err = time_of(s, &p, &us);
    while (largest > 0 && !err) {
        bool moved = false;

        largest = 0;
        for (int i = 0; i < space->num_dims && !err; i++) {
            bool here = false;

            if (!step[i])
                continue;
            err = try_both(s, &p, &us, i, step[i], &here);
            moved |= here;
            largest = step[i] > largest ? step[i] : largest;
        }
        if (!err && !moved && largest == 1 && us < FLAT * s->best_us)
            err = try_diagonals(s, &p, &us, &moved);
        if (!moved && largest == 1)
            largest = 0;
        for (int i = 0; i < space->num_dims && !moved; i++)
            step[i] = step[i] > 1 ? step[i] / 2 : step[i];
    }
    return err;
}

/* Combinations of the dimensions without order, as indices 0.. */
static int choices_count(const struct search_space *space)
{
    double n = 1;

    for (int i = 0; i < space->num_dims; i++)
        if (!space->dim[i].ordered)
            n *= space->dim[i].num_values;
    return n < 4096 ? (int)n : 4096;
}

static void choice_set(const struct search_space *space, int choice, struct point *p)
{
    for (int i = 0; i < space->num_dims; i++)
        if (!space->dim[i].ordered) {
            p->at[i] = choice % space->dim[i].num_values;
            choice /= space->dim[i].num_values;
        }
}

/* Keeps *p, a point that can run, or the same with one knob moved to an end of its range. */
static int probe_end(struct search *s, struct point *p, double *us, int dim)
{
    struct point q = *p;
    double q_us;
    int err;

    q.at[dim] = 0;
    err = time_of(s, &q, &q_us);
    if (!err && q_us < *us) {
        *p = q;
        *us = q_us;
    }
    return err;
}

/* Where a choice's search begins: a point that can run, from the middle of every range towards its
 * ends; or the low end of a long range where that is faster (overlap often wants few SMs). */
static int middle_find(struct search *s, struct point *p, double *us)
{
    const struct search_dim *dim = s->space->dim;
    int err;

    for (int i = 0; i < s->space->num_dims; i++)
        if (dim[i].ordered)
            p->at[i] = (dim[i].num_values - 1) / 2;
    err = time_of(s, p, us);
    for (int i = 0; i < s->space->num_dims && !err && isinf(*us); i++) {
        int middle = p->at[i];

        for (int j = 0; dim[i].ordered && j < dim[i].num_values && !err && isinf(*us); j++) {
            p->at[i] = j;
            err = time_of(s, p, us);
        }
        if (isinf(*us))
            p->at[i] = middle;
    }
    for (int i = 0; i < s->space->num_dims && !err; i++)
        if (dim[i].ordered && dim[i].num_values > 4)
            err = probe_end(s, p, us, i);
    return err;
}

struct start {
    struct point point;
    double us;
    int choice;
};

static int start_cmp(const void *va, const void *vb)
{
    const struct start *a = va, *b = vb;

    return a->us != b->us ? (a->us > b->us) - (a->us < b->us) : a->choice - b->choice;
}

/* A choice after the first: from its middle or from where the best point stands on the ordered
 * knobs, whichever is faster. */
static int start_follow(struct search *s, const struct start *start)
{
    struct point p = s->best;
    double us;
    int err;

    choice_set(s->space, start->choice, &p);
    err = time_of(s, &p, &us);
    if (err || fmin(us, start->us) > FOLLOW * s->best_us)
        return err;
    return pattern_search(s, us < start->us ? p : start->point, us < start->us);
}

/* Is the best so far far from what another policy saves? */
static bool is_lost(const struct search *s)
{
    return s->out->found && s->to_beat_us > 0 &&
           s->best_us > LOST * (s->out->ev.none_us - s->to_beat_us);
}

/* Every point of a small grid: none is faster than the answer, and the memory says so of each. */
static int grid_search(struct search *s)
{
    struct point p = {0};
    double us;
    int err = 0, dim = 0;

    while (!err && dim < s->space->num_dims + (s->space->num_dims == 0)) {
        err = time_of(s, &p, &us);
        for (dim = 0; dim < s->space->num_dims; dim++) {
            if (++p.at[dim] < s->space->dim[dim].num_values)
                break;
            p.at[dim] = 0;
        }
        if (s->space->num_dims == 0)
            break;
    }
    return err;
}

static int choices_search(struct search *s)
{
    int n = choices_count(s->space), err = 0;
    struct start *starts = calloc((size_t)n, sizeof *starts);

    if (!starts)
        return ERR_NOMEM;
    for (int i = 0; i < n && !err; i++) {
        starts[i].choice = i;
        choice_set(s->space, i, &starts[i].point);
        err = middle_find(s, &starts[i].point, &starts[i].us);
    }
    qsort(starts, (size_t)n, sizeof *starts, start_cmp);
    if (!err && !isinf(starts[0].us) && !is_lost(s))
        err = pattern_search(s, starts[0].point, false);
    /* Twice: what a later choice finds may be where an earlier one is best too. */
    for (int i = 1; i < 2 * n && !err && !is_lost(s); i++)
        if (!isinf(starts[i % n].us))
            err = start_follow(s, &starts[i % n]);
    free(starts);
    return err;
}

/* Walks from the best point along one knob for as long as the time stays within 2%. */
static int flat_walk(struct search *s, int dim, int way, int *value)
{
    struct point p = s->best;
    double us, limit = FLAT * s->best_us;
    int err = 0;

    *value = s->space->dim[dim].value[p.at[dim]];
    while (!err && point_step(s, &p, dim, way)) {
        err = time_of(s, &p, &us);
        if (err || (us > limit && !isinf(us)))
            break;
        if (!isinf(us))
            *value = s->space->dim[dim].value[p.at[dim]];
    }
    return err;
}

static int flats_find(struct search *s)
{
    struct point best = s->best;
    int err = 0;

    for (int i = 0; i < s->space->num_dims && !err; i++) {
        const struct search_dim *d = &s->space->dim[i];
        struct search_flat *f = &s->out->flat[s->out->num_flat];

        if (!d->ordered || d->num_values < 2)
            continue;
        f->opt = d->opt;
        f->best = d->value[best.at[i]];
        f->range_low = d->value[0];
        f->range_high = d->value[d->num_values - 1];
        err = flat_walk(s, i, -1, &f->low);
        if (!err)
            err = flat_walk(s, i, 1, &f->high);
        s->out->num_flat++;
        /* A walk that finds something faster has found what the search missed: start again. */
        if (!point_equal(s, &best, &s->best)) {
            best = s->best;
            s->out->num_flat = 0;
            i = -1;
        }
    }
    return err;
}

static double grid_points(const struct search_space *space)
{
    double points = 1;

    for (int i = 0; i < space->num_dims; i++)
        points *= space->dim[i].num_values;
    return points;
}

bool search_space_is_whole(const struct search_space *space)
{
    return grid_points(space) <= SEARCH_WHOLE_GRID;
}

int search_run(struct evaluator *e, const struct scenario *s, const struct search_space *space,
               double to_beat_us, struct search_result *out)
{
    struct search run = {.e = e, .s = s, .space = space, .out = out, .to_beat_us = to_beat_us};

    *out = (struct search_result){.grid = grid_points(space)};
    out->whole = search_space_is_whole(space);
    return out->whole ? grid_search(&run) : choices_search(&run);
}

/* The point that the knobs of a result stand for. */
static void point_of(const struct search_space *space, struct knobs *k, struct point *p)
{
    for (int i = 0; i < space->num_dims; i++)
        for (int j = 0; j < space->dim[i].num_values; j++)
            if (space->dim[i].value[j] == knob_get(space->dim[i].opt, k))
                p->at[i] = j;
}

int search_flats(struct evaluator *e, const struct scenario *s, const struct search_space *space,
                 struct search_result *out)
{
    struct search run = {.e = e, .s = s, .space = space, .out = out};

    if (!out->found)
        return 0;
    run.best_us = out->ev.layer_us;
    point_of(space, &out->knobs, &run.best);
    return flats_find(&run);
}

void search_result_free(struct search_result *r)
{
    free(r->memo);
    r->memo = NULL;
    r->num_memo = r->cap_memo = 0;
}

double search_saved_us(const struct search_result *r)
{
    return r->ev.none_us - r->ev.layer_us;
}
