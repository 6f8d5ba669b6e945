#include "study/recommend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "study/pass.h"
#include "base/log.h"
#include "base/stats.h"
#include "study/draws.h"
#include "study/grid.h"

/* A gain below this is none: one part in ten thousand. */
#define LEAST_GAIN_PCT 0.01

bool recommend_pays(const struct recommend_pick *p)
{
    return p->best >= 0 && p->entry[p->best].ev.gain_pct > LEAST_GAIN_PCT;
}

static bool is_none(const struct config *c, int entry)
{
    return c->policies[entry].policy == &policy_none;
}

static void winner_set(const struct config *c, struct recommend_pick *p)
{
    p->best = -1;
    for (int i = 0; i < c->num_policies; i++)
        if (p->entry[i].found &&
            (p->best < 0 || search_saved_us(&p->entry[i]) > search_saved_us(&p->entry[p->best])))
            p->best = i;
}

/* Entries that save as much as the best, as far as the fast fidelity can tell. */
static bool is_near(const struct recommend_pick *p, int entry)
{
    const struct search_result *best = &p->entry[p->best], *r = &p->entry[entry];

    return r->found &&
           search_saved_us(best) - search_saved_us(r) <= RECOMMEND_NEAR * best->ev.none_us;
}

static bool is_close(const struct config *c, const struct recommend_pick *p)
{
    const struct evaluation *ev = &p->entry[p->best].ev;
    int near = 0;

    for (int i = 0; i < c->num_policies; i++)
        near += is_near(p, i);
    return near > 1 || fabs(ev->none_us - ev->layer_us) <= RECOMMEND_NEAR * ev->none_us;
}

/* What hangs on less than the fast fidelity is off by is decided by exact sharing. */
static void exact_choose(const struct config *c, const struct scenario *s, struct recommend_pick *p)
{
    p->exact = p->best >= 0 && s->fidelity && is_close(c, p);
    for (int i = 0; i < c->num_policies; i++)
        p->entry[i].near = p->exact && is_near(p, i);
}

/* Tasks are entries of scenarios, or scenarios. The last scenarios come first: batches mostly
 * ascend, and the longest tasks should not be the last. */
struct unit {
    struct recommend_pick *pick;
    int entry;
    const struct policy *policy;
    struct search_result *found;
    struct scenario s;
};

static int unit_open(struct recommend *r, size_t task, size_t per, struct unit *u)
{
    u->pick = &r->pick[r->num_picks - 1 - task / per];
    u->entry = (int)(task % per);
    u->policy = r->config->policies[u->entry].policy;
    u->found = &u->pick->entry[u->entry];
    return config_scenario(r->config, u->pick->scenario, &u->s);
}

/* Grids that are simulated in full do not hang on each other. */
static int whole_task(void *self, struct evaluator *e, size_t i)
{
    struct recommend *r = self;
    struct search_space space;
    struct unit u;
    int err = unit_open(r, i, (size_t)r->config->num_policies, &u);

    if (err)
        return err;
    if (!is_none(r->config, u.entry)) {
        err = search_space_of(e, r->config, &u.s, u.entry, &space);
        if (!err && search_space_is_whole(&space))
            err = search_run(e, &u.s, &space, 0, u.found);
    }
    scenario_free(&u.s);
    return err;
}

/* The other entries, each in turn, so that one that falls far behind is left early. */
static int rest_task(void *self, struct evaluator *e, size_t task)
{
    struct recommend *r = self;
    const struct config *c = r->config;
    struct search_space space;
    struct unit u;
    double most_us = 0;
    int err = unit_open(r, task, 1, &u);

    if (err)
        return err;
    for (int i = 0; i < c->num_policies && !err; i++) {
        struct search_result *found = &u.pick->entry[i];

        if (!is_none(c, i) && !found->whole) {
            err = search_space_of(e, c, &u.s, i, &space);
            if (!err)
                err = search_run(e, &u.s, &space, most_us, found);
        }
        if (!err && found->found)
            most_us = fmax(most_us, search_saved_us(found));
    }
    winner_set(c, u.pick);
    for (int i = 0; i < c->num_policies; i++)
        u.pick->entry[i].near = u.pick->best >= 0 && is_near(u.pick, i);
    scenario_free(&u.s);
    return err;
}

/* Of the best and of those that may yet be it. */
static int flats_task(void *self, struct evaluator *e, size_t i)
{
    struct recommend *r = self;
    struct search_space space;
    struct unit u;
    int err = unit_open(r, i, (size_t)r->config->num_policies, &u);

    if (err)
        return err;
    if (u.found->near) {
        err = search_space_of(e, r->config, &u.s, u.entry, &space);
        if (!err)
            err = search_flats(e, &u.s, &space, u.found);
    }
    search_result_free(u.found);
    scenario_free(&u.s);
    return err;
}

/* What is close is simulated exactly; of all that was found the MoE part alone, too. */
static int last_task(void *self, struct evaluator *e, size_t i)
{
    struct recommend *r = self;
    struct unit u;
    int err = unit_open(r, i, (size_t)r->config->num_policies, &u);

    if (err)
        return err;
    if (u.found->near) {
        u.s.fidelity = 0;
        err = evaluate_point(e, &u.s, u.policy, &u.found->knobs, -1, &u.found->ev, NULL, NULL);
    }
    if (!err && u.found->found)
        err = evaluate_moe_part(e, &u.s, u.policy, &u.found->knobs, &u.found->ev);
    if (!err && u.found->found)
        err = bound_of(e, &u.s, u.policy, &u.found->knobs, &u.found->bound);
    scenario_free(&u.s);
    return err;
}

/* Every pick's winner, and which entries are to be simulated exactly. */
static int winners_set(struct recommend *r)
{
    int err = 0;

    for (size_t i = 0; i < r->num_picks && !err; i++) {
        struct scenario s;

        err = config_scenario(r->config, r->pick[i].scenario, &s);
        if (err)
            return err;
        winner_set(r->config, &r->pick[i]);
        exact_choose(r->config, &s, &r->pick[i]);
        scenario_free(&s);
    }
    return err;
}

static int searches_run(struct recommend *r, struct grid_crew *crew)
{
    size_t units = r->num_picks * (size_t)r->config->num_policies;
    int err = grid_crew_each(crew, units, whole_task, r);

    if (!err)
        err = grid_crew_each(crew, r->num_picks, rest_task, r);
    if (!err)
        err = grid_crew_each(crew, units, flats_task, r);
    if (!err)
        err = winners_set(r);
    if (!err)
        err = grid_crew_each(crew, units, last_task, r);
    for (size_t i = 0; i < r->num_picks && !err; i++)
        winner_set(r->config, &r->pick[i]);
    return err;
}

static void totals_add(struct recommend *r, const struct recommend_pick *p)
{
    for (int i = 0; i < r->config->num_policies; i++) {
        r->simulations += p->entry[i].simulations;
        r->grid += p->entry[i].grid;
        r->partly |= p->entry[i].grid > 0 && !p->entry[i].whole;
    }
}

struct interval_work {
    struct recommend *r;
    struct draws *draws;
    double *gain_pct; /* [num_picks][draws] */
};

/* One draw of one scenario: its winner and the baseline on a profile drawn. */
static int draw_task(void *self, struct evaluator *e, size_t i)
{
    struct interval_work *w = self;
    const struct recommend *r = w->r;
    size_t task = r->num_picks * (size_t)r->draws - 1 - i, draw = task % (size_t)r->draws;
    const struct recommend_pick *p = &r->pick[task / (size_t)r->draws];
    const struct hw_profile *drawn;
    struct evaluation ev;
    struct scenario s;
    int err = config_scenario(r->config, p->scenario, &s);

    if (err)
        return err;
    drawn = draws_at(w->draws, s.profile, (int)draw);
    if (p->best >= 0 && drawn) {
        evaluator_use_profile(e, drawn);
        err = evaluate_point(e, &s, r->config->policies[p->best].policy, &p->entry[p->best].knobs,
                             -1, &ev, NULL, NULL);
        w->gain_pct[task] = err ? 0 : ev.gain_pct;
        evaluator_use_profile(e, NULL);
    }
    scenario_free(&s);
    return err;
}

static int intervals_set(struct recommend *r, struct grid_crew *crew)
{
    struct interval_work w = {.r = r};
    size_t n = (size_t)r->draws;
    int err = draws_open(r->config, r->draws, &w.draws);

    if (err)
        return err;
    w.gain_pct = calloc(r->num_picks * n, sizeof *w.gain_pct);
    err = w.gain_pct ? 0 : ERR_NOMEM;
    if (!err)
        err = grid_crew_each(crew, r->num_picks * n, draw_task, &w);
    for (size_t i = 0; i < r->num_picks && !err; i++) {
        struct recommend_pick *p = &r->pick[i];
        struct interval gain;

        p->has_interval = p->best >= 0;
        if (!p->has_interval)
            continue;
        gain = interval_of(&w.gain_pct[i * n], n, p->entry[p->best].ev.gain_pct);
        p->gain_low_pct = gain.low;
        p->gain_high_pct = gain.high;
    }
    draws_close(w.draws);
    free(w.gain_pct);
    return err;
}

/* The greater gain of two winners at a batch size between theirs. */
static int gain_at(struct evaluator *e, const struct recommend *r, struct scenario *s, int batch,
                   const struct recommend_pick *const two[2], double *gain_pct)
{
    int err = 0;

    *gain_pct = -100;
    s->batch = batch;
    for (int i = 0; i < 2 && !err; i++) {
        const struct policy *policy = r->config->policies[two[i]->best].policy;
        const struct knobs *k = &two[i]->entry[two[i]->best].knobs;
        struct evaluation ev;
        char why[200];

        err = evaluate_check(e, s, policy, k, why, sizeof why);
        if (!err)
            err = evaluate_point(e, s, policy, k, -1, &ev, NULL, NULL);
        if (!err && ev.gain_pct > *gain_pct)
            *gain_pct = ev.gain_pct;
        if (err == ERR_INFEASIBLE)
            err = 0;
    }
    return err;
}

/* Halves the interval between two listed batches, one of which pays, down to 1/16 of its end. */
static int turn_find(struct evaluator *e, struct recommend *r, const struct recommend_pick *low,
                     const struct recommend_pick *high, int low_batch, int high_batch)
{
    const struct recommend_pick *const two[2] = {low, high};
    struct recommend_turn turn = {low->scenario, recommend_pays(high), 0, low_batch, high_batch};
    struct scenario s;
    int err = config_scenario(r->config, low->scenario, &s);

    if (err)
        return err;
    while (!err && high_batch - low_batch > 1 + high_batch / 16) {
        int middle = low_batch + (high_batch - low_batch) / 2;
        double gain;

        err = gain_at(e, r, &s, middle, two, &gain);
        if ((gain > LEAST_GAIN_PCT) == turn.pays_above)
            high_batch = middle;
        else
            low_batch = middle;
    }
    scenario_free(&s);
    turn.batch = high_batch;
    r->turn[r->num_turns++] = turn;
    return err;
}

/* Neighbours along the batch axis, all else equal. */
static int turns_find(struct recommend *r, struct grid_crew *crew)
{
    const struct axis *batch = config_axis(r->config, "batch");
    struct evaluator *e = NULL;
    size_t step = 1;
    int err;

    if (!batch || batch->num_values < 2)
        return 0;
    for (int i = r->config->num_axes - 1; &r->config->axes[i] != batch; i--)
        step *= (size_t)r->config->axes[i].num_values;
    err = grid_crew_evaluator(crew, 0, &e);
    for (size_t i = 0; i + step < r->num_picks && !err; i++) {
        size_t at = i / step % (size_t)batch->num_values;
        const struct recommend_pick *a = &r->pick[i], *b = &r->pick[i + step];
        int low, high;

        if (at + 1 == (size_t)batch->num_values || a->best < 0 || b->best < 0 ||
            recommend_pays(a) == recommend_pays(b))
            continue;
        low = atoi(batch->values[at]);
        high = atoi(batch->values[at + 1]);
        if (low < high)
            err = turn_find(e, r, a, b, low, high);
    }
    return err;
}

static int check(const struct config *c)
{
    struct evaluator *e = NULL;
    bool any = false;
    int err = evaluator_open(&e);

    for (int i = 0; i < c->num_policies; i++)
        any |= !is_none(c, i);
    if (!err && !any) {
        log_error_at(c->path, 0, "policies: nothing but none is listed: nothing to recommend");
        err = ERR_CONFIG;
    }
    if (!err)
        err = evaluate_config(e, c, NULL);
    if (!err)
        err = pass_memory_warn(e, c);
    evaluator_close(e);
    return err;
}

static int picks_alloc(struct recommend *r)
{
    r->num_picks = config_num_scenarios(r->config);
    r->pick = calloc(r->num_picks, sizeof *r->pick);
    r->turn = calloc(r->num_picks, sizeof *r->turn);
    if (!r->pick || !r->turn)
        return ERR_NOMEM;
    for (size_t i = 0; i < r->num_picks; i++) {
        r->pick[i].scenario = i;
        r->pick[i].entry = calloc((size_t)r->config->num_policies, sizeof *r->pick[i].entry);
        if (!r->pick[i].entry)
            return ERR_NOMEM;
    }
    return 0;
}

int recommend_run(const struct config *c, int jobs, int draws, struct recommend **out)
{
    struct recommend *r = calloc(1, sizeof *r);
    struct grid_crew *crew = NULL;
    int err = r ? check(c) : ERR_NOMEM;

    if (!err)
        err = grid_crew_open(jobs, &crew);
    if (!err) {
        r->config = c;
        r->draws = draws;
        err = picks_alloc(r);
    }
    if (!err)
        err = searches_run(r, crew);
    for (size_t i = 0; i < (err ? 0 : r->num_picks); i++)
        totals_add(r, &r->pick[i]);
    if (!err && draws > 0)
        err = intervals_set(r, crew);
    if (!err)
        err = turns_find(r, crew);
    grid_crew_close(crew);
    if (err)
        recommend_free(r);
    else
        *out = r;
    return err;
}

void recommend_free(struct recommend *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->num_picks && r->pick; i++) {
        for (int j = 0; j < r->config->num_policies && r->pick[i].entry; j++)
            search_result_free(&r->pick[i].entry[j]);
        free(r->pick[i].entry);
    }
    free(r->pick);
    free(r->turn);
    free(r);
}

const struct recommend_pick *recommend_best(const struct recommend *r)
{
    const struct recommend_pick *best = NULL;

    for (size_t i = 0; i < r->num_picks; i++) {
        const struct recommend_pick *p = &r->pick[i];

        if (p->best >= 0 &&
            (!best || p->entry[p->best].ev.gain_pct > best->entry[best->best].ev.gain_pct))
            best = p;
    }
    return best;
}
