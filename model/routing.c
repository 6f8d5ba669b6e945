#include "model/routing.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>

#include "base/err.h"
#include "base/log.h"
#include "plan/counts.h"
#include "model/routing_file.h"

/* Draws without replacement: from one alias table, and a draw that hits a taken expert or a group
 * that the token did not choose is thrown away, which gives the law of successive sampling. Where
 * little popularity is left, a linear pass ends it. */
struct routing_sampler {
    int experts, n_group, topk_group, group_size;
    double *log_weight; /* [experts] */
    double *weight;     /* [experts] */
    double *group_weight;
    gsl_ran_discrete_t *table;
    unsigned *taken;        /* [experts]: stamp of the last token that chose it or ruled it out */
    unsigned *group_chosen; /* [n_group] */
    unsigned stamp;
};

#define ROUTING_MAX_REJECTS 32
/* Weights below exp(-600) of the largest would underflow; nobody can tell them apart. */
#define ROUTING_MIN_LOG_WEIGHT (-600.0)

static void sampler_close(struct routing_sampler *s)
{
    if (s->table)
        gsl_ran_discrete_free(s->table);
    free(s->log_weight);
    free(s->weight);
    free(s->group_weight);
    free(s->taken);
    free(s->group_chosen);
}

static int sampler_open(struct routing_sampler *s, const struct routing_spec *spec, int experts)
{
    size_t e = (size_t)experts, g;

    memset(s, 0, sizeof *s);
    s->experts = experts;
    s->n_group = spec->n_group > 1 ? spec->n_group : 1;
    s->topk_group = spec->n_group > 1 ? spec->topk_group : 1;
    s->group_size = experts / s->n_group;
    g = (size_t)s->n_group;
    s->log_weight = calloc(e, sizeof *s->log_weight);
    s->weight = calloc(e, sizeof *s->weight);
    s->group_weight = calloc(g, sizeof *s->group_weight);
    s->taken = calloc(e, sizeof *s->taken);
    s->group_chosen = calloc(g, sizeof *s->group_chosen);
    if (s->log_weight && s->weight && s->group_weight && s->taken && s->group_chosen)
        return 0;
    sampler_close(s);
    return ERR_NOMEM;
}

static int sampler_popularity(struct routing_sampler *s, const struct routing_spec *spec,
                              const gsl_rng *rng)
{
    int *order;

    if (spec->kind == ROUTING_LOGNORMAL) {
        for (int e = 0; e < s->experts; e++)
            s->log_weight[e] = spec->sigma * gsl_ran_gaussian_ziggurat(rng, 1.0);
    } else if (spec->kind == ROUTING_ZIPF) {
        order = malloc((size_t)s->experts * sizeof *order);
        if (!order)
            return ERR_NOMEM;
        for (int e = 0; e < s->experts; e++)
            order[e] = e;
        gsl_ran_shuffle(rng, order, (size_t)s->experts, sizeof *order);
        for (int i = 0; i < s->experts; i++)
            s->log_weight[order[i]] = -spec->exponent * log(i + 1.0);
        free(order);
    }
    return 0;
}

/* The table of one rank: the common popularity, times its own log-normal factor where asked for. */
static int sampler_set_rank(struct routing_sampler *s, double rank_skew, const gsl_rng *rng)
{
    double max = -INFINITY;

    for (int e = 0; e < s->experts; e++) {
        s->weight[e] = s->log_weight[e];
        if (rank_skew > 0)
            s->weight[e] += rank_skew * gsl_ran_gaussian_ziggurat(rng, 1.0);
        max = fmax(max, s->weight[e]);
    }
    memset(s->group_weight, 0, (size_t)s->n_group * sizeof *s->group_weight);
    for (int e = 0; e < s->experts; e++) {
        s->weight[e] = exp(fmax(s->weight[e] - max, ROUTING_MIN_LOG_WEIGHT));
        s->group_weight[e / s->group_size] += s->weight[e];
    }
    if (s->table)
        gsl_ran_discrete_free(s->table);
    s->table = gsl_ran_discrete_preproc((size_t)s->experts, s->weight);
    return s->table ? 0 : ERR_NOMEM;
}

/* Draws topk_group groups and rules the experts of all others out. */
static void sampler_choose_groups(struct routing_sampler *s, const gsl_rng *rng)
{
    for (int i = 0; i < s->topk_group; i++) {
        double total = 0, u;
        int last = 0;
        for (int g = 0; g < s->n_group; g++)
            total += s->group_chosen[g] == s->stamp ? 0 : s->group_weight[g];
        u = gsl_rng_uniform(rng) * total;
        for (int g = 0; g < s->n_group && u >= 0; g++) {
            if (s->group_chosen[g] == s->stamp)
                continue;
            last = g;
            u -= s->group_weight[g];
        }
        s->group_chosen[last] = s->stamp;
    }
    for (int g = 0; g < s->n_group; g++) {
        unsigned *taken = s->taken + (size_t)g * (size_t)s->group_size;
        for (int e = 0; s->group_chosen[g] != s->stamp && e < s->group_size; e++)
            taken[e] = s->stamp;
    }
}

/* The weighted choice among all experts that are left, in linear time. */
static int sampler_draw_left(const struct routing_sampler *s, const gsl_rng *rng)
{
    double total = 0, u;
    int last = -1;

    for (int e = 0; e < s->experts; e++)
        total += s->taken[e] == s->stamp ? 0 : s->weight[e];
    u = gsl_rng_uniform(rng) * total;
    for (int e = 0; e < s->experts && u >= 0; e++) {
        if (s->taken[e] != s->stamp) {
            last = e;
            u -= s->weight[e];
        }
    }
    return last;
}

static void sampler_token(struct routing_sampler *s, const gsl_rng *rng, int topk, int32_t *out)
{
    s->stamp++;
    if (s->n_group > 1)
        sampler_choose_groups(s, rng);
    for (int j = 0; j < topk; j++) {
        int e = (int)gsl_ran_discrete(rng, s->table), tries = 1;
        while (s->taken[e] == s->stamp && tries++ < ROUTING_MAX_REJECTS)
            e = (int)gsl_ran_discrete(rng, s->table);
        if (s->taken[e] == s->stamp)
            e = sampler_draw_left(s, rng);
        s->taken[e] = s->stamp;
        out[j] = e;
    }
}

/* Two generators, so that popularity does not depend on how many tokens were drawn before. */
static int routing_draw(const struct routing_spec *spec, struct plan_routing *r)
{
    gsl_rng *pop = gsl_rng_alloc(gsl_rng_mt19937), *rng = gsl_rng_alloc(gsl_rng_mt19937);
    struct routing_sampler s = {0};
    int rc = pop && rng ? sampler_open(&s, spec, r->experts) : ERR_NOMEM;

    if (rc)
        goto out;
    gsl_rng_set(pop, spec->seed);
    gsl_rng_set(rng, spec->seed ^ (0x9e3779b9ul + spec->draw * 0x85ebca6bul));
    rc = sampler_popularity(&s, spec, pop);
    for (int rank = 0; rank < r->ranks && rc == 0; rank++) {
        int32_t *row = r->expert + (size_t)rank * (size_t)r->tokens * (size_t)r->topk;
        if (rank == 0 || spec->rank_skew > 0)
            rc = sampler_set_rank(&s, spec->rank_skew, pop);
        for (int t = 0; t < r->tokens && rc == 0; t++)
            sampler_token(&s, rng, r->topk, row + (size_t)t * (size_t)r->topk);
    }
    sampler_close(&s);
out:
    if (pop)
        gsl_rng_free(pop);
    if (rng)
        gsl_rng_free(rng);
    return rc;
}

static int64_t routing_gcd(int64_t a, int64_t b)
{
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static bool routing_token_names(const int32_t *token, int topk, int32_t expert)
{
    for (int j = 0; j < topk; j++)
        if (token[j] == expert)
            return true;
    return false;
}

/* Swaps choices between the tokens of a window. In the plain walk a token visits as many ranks as
 * it can, more than chance would have it, and pays for a copy to each; mixed, it visits as many as
 * a token that chooses freely. No count of rows changes, and a window stays as even as it was. */
static void routing_mix(int32_t *row, int tokens, int topk, int window)
{
    uint64_t state = 0x9e3779b97f4a7c15ull;

    for (int from = 0; from < tokens; from += window) {
        int n = window < tokens - from ? window : tokens - from;
        int32_t *first = row + (size_t)from * (size_t)topk;

        for (int i = 0; i < 4 * n * topk; i++) {
            int32_t *a, *b, swap;
            int ja, jb;

            state = state * 6364136223846793005ull + 1442695040888963407ull;
            a = first + (state >> 33) % (uint64_t)n * (uint64_t)topk;
            ja = (int)((state >> 20) % (uint64_t)topk);
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            b = first + (state >> 33) % (uint64_t)n * (uint64_t)topk;
            jb = (int)((state >> 20) % (uint64_t)topk);
            if (routing_token_names(a, topk, b[jb]) || routing_token_names(b, topk, a[ja]))
                continue;
            swap = a[ja];
            a[ja] = b[jb];
            b[jb] = swap;
        }
    }
}

/* Row i of rank 0 goes to rank i mod W, so every pair of ranks gets the same, and there to a local
 * expert that walks with i. The walk slips by one each lcm(W, El) rows: by then all pairs (i mod W,
 * i mod El) were met, and without the slip they would come again; with it any E rows in a row are E
 * different experts. Rank r does the same, turned by r. */
static void routing_balance(struct plan_routing *r)
{
    int64_t w = r->experts % r->ranks == 0 ? r->ranks : 1, el = r->experts / w;
    int64_t gcd = routing_gcd(w, el), lcm = w / gcd * el, rows = (int64_t)r->tokens * r->topk;
    int window = r->experts / r->topk;

    for (int64_t i = 0; i < rows; i++) {
        int64_t local = w == 1 ? i % el : (i + i / lcm % gcd) % el;

        r->expert[i] = (int32_t)(i % w * el + local);
    }
    routing_mix(r->expert, r->tokens, r->topk, window < 2 ? 2 : window);
    /* With W not dividing E there are no ranks to turn by: turn by rows. */
    for (int64_t rank = 1; rank < r->ranks; rank++) {
        int64_t turn = w == 1 ? rank * rows % el : rank * el;

        for (int64_t i = 0; i < rows; i++)
            r->expert[rank * rows + i] = (int32_t)((r->expert[i] + turn) % r->experts);
    }
}

/* How many of `units` of `size` experts each a token visits that chooses k of them freely. */
static double routing_visits(int64_t units, int64_t size, int64_t k)
{
    double none = 1;

    for (int64_t i = 0; i < k; i++)
        none *= (double)(units * size - size - i) / (double)(units * size - i);
    return (double)units * (1 - fmax(none, 0));
}

/* Is group i of the `used` ones from `first` on among the `most` that were chosen least? */
static bool routing_is_behind(const int64_t *turns, int64_t groups, int64_t first, int64_t used,
                              int64_t i, int64_t most)
{
    int64_t mine = turns[(first + i) % groups], before = 0;

    for (int64_t j = 0; j < used; j++) {
        int64_t other = turns[(first + j) % groups];

        before += other < mine || (other == mine && j < i);
    }
    return before < most;
}

/* Balanced under a group limit: a token visits as many groups as chance would have it, at most
 * topk_group; groups take turns, and so do the experts of a group, rank after rank. */
static int routing_balance_groups(const struct routing_spec *spec, struct plan_routing *r)
{
    int64_t groups = spec->n_group, size = r->experts / groups, k = r->topk;
    int64_t split = r->experts % r->ranks == 0 && r->ranks % groups == 0 ? r->ranks / groups : 1;
    double visits = routing_visits(spec->topk_group, size, k);
    int64_t *next = calloc((size_t)groups, sizeof *next); /* of a group: where its turn stands */
    int64_t *share = calloc((size_t)(groups > k ? groups : k), sizeof *share);
    int64_t first = 0, least = (k + size - 1) / size;
    int32_t *out = r->expert;
    int rc = next && share ? 0 : ERR_NOMEM;

    for (int64_t n = 0; rc == 0 && n < (int64_t)r->ranks * r->tokens; n++) {
        int64_t t = n % r->tokens, used = (int64_t)((double)(t + 1) * visits + 1e-9) -
                                          (int64_t)((double)t * visits + 1e-9);

        used = used < least ? least : used > k ? k : used;
        for (int64_t i = 0; i < used; i++)
            share[i] = k / used + routing_is_behind(next, groups, first, used, i, k % used);
        for (int64_t i = 0; i < used; i++) {
            int64_t g = (first + i) % groups;

            for (int64_t j = 0; j < share[i]; j++) {
                int64_t turn = next[g]++ % size;

                *out++ = (int32_t)(g * size + turn % split * (size / split) + turn / split);
            }
        }
        /* Whole rounds of turns would leave the same groups together for ever. */
        first = (first + used + (n % groups == groups - 1)) % groups;
    }
    free(next);
    free(share);
    return rc;
}

static int routing_refuse(const char *text)
{
    log_error("routing: %s", text);
    return ERR_CONFIG;
}

static int routing_check(const struct routing_spec *spec, int ranks, int tokens, int experts,
                         int topk)
{
    if (ranks < 1 || tokens < 1 || experts < 1 || topk < 1)
        return routing_refuse("ranks, tokens, experts and experts per token must be positive");
    if (topk > experts)
        return routing_refuse("more experts per token than experts");
    if (!(spec->sigma >= 0 && spec->sigma <= 100 && spec->exponent >= 0 && spec->exponent <= 100 &&
          spec->rank_skew >= 0 && spec->rank_skew <= 100))
        return routing_refuse("sigma, exponent and rank skew must lie in 0..100");
    if (spec->n_group > 1) {
        if (experts % spec->n_group != 0)
            return routing_refuse("the experts are not divisible by n_group");
        if (spec->topk_group < 1 || spec->topk_group > spec->n_group)
            return routing_refuse("topk_group must lie in 1..n_group");
        if (topk > spec->topk_group * (experts / spec->n_group))
            return routing_refuse("more experts per token than topk_group groups hold");
    }
    if ((double)ranks * tokens * topk > ROUTING_MAX_ENTRIES) {
        log_error("routing: %d ranks x %d tokens x %d experts are more than %d entries", ranks,
                  tokens, topk, ROUTING_MAX_ENTRIES);
        return ERR_RANGE;
    }
    return 0;
}

static struct plan_routing *routing_new(int ranks, int tokens, int experts, int topk)
{
    struct plan_routing *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    *r = (struct plan_routing){.ranks = ranks, .tokens = tokens, .topk = topk, .experts = experts};
    r->expert = malloc((size_t)ranks * (size_t)tokens * (size_t)topk * sizeof *r->expert);
    r->counts = plan_counts_new();
    if (!r->expert || !r->counts) {
        routing_free(r);
        r = NULL;
    }
    return r;
}

int routing_make(const struct routing_spec *spec, int ranks, int tokens, int experts, int topk,
                 struct plan_routing **out)
{
    struct plan_routing *r = NULL;
    int rc = routing_check(spec, ranks, tokens, experts, topk);

    *out = NULL;
    if (rc)
        return rc;
    r = routing_new(ranks, tokens, experts, topk);
    if (!r)
        return ERR_NOMEM;
    if (spec->kind == ROUTING_BALANCED && spec->n_group > 1 && spec->topk_group < spec->n_group)
        rc = routing_balance_groups(spec, r);
    else if (spec->kind == ROUTING_BALANCED)
        routing_balance(r);
    else if (spec->kind == ROUTING_FILE)
        rc = routing_file_fill(spec, r);
    else
        rc = routing_draw(spec, r);
    if (rc) {
        routing_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

void routing_fold(struct plan_routing *r, int gpus)
{
    size_t per = (size_t)r->tokens * (size_t)r->topk;
    int locals = r->experts / r->ranks;

    for (int rank = gpus; rank < r->ranks; rank++)
        for (size_t i = 0; i < per; i++) {
            int32_t from = r->expert[(size_t)(rank % gpus) * per + i];

            r->expert[(size_t)rank * per + i] =
                from < 0 ? from : (from + rank / gpus * gpus * locals) % r->experts;
        }
}

void routing_free(struct plan_routing *r)
{
    if (!r)
        return;
    free(r->expert);
    plan_counts_free(r->counts);
    free(r);
}

static int routing_place_check(const struct plan_routing *r, const int *first, const int *replica,
                               int physical)
{
    unsigned char *used = physical > 0 ? calloc((size_t)physical, 1) : NULL;
    int rc = 0;

    if (!used)
        return physical > 0 ? ERR_NOMEM : routing_refuse("placement: no physical experts");
    for (int e = 0; e < r->experts && rc == 0; e++) {
        if (first[e + 1] <= first[e])
            rc = routing_refuse("placement: an expert has no place");
        for (int i = first[e]; i < first[e + 1] && rc == 0; i++) {
            if (replica[i] < 0 || replica[i] >= physical || used[replica[i]])
                rc = routing_refuse("placement: a place is out of range or used twice");
            else
                used[replica[i]] = 1;
        }
    }
    free(used);
    return rc;
}

int routing_place(struct plan_routing *r, const int *replica_first, const int *replica,
                  int physical_experts)
{
    size_t n = (size_t)r->ranks * (size_t)r->tokens * (size_t)r->topk;
    int *turn = NULL, rc = routing_place_check(r, replica_first, replica, physical_experts);

    if (rc)
        return rc;
    turn = calloc((size_t)r->experts, sizeof *turn);
    if (!turn)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        int e = r->expert[i], count;
        if (e < 0)
            continue;
        count = replica_first[e + 1] - replica_first[e];
        r->expert[i] = replica[replica_first[e] + turn[e]];
        turn[e] = (turn[e] + 1) % count;
    }
    r->experts = physical_experts;
    plan_counts_free(r->counts); /* they were of the old names */
    r->counts = plan_counts_new();
    free(turn);
    return 0;
}

void routing_stats_of(const struct plan_routing *r, int ranks, struct routing_stats *out)
{
    size_t n = (size_t)r->ranks * (size_t)r->tokens * (size_t)r->topk;
    double *rows = calloc((size_t)r->experts + (size_t)ranks, sizeof *rows), total = 0;
    double *rank_rows = rows ? rows + r->experts : NULL;
    double max_expert = 0, max_rank = 0;

    *out = (struct routing_stats){1, 1, 0};
    if (!rows)
        return;
    for (size_t i = 0; i < n; i++) {
        int e = r->expert[i];
        if (e >= 0) {
            rows[e]++;
            rank_rows[(int64_t)e * ranks / r->experts]++;
            total++;
        }
    }
    for (int e = 0; e < r->experts; e++) {
        max_expert = fmax(max_expert, rows[e]);
        out->experts_without_rows += rows[e] == 0;
    }
    for (int k = 0; k < ranks; k++)
        max_rank = fmax(max_rank, rank_rows[k]);
    if (total > 0) {
        out->max_over_mean_expert = max_expert * r->experts / total;
        out->max_over_mean_rank = max_rank * ranks / total;
    }
    free(rows);
}
