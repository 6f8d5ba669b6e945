#include "base/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>

double stats_quantile(const double *x, size_t n, double p)
{
    double *copy, q;

    if (n == 0)
        return NAN;
    copy = malloc(n * sizeof *copy);
    if (!copy)
        return NAN;
    memcpy(copy, x, n * sizeof *copy);
    gsl_sort(copy, 1, n);
    q = gsl_stats_quantile_from_sorted_data(copy, 1, n, p);
    free(copy);
    return q;
}

double stats_median(const double *x, size_t n)
{
    return stats_quantile(x, n, 0.5);
}

void stats_error_of(const double *predicted, const double *measured, size_t n,
                    struct stats_error *out)
{
    double *rel = malloc((n ? n : 1) * sizeof *rel);
    size_t m = 0;

    *out = (struct stats_error){0, NAN, NAN, NAN, NAN};
    for (size_t i = 0; rel && i < n; i++) {
        double r = predicted[i] / measured[i] - 1;
        if (isfinite(r) && measured[i] > 0)
            rel[m++] = r;
    }
    if (m > 0) {
        out->n = m;
        out->bias = stats_median(rel, m);
        for (size_t i = 0; i < m; i++)
            rel[i] = fabs(rel[i]);
        out->median_ape = stats_median(rel, m);
        out->p90_ape = stats_quantile(rel, m, 0.9);
        out->max_ape = stats_quantile(rel, m, 1.0);
    }
    free(rel);
}

static int stats_sign(double x)
{
    return (x > 0) - (x < 0);
}

double stats_kendall_tau(const double *a, const double *b, size_t n)
{
    double agree = 0, pairs_a = 0, pairs_b = 0;

    if (n < 2)
        return NAN;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            int sa = stats_sign(a[i] - a[j]), sb = stats_sign(b[i] - b[j]);
            agree += sa * sb;
            pairs_a += sa != 0;
            pairs_b += sb != 0;
        }
    }
    /* All tied on both sides is the same order too. */
    if (pairs_a == 0 && pairs_b == 0)
        return 1;
    return pairs_a > 0 && pairs_b > 0 ? agree / sqrt(pairs_a * pairs_b) : NAN;
}
