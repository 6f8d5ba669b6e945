/* How far the fast fidelity is from exact at random points, baselines too: the figures of
 * docs/flow-engine.md. Points depend on the seed alone.
 *   fidelity POINTS SEED   one line for each figure beyond 0.3%, then their distribution */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "study/evaluate.h"

enum { FIGURES_MAX = 100000 };

struct found {
    double off[FIGURES_MAX];
    int figures, flips;
};

static unsigned draw(unsigned long *state, unsigned n)
{
    *state = *state * 6364136223846793005ul + 1442695040888963407ul;
    return (unsigned)(*state >> 33) % n;
}

static int scenario_draw(struct scenario *s, unsigned long *state)
{
    static const char *const nodes[] = {"1", "2", "2", "4", "4", "8"};
    static const char *const nics[] = {"10", "25", "50", "100", "200", "400", "800"};
    static const char *const batches[] = {"8", "32", "64", "128", "256"};
    static const char *const sigmas[] = {"0", "0.3", "0.6", "1"};
    static const char *const profiles[] = {"h800", "h20", "h200"};
    const char *const sets[] = {"model",
                                "deepseek-v3",
                                "routing.kind",
                                "lognormal",
                                "skew.start_us",
                                "2",
                                "cluster.nodes",
                                nodes[draw(state, 6)],
                                "cluster.nic_Gbitps",
                                nics[draw(state, 7)],
                                "batch",
                                batches[draw(state, 5)],
                                "routing.sigma",
                                sigmas[draw(state, 4)],
                                "cluster.profile",
                                profiles[draw(state, 3)]};
    int err = opt_set_defaults(scenario_options, s);

    for (size_t i = 0; i < sizeof sets / sizeof *sets && !err; i += 2)
        err = opt_set(scenario_options, s, sets[i], sets[i + 1], "fidelity", 0);
    s->seed = (int)draw(state, 1000);
    return err;
}

static void figure_add(struct found *f, const struct scenario *s, const struct policy *p,
                       const char *what, double fast_us, double exact_us)
{
    double off = fabs(fast_us / exact_us - 1);

    if (f->figures < FIGURES_MAX)
        f->off[f->figures++] = off;
    if (off > 0.003)
        printf("%.2f%%  %s%s, EP%d, NIC %g Gb/s, batch %d, sigma %g, %s, seed %d\n", 100 * off,
               p->name, what, s->nodes * s->gpus_per_node, s->nic_Gbitps, s->batch, s->sigma,
               s->profile, s->seed);
}

static int policy_compare(struct evaluator *e, struct scenario *s, const struct policy *p,
                          unsigned long *state, struct found *f)
{
    struct evaluation exact, fast;
    struct knobs k;
    char why[200];
    int err;

    knobs_default(p, &k);
    k.overlap_method = 1 + (int)draw(state, 4);
    if (evaluate_check(e, s, p, &k, why, sizeof why))
        return 0;
    s->fidelity = 0;
    err = evaluate_point(e, s, p, &k, -1, &exact, NULL, NULL);
    s->fidelity = 1;
    if (!err)
        err = evaluate_point(e, s, p, &k, -1, &fast, NULL, NULL);
    if (err)
        return err;
    figure_add(f, s, p, "", fast.layer_us, exact.layer_us);
    figure_add(f, s, p, "'s baseline", fast.none_us, exact.none_us);
    f->flips += fabs(exact.gain_pct) > 1 && exact.gain_pct * fast.gain_pct < 0;
    return 0;
}

static int point_compare(unsigned long *state, struct found *f)
{
    struct evaluator *e = NULL;
    struct scenario s = {0};
    int err = evaluator_open(&e);

    if (!err)
        err = scenario_draw(&s, state);
    if (!err) {
        evaluate_hush(e);
        if (draw(state, 2))
            evaluator_whole_layers(e);
    }
    for (size_t i = draw(state, 3); i < policy_count() && !err; i += 3)
        err = policy_compare(e, &s, policy_at(i), state, f);
    scenario_free(&s);
    evaluator_close(e);
    return err;
}

static int rise(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static struct found f;
    int points = argc > 1 ? atoi(argv[1]) : 100, err = 0, beyond = 0;
    unsigned long state = argc > 2 ? strtoul(argv[2], NULL, 10) : 7919;

    for (int i = 0; i < points && !err; i++)
        err = point_compare(&state, &f);
    if (err || !f.figures)
        return 1;
    qsort(f.off, (size_t)f.figures, sizeof *f.off, rise);
    for (int i = 0; i < f.figures; i++)
        beyond += f.off[i] > 0.01;
    printf("%d figures: median %.4f%%, 90 of 100 within %.3f%%, 99 within %.2f%%, most %.1f%%; "
           "%d beyond 1%%, %d signs differ\n",
           f.figures, 100 * f.off[f.figures / 2], 100 * f.off[f.figures * 9 / 10],
           100 * f.off[f.figures * 99 / 100], 100 * f.off[f.figures - 1], beyond, f.flips);
    return f.figures < 50 ? 0 : beyond * 50 > f.figures;
}
