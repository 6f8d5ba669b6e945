/* base/skew.h: rows of experts by a power law, the same wherever they are needed: where skewed rows
 * are timed and where the times are predicted. */
#ifndef PEOSIM_BASE_SKEW_H
#define PEOSIM_BASE_SKEW_H

#include <math.h>
#include <stdint.h>

#define SKEW_MAX_EXPERTS 1024

/* share[i], i < n <= SKEW_MAX_EXPERTS: of expert i, in a fixed random order; they sum to 1. The
 * r-th largest is proportional to 1/r^exponent. */
static inline void skew_shares(int n, double exponent, double *share)
{
    double sum = 0;
    uint32_t state = 5;

    for (int i = 0; i < n; i++)
        sum += share[i] = pow(i + 1, -exponent);
    for (int i = 0; i < n; i++)
        share[i] /= sum;
    for (int i = n - 1; i > 0; i--) {
        int other;
        double keep = share[i];

        state = state * 1664525u + 1013904223u;
        other = (int)((uint64_t)state * (uint64_t)(i + 1) >> 32);
        share[i] = share[other];
        share[other] = keep;
    }
}

/* rows[i] of `total`, to the nearest, at most `most`. */
static inline void skew_rows(int n, int total, double exponent, int most, int *rows)
{
    double share[SKEW_MAX_EXPERTS];

    skew_shares(n, exponent, share);
    for (int i = 0; i < n; i++) {
        rows[i] = (int)(total * share[i] + 0.5);
        rows[i] = rows[i] < most ? rows[i] : most;
    }
}

#endif
