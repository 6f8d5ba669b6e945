#include "calib/draws.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_randist.h>

#include "base/arena.h"
#include "base/err.h"

/* One row more (step 1: to the expert that has least) or less (-1: from the one that has most) in
 * each rank by turns, `times` in all, within 0..most of every expert. */
static void rows_adjust(double *count, int ranks, int local, double times, int step, double most)
{
    for (bool moved = true; times > 0 && moved;) {
        moved = false;
        for (int r = 0; r < ranks && times > 0; r++) {
            double *mine = count + (size_t)r * local;
            int at = 0;

            for (int i = 1; i < local; i++)
                if (step > 0 ? mine[i] < mine[at] : mine[i] > mine[at])
                    at = i;
            if (step > 0 ? mine[at] >= most : mine[at] <= 0)
                continue;
            mine[at] += step;
            times--;
            moved = true;
        }
    }
}

/* aiconfigurator's generator (collector/helper.py of 095f58a): popularity x with density x^-alpha
 * on [lo, hi] by inverse CDF, scaled to all rows and rounded; no expert has more rows than there
 * are tokens; what is over or missing is spread rank by rank. */
/* u[experts]: uniform in [0, 1). */
static void power_law_of(const double *u, double alpha, double tokens, const struct data_row *r,
                         double *count)
{
    bool many = tokens * r->topk > r->experts;
    double lo = many ? 1 : 0.01, hi = many ? 0.8 * tokens : 2, sum = 0, total = tokens * r->topk;
    double a = pow(lo, 1 - alpha), b = pow(hi, 1 - alpha), missing = total, over = 0;

    for (int i = 0; i < r->experts; i++)
        sum += count[i] = pow((b - a) * u[i] + a, 1 / (1 - alpha));
    for (int i = 0; i < r->experts; i++) {
        double rows = round(count[i] / sum * total);

        over += fmax(rows - tokens, 0);
        missing -= rows;
        count[i] = fmin(rows, tokens);
    }
    rows_adjust(count, r->ranks, r->num_local, over, 1, tokens);
    rows_adjust(count, r->ranks, r->num_local, fabs(missing), missing > 0 ? 1 : -1, tokens);
}

int draws_power_law(gsl_rng *rng, double alpha, double tokens, const struct data_row *r,
                    double *count)
{
    double *u = malloc((size_t)r->experts * sizeof *u);

    if (!u)
        return ERR_NOMEM;
    for (int i = 0; i < r->experts; i++)
        u[i] = gsl_rng_uniform(rng);
    power_law_of(u, alpha, tokens, r, count);
    free(u);
    return 0;
}

void draws_heaviest(const double *count, int ranks, int local, int32_t *rows)
{
    double most = -1;
    int best = 0;

    for (int r = 0; r < ranks; r++) {
        double sum = 0;

        for (int i = 0; i < local; i++)
            sum += count[r * local + i];
        if (sum > most) {
            most = sum;
            best = r;
        }
    }
    for (int i = 0; i < local; i++)
        rows[i] = (int32_t)count[best * local + i];
}

/* Every token chooses topk experts of its own, the next always `stride` further: even wherever
 * there are enough tokens. */
static void balanced_counts(double tokens, const struct data_row *r, double *count)
{
    int stride = (r->experts + r->topk - 1) / r->topk;

    memset(count, 0, (size_t)r->experts * sizeof *count);
    if (tokens >= stride) {
        for (int e = 0; e < r->experts; e++)
            count[e] = floor(tokens * r->topk / r->experts);
        for (int e = 0; e < fmod(tokens * r->topk, r->experts); e++)
            count[e]++;
        return;
    }
    for (int t = 0; t < (int)tokens; t++)
        for (int j = 0; j < r->topk; j++)
            count[((int)(t * (stride / tokens)) + j * stride) % r->experts]++;
}

enum { MT_WORDS = 624, MT_SHIFT = 397 };

/* The first MT_WORDS numbers of the Mersenne Twister that numpy and torch seed with `seed`, as
 * torch makes them float in [0, 1): their low 24 bits. The collector drew popularities so. */
static void torch_uniform(uint32_t seed, double *u, int n)
{
    uint32_t mt[MT_WORDS];

    mt[0] = seed;
    for (uint32_t i = 1; i < MT_WORDS; i++)
        mt[i] = 1812433253u * (mt[i - 1] ^ (mt[i - 1] >> 30)) + i;
    for (int i = 0; i < MT_WORDS; i++) {
        uint32_t y = (mt[i] & 0x80000000u) | (mt[(i + 1) % MT_WORDS] & 0x7fffffffu);

        mt[i] = mt[(i + MT_SHIFT) % MT_WORDS] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    for (int i = 0; i < n && i < MT_WORDS; i++) {
        uint32_t y = mt[i];

        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c5680u;
        y ^= (y << 15) & 0xefc60000u;
        y ^= y >> 18;
        u[i] = (y & 0xffffffu) / 16777216.0;
    }
}

#define SAMPLED_MOST   1024.0 /* popularity lies on [1, this] */
#define SAMPLED_TOKENS 1024   /* drawn at most; more only scale */

/* Popularity by a power law; each token draws topk experts without putting any back: by the largest
 * keys u^(1/popularity). */
static void sampled_counts(gsl_rng *rng, const double *u, double alpha, double tokens,
                           const struct data_row *r, double *count)
{
    double weight[MT_WORDS], key[MT_WORDS], lo = 1, hi = pow(SAMPLED_MOST, 1 - alpha);
    int drawn = (int)fmin(tokens, SAMPLED_TOKENS);

    for (int e = 0; e < r->experts; e++)
        weight[e] = pow((hi - lo) * u[e] + lo, 1 / (1 - alpha));
    memset(count, 0, (size_t)r->experts * sizeof *count);
    for (int t = 0; t < drawn; t++) {
        for (int e = 0; e < r->experts; e++)
            key[e] = log(gsl_rng_uniform_pos(rng)) / weight[e];
        for (int j = 0; j < r->topk; j++) {
            int best = 0;

            for (int e = 1; e < r->experts; e++)
                if (key[e] > key[best])
                    best = e;
            count[best] += tokens / drawn;
            key[best] = -INFINITY;
        }
    }
}

/* Every expert equally likely, each token by itself. */
static void uniform_counts(gsl_rng *rng, double tokens, const struct data_row *r, double *count)
{
    for (int e = 0; e < r->experts; e++)
        count[e] = gsl_ran_binomial(rng, (double)r->topk / r->experts, (unsigned)tokens);
}

static void counts_of(gsl_rng *rng, int seed, const char *dist, const struct data_row *r,
                      double *count)
{
    double tokens = (double)r->tokens * r->ranks, alpha = 1, u[MT_WORDS];

    torch_uniform((uint32_t)seed, u, r->experts);
    if (strcmp(dist, "uniform") == 0)
        uniform_counts(rng, tokens, r, count);
    else if (sscanf(dist, "power_law_sampled_%lf", &alpha) == 1)
        sampled_counts(rng, u, alpha, tokens, r, count);
    else if (sscanf(dist, "power_law_%lf", &alpha) == 1)
        power_law_of(u, alpha, tokens, r, count);
    else
        balanced_counts(tokens, r, count);
}

/* Rows of drawn laws are means over seeds 0 to 9, others of seed 0. */
enum { SAMPLED_SEEDS = 10 };

enum { BLOCK_ROWS = 64 }; /* of an expert, on the tensor cores together */

/* Of ranks alike in rows, the one with the most blocks of rows is the last. */
static void busiest(const double *count, int ranks, int local, int32_t *rows)
{
    double most = -1;
    int best = 0;

    for (int r = 0; r < ranks; r++) {
        double blocks = 0;

        for (int i = 0; i < local; i++)
            blocks += ceil(count[r * local + i] / BLOCK_ROWS);
        if (blocks > most) {
            most = blocks;
            best = r;
        }
    }
    for (int i = 0; i < local; i++)
        rows[i] = (int32_t)count[best * local + i];
}

int draws_mega(struct data_set *set, struct data_row *r, const char *dist)
{
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    double *count = arena_alloc(set->arena, (size_t)r->experts * sizeof *count);
    int rc = rng && count && r->experts <= MT_WORDS ? 0 : ERR_NOMEM;
    bool uniform = strcmp(dist, "uniform") == 0;

    r->num_local = r->experts / r->ranks;
    r->num_draws = uniform || strstr(dist, "sampled") ? SAMPLED_SEEDS : 1;
    r->expert_rows =
        arena_alloc(set->arena, (size_t)(r->num_draws * r->num_local) * sizeof *r->expert_rows);
    if (!r->expert_rows)
        rc = ERR_NOMEM;
    if (rc == 0)
        gsl_rng_set(rng, 1);
    for (int d = 0; d < r->num_draws && rc == 0; d++) {
        counts_of(rng, d, dist, r, count);
        (uniform ? busiest : draws_heaviest)(count, r->ranks, r->num_local,
                                             r->expert_rows + d * r->num_local);
    }
    if (rng)
        gsl_rng_free(rng);
    return rc;
}
