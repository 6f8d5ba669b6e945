#include "study/synthesize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/interrupt.h"
#include "base/stats.h"
#include "study/draws.h"
#include "study/grid.h"
#include "study/synth_moves.h"

enum { BEAM = 5, MEMO = 4096 };

struct member {
    struct program program;
    double us;
};

/* The search in one scenario. */
struct synth {
    struct evaluator *e;
    struct scenario s;
    struct member beam[BEAM]; /* the fastest first */
    int num;
    uint64_t seen[MEMO]; /* hashes of what was simulated; 0: free */
    uint64_t x;
    size_t simulations;
};

struct work {
    struct synthesis *out;
    const struct synth_options *options;
    const struct draws *draws;
    double *gain_pct;
    int interrupt;
};

/* FNV-1a over what a plan file would hold. */
static uint64_t hash_of(const struct program *p)
{
    uint64_t h = 14695981039346656037ull;
    const int *sizes = p->size;

    for (int r = 0; r < p->num_rounds; r++)
        h = (h ^ (uint64_t)sizes[r]) * 1099511628211ull;
    for (int i = 0; i < p->num_streams; i++)
        h = (h ^ (uint64_t)(p->stream[i].priority + 64)) * 1099511628211ull;
    for (int i = 0; i < p->num_steps; i++) {
        const struct program_step *s = &p->step[i];
        const int words[] = {s->kind,   s->round,  s->stream,  s->sms[0],
                             s->sms[1], s->sms[2], s->block_m, s->after};

        for (size_t j = 0; j < sizeof words / sizeof *words; j++)
            h = (h ^ (uint64_t)(unsigned)words[j]) * 1099511628211ull;
    }
    return h ? h : 1;
}

/* False: it was simulated before. */
static bool is_new(struct synth *y, const struct program *p)
{
    uint64_t h = hash_of(p);
    size_t at = h % MEMO;

    for (int i = 0; i < MEMO && y->seen[at]; i++, at = (at + 1) % MEMO)
        if (y->seen[at] == h)
            return false;
    y->seen[at] = h;
    return true;
}

static void beam_add(struct synth *y, const struct program *p, double us)
{
    int at = y->num;

    while (at > 0 && y->beam[at - 1].us > us)
        at--;
    if (at == BEAM || (at > 0 && y->beam[at - 1].us == us)) /* equal: another name of the same */
        return;
    if (y->num < BEAM)
        y->num++;
    memmove(&y->beam[at + 1], &y->beam[at], (size_t)(y->num - 1 - at) * sizeof *y->beam);
    y->beam[at] = (struct member){*p, us};
}

/* Simulates a program that was not; one that cannot run or finish is left out. */
static int try(struct synth *y, const struct program *p)
{
    struct scenario s = y->s;
    struct evaluation ev;
    struct knobs k;
    char why[200];
    int err;

    if (!is_new(y, p))
        return 0;
    s.program = p;
    knobs_default(&policy_program, &k);
    err = evaluate_check(y->e, &s, &policy_program, &k, why, sizeof why);
    if (!err)
        err = evaluate_point(y->e, &s, &policy_program, &k, -1, &ev, NULL, NULL);
    if (!err) {
        y->simulations++;
        beam_add(y, p, ev.layer_us);
    }
    return err == ERR_INFEASIBLE || err == ERR_STALLED ? 0 : err;
}

/* The best knobs of each policy, and the policy's own schedule as a program. */
static int named_search(struct synth *y, const struct config *c, struct synth_pick *p)
{
    struct search_space space;
    double from_us = INFINITY;
    int err = 0;

    p->named_us = INFINITY;
    for (int i = 0; i < c->num_policies && !err; i++) {
        struct search_result r = {0};
        struct layer_spec spec;
        struct program program;

        if (c->policies[i].policy == &policy_program)
            continue;
        err = search_space_of(y->e, c, &y->s, i, &space);
        if (!err)
            err = search_run(y->e, &y->s, &space, 0, &r);
        y->simulations += r.simulations;
        if (!err && r.found && r.ev.layer_us < p->named_us) {
            p->named = space.policy;
            p->knobs = r.knobs;
            p->named_us = r.ev.layer_us;
        }
        if (!err && r.found)
            err = evaluate_settle(y->e, &y->s, space.policy, &r.knobs);
        if (!err && r.found)
            err = evaluate_spec(y->e, &y->s, space.policy, &spec);
        if (!err && r.found && !program_of(&spec, space.policy, &r.knobs, &program)) {
            err = try(y, &program);
            if (r.ev.layer_us < from_us) {
                from_us = r.ev.layer_us;
                p->from = program;
                p->has_from = true;
            }
        }
        search_result_free(&r);
    }
    return err;
}

/* peo's schedules with every number of rounds: where uneven ones begin. */
static int rounds_seed(struct synth *y)
{
    int err = 0;

    for (int m = 1; m <= 4 && !err; m++)
        for (int R = 2; R <= 16 && !err; R *= 2) {
            struct layer_spec spec;
            struct program program;
            struct knobs k;
            char why[200];

            knobs_default(&policy_peo, &k);
            k.overlap_method = m;
            k.num_rounds = R;
            k.num_sms = 8;
            if (evaluate_check(y->e, &y->s, &policy_peo, &k, why, sizeof why) ||
                evaluate_spec(y->e, &y->s, &policy_peo, &spec) ||
                program_of(&spec, &policy_peo, &k, &program))
                continue;
            err = try(y, &program);
        }
    return err;
}

/* One to three changes of one of the best, the very best half of the time. */
static int step(struct synth *y)
{
    int which = synth_next(&y->x) % 2 ? 0 : (int)(synth_next(&y->x) % (unsigned)y->num);
    struct program p = y->beam[which].program;
    int changes = 1 + (int)(synth_next(&y->x) % 3), made = 0;

    for (int tries = 0; made < changes && tries < 20; tries++)
        made += synth_move(&p, &y->x);
    return made ? try(y, &p) : 0;
}

static int bound_find(struct synth *y, struct synth_pick *p)
{
    struct bound named, program;
    struct scenario s = y->s;
    struct knobs k;
    int err = bound_of(y->e, &y->s, p->named, &p->knobs, &named);

    p->bound = named;
    if (err || !y->num)
        return err;
    s.program = &y->beam[0].program;
    knobs_default(&policy_program, &k);
    err = bound_of(y->e, &s, &policy_program, &k, &program);
    if (!err && program.us > 0 && (p->named->own_kernels || program.us < named.us))
        p->bound = program;
    return err;
}

static bool is_close(const struct synth *y, const struct synth_pick *p)
{
    return y->num && p->bound.us > 0 && y->beam[0].us < p->bound.us * (1 + SYNTH_CLOSE);
}

static void pick_fill(const struct synth *y, struct synth_pick *p)
{
    p->found = y->num && y->beam[0].us < p->named_us;
    if (y->num)
        p->program = y->beam[0].program;
    p->us = p->found ? y->beam[0].us : p->named_us;
    p->gain_pct = (p->named_us / p->us - 1) * 100;
    p->simulations = y->simulations;
}

static int scenario_task(void *self, struct evaluator *e, size_t i)
{
    struct work *w = self;
    struct synth_pick *p = &w->out->pick[i];
    struct synth *y = calloc(1, sizeof *y);
    int err = y ? config_scenario(w->out->config, i, &y->s) : ERR_NOMEM;
    size_t most;

    if (err) {
        free(y);
        return err;
    }
    y->e = e;
    y->x = w->options->seed * 2654435761ull + i;
    p->scenario = i;
    err = named_search(y, w->out->config, p);
    if (!err && y->num)
        err = rounds_seed(y);
    most = y->simulations + (size_t)w->options->evaluations;
    if (!err && p->named)
        err = bound_find(y, p);
    for (size_t n = 0; y->num && n < 4 * most && y->simulations < most && !err && !is_close(y, p) &&
                       !interrupt_came(w->interrupt);
         n++)
        err = step(y);
    if (!err && p->named)
        err = bound_find(y, p); /* one that follows tiles has another */
    pick_fill(y, p);
    scenario_free(&y->s);
    free(y);
    return err;
}

/* One drawn profile: the gain of the best over the named one. */
static int draw_task(void *self, struct evaluator *e, size_t at)
{
    struct work *w = self;
    size_t n = (size_t)w->options->draws, i = at / n;
    const struct synth_pick *p = &w->out->pick[i];
    struct evaluation named, best;
    struct scenario s;
    struct knobs k;
    int err;

    w->gain_pct[at] = 0;
    if (!p->found)
        return 0;
    err = config_scenario(w->out->config, i, &s);
    if (err)
        return err;
    evaluator_use_profile(e, draws_at(w->draws, s.profile, (int)(at % n)));
    err = evaluate_point(e, &s, p->named, &p->knobs, -1, &named, NULL, NULL);
    s.program = &p->program;
    knobs_default(&policy_program, &k);
    if (!err)
        err = evaluate_point(e, &s, &policy_program, &k, -1, &best, NULL, NULL);
    if (!err)
        w->gain_pct[at] = (named.layer_us / best.layer_us - 1) * 100;
    scenario_free(&s);
    evaluator_use_profile(e, NULL);
    return err;
}

static int intervals(struct work *w, int jobs)
{
    size_t n = (size_t)w->options->draws;
    struct draws *draws = NULL;
    int err = n ? draws_open(w->out->config, (int)n, &draws) : 0;

    if (!n || err) {
        draws_close(draws);
        return err;
    }
    w->draws = draws;
    w->gain_pct = calloc(w->out->num_picks * n, sizeof *w->gain_pct);
    err = w->gain_pct ? grid_each(w->out->num_picks * n, jobs, draw_task, w) : ERR_NOMEM;
    for (size_t i = 0; i < w->out->num_picks && !err; i++) {
        struct synth_pick *p = &w->out->pick[i];
        struct interval gain;

        p->has_interval = p->found;
        if (!p->found)
            continue;
        gain = interval_of(&w->gain_pct[i * n], n, p->gain_pct);
        p->gain_low_pct = gain.low;
        p->gain_high_pct = gain.high;
    }
    draws_close(draws);
    free(w->gain_pct);
    return err;
}

int synthesize(const struct config *c, int jobs, int interrupt, const struct synth_options *options,
               struct synthesis **out)
{
    struct synthesis *s = calloc(1, sizeof *s);
    struct work w = {.out = s, .options = options, .interrupt = interrupt};
    struct evaluator *e = NULL;
    int err = s ? evaluator_open(&e) : ERR_NOMEM;

    if (!err) {
        s->config = c;
        s->num_picks = config_num_scenarios(c);
        s->pick = calloc(s->num_picks, sizeof *s->pick);
        evaluator_whole_layers(e);
        err = s->pick ? evaluate_config(e, c, NULL) : ERR_NOMEM;
    }
    evaluator_close(e);
    if (!err)
        err = grid_each(s->num_picks, jobs, scenario_task, &w);
    if (!err)
        err = intervals(&w, jobs);
    if (err)
        synthesis_free(s);
    else
        *out = s;
    return err;
}

void synthesis_free(struct synthesis *s)
{
    if (!s)
        return;
    free(s->pick);
    free(s);
}
