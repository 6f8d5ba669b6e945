/* report/validate_merit.c: errors, op kinds, order of the schedules, sign of the gain. */
#include <math.h>
#include <stdlib.h>

#include "base/stats.h"
#include "report/validate.h"

#define SIGN_FLOOR_PCT 3.0 /* smaller gains and losses are noise: not counted in the sign */

/* Is the point one of those that the scenario's schedules are ordered by? Layers with attention are
 * not set against layers without. */
static bool is_ordered(const struct validate_set *v, size_t scenario,
                       const struct validate_point *p)
{
    return validate_counts(p) && p->scenario == scenario &&
           validate_same_ops(v, scenario, &policy_none, p->policy);
}

/* Kendall's tau of the points of each scenario, each setting of the knobs a point of its own; the
 * mean over scenarios. */
static double order_tau(const struct validate_set *v, size_t *scenarios)
{
    double measured[64], predicted[64], sum = 0;
    size_t n;

    *scenarios = 0;
    for (size_t s = 0; s < config_num_scenarios(v->config); s++) {
        double tau;

        n = 0;
        for (size_t i = 0; i < v->num_points && n < 64; i++) {
            if (!is_ordered(v, s, &v->point[i]))
                continue;
            measured[n] = v->point[i].gpu.median_us;
            predicted[n++] = v->point[i].predicted_us;
        }
        tau = n > 1 ? stats_kendall_tau(measured, predicted, n) : NAN;
        if (!isfinite(tau))
            continue;
        sum += tau;
        ++*scenarios;
    }
    return *scenarios ? sum / (double)*scenarios : NAN;
}

/* Two points whose repeats overlap stand in no order that a prediction could get wrong: beyond it
 * lie pairs whose medians differ by more than the two spreads (median to p95) together, as
 * independent errors add. */
static bool told_apart(const struct validate_point *a, const struct validate_point *b)
{
    double spread = hypot(a->gpu.p95_us - a->gpu.median_us, b->gpu.p95_us - b->gpu.median_us);

    return fabs(a->gpu.median_us - b->gpu.median_us) > spread;
}

/* Adds the pairs that point i forms with those before it in its scenario. */
static void pairs_count(const struct validate_set *v, size_t i, int *right, int *apart, int *all)
{
    const struct validate_point *a = &v->point[i];

    for (size_t j = 0; j < i; j++) {
        const struct validate_point *b = &v->point[j];

        if (!validate_counts(b) || b->scenario != a->scenario)
            continue;
        ++*all;
        if (!told_apart(a, b))
            continue;
        ++*apart;
        *right += (a->gpu.median_us > b->gpu.median_us) == (a->predicted_us > b->predicted_us);
    }
}

static void pairs_summary(const struct validate_set *v, FILE *f)
{
    int right = 0, apart = 0, all = 0;

    for (size_t i = 0; i < v->num_points; i++)
        if (validate_counts(&v->point[i]))
            pairs_count(v, i, &right, &apart, &all);
    if (apart > 0)
        fprintf(f, "pairs that the repeats tell apart: %d of %d, %d of them in the right order\n",
                apart, all, right);
}

static void sign_summary(const struct validate_set *v, FILE *f)
{
    int right[2] = {0}, all[2] = {0};

    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i], *none = validate_none(v, p);
        double measured;

        if (!validate_counts(p) || !none || p == none)
            continue;
        measured = validate_gain_pct(none->gpu.median_us, p->gpu.median_us);
        if (fabs(measured) < SIGN_FLOOR_PCT)
            continue;
        all[measured > 0]++;
        right[measured > 0] += (none->predicted_us > p->predicted_us) == (measured > 0);
    }
    fprintf(f, "sign of the gain (beyond %.0f%%): losses %d of %d right, gains %d of %d right",
            SIGN_FLOOR_PCT, right[0], all[0], right[1], all[1]);
    if (all[0] && all[1])
        fprintf(f, "; balanced accuracy %.2f", 0.5 * right[0] / all[0] + 0.5 * right[1] / all[1]);
    fprintf(f, "\n");
}

/* Is the schedule that the prediction picks near the best one measured? */
static double pick_loss(const struct validate_set *v, size_t scenario)
{
    const struct validate_point *pick = NULL;
    double best = INFINITY;

    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i];

        if (!is_ordered(v, scenario, p))
            continue;
        best = fmin(best, p->gpu.median_us);
        if (!pick || p->predicted_us < pick->predicted_us)
            pick = p;
    }
    return pick ? pick->gpu.median_us / best - 1 : NAN;
}

/* "  cupti", or "  cupti 12, inferred 3" where points differ. */
static void sources_print(const size_t count[GPU_SOURCE_INFERRED + 1], size_t n, FILE *f)
{
    const char *before = "  ";

    for (int s = 0; s <= GPU_SOURCE_INFERRED; s++) {
        if (count[s] == n)
            fprintf(f, "%s%s", before, gpu_source_name((enum gpu_source)s));
        else if (count[s])
            fprintf(f, "%s%s %zu", before, gpu_source_name((enum gpu_source)s), count[s]);
        before = count[s] ? ", " : before;
    }
    fprintf(f, "\n");
}

static void kinds_summary(const struct validate_set *v, double *measured, double *predicted,
                          FILE *f)
{
    for (int k = 0; k < OP_KIND_COUNT; k++) {
        struct stats_error e;
        size_t n = 0, sources[GPU_SOURCE_INFERRED + 1] = {0};

        for (size_t i = 0; i < v->num_points; i++) {
            if (!validate_counts(&v->point[i]) || !v->point[i].kinds ||
                v->point[i].gpu.kind_us[k] <= 0)
                continue;
            measured[n] = v->point[i].gpu.kind_us[k];
            predicted[n++] = v->point[i].kind_us[k];
            sources[v->point[i].gpu.kind_source[k]]++;
        }
        if (!n)
            continue;
        stats_error_of(predicted, measured, n, &e);
        fprintf(f, "  %-16s n %3zu  median error %5.1f%%  p90 %5.1f%%  bias %+5.1f%%",
                plan_op_kind_name((enum plan_op_kind)k), e.n, e.median_ape * 100, e.p90_ape * 100,
                e.bias * 100);
        sources_print(sources, n, f);
    }
}

/* CUPTI's pass over all points; column: room for one number per point. */
static void cupti_summary(const struct validate_set *v, double *column_us, FILE *f)
{
    size_t n = 0, used = 0, kernels = 0;
    double moved[2] = {INFINITY, -INFINITY}, spread = 0, most = 0;
    int version = 0;

    for (size_t i = 0; i < v->num_points; i++) {
        const struct validate_point *p = &v->point[i];
        double move = (p->gpu.cupti.total_us / p->gpu.median_us - 1) * 100;

        if (!p->measured || !p->gpu.cupti.version)
            continue;
        version = p->gpu.cupti.version;
        column_us[n++] = p->gpu.cupti.longer_us;
        used += p->gpu.cupti.ok;
        kernels += (size_t)p->gpu.cupti.kernels;
        moved[0] = fmin(moved[0], move);
        moved[1] = fmax(moved[1], move);
        spread = fmax(spread, p->gpu.cupti.spread_us);
        if (fabs(p->gpu.cupti.longer_most_us) > fabs(most))
            most = p->gpu.cupti.longer_most_us;
    }
    if (n)
        fprintf(f,
                "CUPTI %d.%d.%d: records of %zu of %zu points used (totals moved by %+.1f%% to "
                "%+.1f%%; beyond 5%% they are refused); of %zu own kernels it says %+.2f us more "
                "than their stamps (median of points; farthest %+.2f), and 90%% end within %.2f "
                "us of them\n",
                version / 10000, version / 100 % 100, version % 100, used, n, moved[0], moved[1],
                kernels, stats_median(column_us, n), most, spread);
}

/* Traces of several GPUs lie on one clock: how well, at worst. */
static void clock_summary(const struct validate_set *v, FILE *f)
{
    double residual_us = 0;

    for (size_t i = 0; i < v->num_points; i++)
        residual_us = fmax(residual_us, v->point[i].gpu.clock_residual_us);
    if (residual_us > 0)
        fprintf(f, "clocks of the GPUs agree within %.2f us (half the shortest round trip)\n",
                residual_us);
}

/* Points whose times did not stand still are in no figure above or below. */
static void noise_summary(const struct validate_set *v, FILE *f)
{
    size_t noisy = 0, measured = 0;

    for (size_t i = 0; i < v->num_points; i++) {
        measured += v->point[i].measured;
        noisy += v->point[i].measured && !validate_counts(&v->point[i]);
    }
    if (noisy)
        fprintf(f, "%zu of %zu points are noisy (marked above) and in none of these figures\n",
                noisy, measured);
}

void validate_summary(const struct validate_set *v, FILE *f)
{
    double *measured = calloc(2 * v->num_points + 1, sizeof *measured), worst = 0;
    double *predicted = measured + v->num_points, tau;
    struct stats_error e;
    size_t n = 0, scenarios;

    if (!measured)
        return;
    for (size_t i = 0; i < v->num_points; i++) {
        if (!validate_counts(&v->point[i]))
            continue;
        measured[n] = v->point[i].gpu.median_us;
        predicted[n++] = v->point[i].predicted_us;
    }
    if (n == 0) {
        fprintf(f, "\nno point stood still: there are no figures\nmeasured on %s\n", v->versions);
        free(measured);
        return;
    }
    stats_error_of(predicted, measured, n, &e);
    fprintf(f,
            "\nlayer time, %zu points: median error %.1f%%, p90 %.1f%%, largest %.1f%%, bias "
            "%+.1f%%\n",
            e.n, e.median_ape * 100, e.p90_ape * 100, e.max_ape * 100, e.bias * 100);
    noise_summary(v, f);
    fprintf(f, "op kinds, waiting excluded, timed by own stamps, by CUPTI, or inferred from their "
               "neighbours':\n");
    kinds_summary(v, measured, predicted, f);
    cupti_summary(v, measured, f);
    clock_summary(v, f);
    tau = order_tau(v, &scenarios);
    fprintf(f, "order of the schedules: Kendall tau %.2f, mean of %zu scenarios\n", tau, scenarios);
    pairs_summary(v, f);
    sign_summary(v, f);
    for (size_t s = 0; s < config_num_scenarios(v->config); s++) {
        double loss = pick_loss(v, s);

        worst = isfinite(loss) && loss > worst ? loss : worst;
    }
    fprintf(f,
            "the schedule picked by prediction is at most %.1f%% slower than the best one "
            "measured\n",
            worst * 100);
    fprintf(f, "measured on %s\n", v->versions);
    free(measured);
}
