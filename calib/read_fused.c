/* Engines' fused expert layers (moe_ffn.csv). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_rng.h>

#include "base/arena.h"
#include "calib/fused.h"

#define DRAWS 4

/* What rows depend on: rows of one kind are drawn once. */
struct drawn {
    struct drawn *next;
    double alpha, tokens;
    int experts, ranks, topk;
    struct law_fused load;
};

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Raises the lowest of a rank's experts to one level until `amount` is spent, at most to `most`
 * each (the collector does it row by row). Sorts them. */
static void raise_lowest(double *rows, int n, double amount, double most)
{
    double below = 0, level;
    int k = 0;

    qsort(rows, (size_t)n, sizeof *rows, ascending);
    do {
        below += rows[k++];
        level = (below + amount) / k;
    } while (k < n && level > rows[k]);
    level = fmin(level, most);
    for (int i = 0; i < k; i++)
        rows[i] = fmax(rows[i], floor(level + (double)i / k));
}

static void lower_highest(double *rows, int n, double amount)
{
    double above = 0, level;
    int k = 0;

    qsort(rows, (size_t)n, sizeof *rows, ascending);
    do {
        above += rows[n - 1 - k++];
        level = (above - amount) / k;
    } while (k < n && level < rows[n - 1 - k]);
    for (int i = 0; i < k; i++)
        rows[n - 1 - i] = fmin(rows[n - 1 - i], fmax(floor(level + (double)i / k), 0));
}

/* As calib/read_csv.c draws the rows of the other layouts, but in whole steps. */
static void draw_experts(gsl_rng *rng, const struct drawn *d, double *rows)
{
    double total = d->tokens * d->topk, lo = total > d->experts ? 1 : 0.01;
    double hi = total > d->experts ? 0.8 * d->tokens : 2, sum = 0, over = 0, missing = total;
    double a = pow(lo, 1 - d->alpha), b = pow(hi, 1 - d->alpha);
    int local = d->experts / d->ranks;

    for (int i = 0; i < d->experts; i++)
        sum += rows[i] = pow((b - a) * gsl_rng_uniform(rng) + a, 1 / (1 - d->alpha));
    for (int i = 0; i < d->experts; i++) {
        double r = round(rows[i] / sum * total);

        over += fmax(r - d->tokens, 0);
        missing -= r;
        rows[i] = fmin(r, d->tokens);
    }
    for (int r = 0; r < d->ranks; r++) {
        double *mine = rows + (size_t)r * local;

        if (over > 0)
            raise_lowest(mine, local, over / d->ranks, d->tokens);
        if (missing > 0)
            raise_lowest(mine, local, missing / d->ranks, d->tokens);
        else if (missing < 0)
            lower_highest(mine, local, -missing / d->ranks);
    }
}

static const double *heaviest(const double *rows, int ranks, int local)
{
    const double *best = rows;
    double most = -1;

    for (int r = 0; r < ranks; r++) {
        double sum = 0;

        for (int i = 0; i < local; i++)
            sum += rows[r * local + i];
        if (sum > most) {
            most = sum;
            best = rows + (size_t)r * local;
        }
    }
    return best;
}

static void draw_load(struct drawn *d, double *rows, gsl_rng *rng)
{
    struct law_fused *l = &d->load;
    int local = d->experts / d->ranks;
    double total = d->tokens * d->topk;

    if (d->alpha == 0) {
        /* An even share each, what does not divide spread over the experts. */
        for (int i = 0; i < local; i++)
            rows[i] = floor((i + 1) * total / d->experts) - floor(i * total / d->experts);
        if (total / d->ranks < 1)
            rows[0] = 1; /* some rank has one */
        law_fused_rows(rows, local, l);
        return;
    }
    gsl_rng_set(rng, 1);
    for (int k = 0; k < DRAWS; k++) {
        draw_experts(rng, d, rows);
        law_fused_rows(heaviest(rows, d->ranks, local), local, l);
    }
    l->rows /= DRAWS;
    l->active /= DRAWS;
    for (int b = 0; b < LAW_FUSED_BLOCKS; b++)
        l->padded[b] /= DRAWS;
}

static const struct drawn *drawn_of(struct data_set *set, double alpha, double tokens, int experts,
                                    int ranks, int topk)
{
    unsigned at = ((unsigned)tokens * 31u + (unsigned)experts * 7u + (unsigned)ranks * 131u +
                   (unsigned)topk + (unsigned)(alpha * 100) * 17u) %
                  DATA_DRAWN_BUCKETS;
    gsl_rng *rng;
    double *rows;
    struct drawn *d = set->drawn[at];

    while (d && !(d->alpha == alpha && d->tokens == tokens && d->experts == experts &&
                  d->ranks == ranks && d->topk == topk))
        d = d->next;
    if (d)
        return d;
    d = arena_alloc(set->arena, sizeof *d);
    rows = malloc((size_t)experts * sizeof *rows);
    rng = gsl_rng_alloc(gsl_rng_mt19937);
    if (d && rows && rng) {
        *d = (struct drawn){set->drawn[at], alpha, tokens, experts, ranks, topk, {0}};
        draw_load(d, rows, rng);
        set->drawn[at] = d;
    } else {
        d = NULL;
    }
    free(rows);
    if (rng)
        gsl_rng_free(rng);
    return d;
}

static enum plan_dtype weights_of(struct cells *c)
{
    static const struct {
        const char *name;
        enum plan_dtype dtype;
    } types[] = {{"bfloat16", DTYPE_BF16},       {"fp8", DTYPE_FP8},
                 {"fp8_block", DTYPE_FP8},       {"nvfp4", DTYPE_NVFP4},
                 {"w4a16_mxfp4", DTYPE_W4A16},   {"w4a8_mxfp4_mxfp8", DTYPE_MXFP4},
                 {"w4a8_mxfp4_fp8", DTYPE_MXFP4}};
    const char *name = cell_text(c, "dtype");

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i].name) == 0)
            return types[i].dtype;
    cell_bad(c, "dtype", "is none that the law of fused layers knows");
    return DTYPE_BF16;
}

/* "vllm_fp8moe_x" and "sglang_x" without what the engine's column says anyway. */
static const char *kernel_of(struct cells *c)
{
    const char *kernel = cell_text(c, "kernel"), *engine = cell_text(c, "engine");
    size_t len = strlen(engine);

    return strncmp(kernel, engine, len) == 0 && kernel[len] == '_' ? kernel + len + 1 : kernel;
}

/* 0 balanced; < 0: not known how its rows fall. */
static double alpha_of(struct cells *c)
{
    const char *dist = cell_text(c, "distribution");
    double alpha = 0;

    if (strcmp(dist, "balanced") == 0 || strcmp(dist, "uniform") == 0 || strstr(dist, "_eplb"))
        return 0;
    if (sscanf(dist, "power_law_%lf", &alpha) != 1 || !(alpha > 0)) {
        cell_bad(c, "distribution", "is neither balanced nor power_law_<exponent>");
        return 0;
    }
    return alpha == 1 ? 1.0001 : alpha;
}

/* Experts replicated by load (EPLB): as even as the balancer makes them. */
void read_fused(struct cells *c, struct data_row *r)
{
    const char *kernel = kernel_of(c), *dist = cell_text(c, "distribution");
    int slots = cell_int(c, "num_slots", 1, 1 << 16), tp = cell_int(c, "tp", 1, 1024);
    double alpha = alpha_of(c);
    const struct drawn *d;
    struct data_fused *f;

    r->law = DATA_FFN_FUSED;
    r->dtype = weights_of(c);
    if (!c->err && slots % r->ranks != 0)
        cell_bad(c, "ep", "does not divide num_slots");
    if (c->err)
        return;
    d = drawn_of(c->set, alpha, r->tokens, slots, r->ranks, r->topk);
    f = d ? arena_alloc(c->set->arena, sizeof *f) : NULL;
    if (!f) {
        c->err = true;
        return;
    }
    f->load = d->load;
    f->load.dtype = r->dtype;
    f->load.gated = !strstr(kernel, "nongated");
    f->load.tokens = r->tokens;
    f->load.experts = slots;
    f->load.hidden = r->hidden;
    f->load.inter = (double)r->inter / tp;
    snprintf(f->family, sizeof f->family, "ffn.%.12s-%.80s.%.20s", cell_text(c, "engine"), kernel,
             cell_text(c, "dtype"));
    snprintf(r->group, sizeof r->group, "%.26s %.16s %s", kernel, cell_text(c, "dtype"),
             alpha > 0               ? "power law"
             : strstr(dist, "_eplb") ? "EPLB"
                                     : "balanced");
    r->fused = f;
    r->reference = true;
    r->sigma = alpha > 0 || strstr(dist, "_eplb") ? 0.1 : 0;
}
