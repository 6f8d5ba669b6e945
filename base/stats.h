/* base/stats.h: the few statistics everything prints, on top of GSL. */
#ifndef PEOSIM_BASE_STATS_H
#define PEOSIM_BASE_STATS_H

#include <stddef.h>

/* Sorts a copy; p in 0..1; linear interpolation between order statistics (GSL's). NAN when n = 0.
 */
double stats_quantile(const double *x, size_t n, double p);
double stats_median(const double *x, size_t n);

struct stats_error { /* relative errors of predictions: |p/m - 1| */
    size_t n;        /* pairs used: finite, measured > 0; with none the rest is NAN */
    double median_ape, p90_ape, max_ape, bias; /* fractions; bias = median of p/m - 1 */
};
void stats_error_of(const double *predicted, const double *measured, size_t n,
                    struct stats_error *out);
/* Kendall's tau-b of two sequences; 1 when the order is the same. NAN when n < 2 or
 * when only one of the two is all ties. */
double stats_kendall_tau(const double *a, const double *b, size_t n);

#endif
