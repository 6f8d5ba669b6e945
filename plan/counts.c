#include "plan/counts.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Rows of one slice of the batch. */
struct slice_rows {
    const struct plan_routing *routing;
    int first_token, num_tokens, experts;
    int32_t *prefix, *rows;
    struct slice_rows *next;
};

/* Copies of one slice, expert range and rule. */
struct slice_copies {
    const struct plan_routing *routing;
    int first_token, num_tokens, first_expert, num_experts;
    enum plan_flow_dedup dedup;
    int ranks, experts_per_rank, ranks_per_node;
    int32_t *pair, *fwd, *copies;
    struct slice_copies *next;
};

struct plan_counts {
    struct slice_rows *rows;
    struct slice_copies *copies;
    size_t bytes;
};

struct plan_counts *plan_counts_new(void)
{
    return calloc(1, sizeof(struct plan_counts));
}

static void rows_free(struct slice_rows *r)
{
    free(r->prefix);
    free(r->rows);
    free(r);
}

static void copies_free(struct slice_copies *c)
{
    free(c->pair);
    free(c->fwd);
    free(c->copies);
    free(c);
}

void plan_counts_free(struct plan_counts *c)
{
    if (!c)
        return;
    while (c->rows) {
        struct slice_rows *r = c->rows;

        c->rows = r->next;
        rows_free(r);
    }
    while (c->copies) {
        struct slice_copies *s = c->copies;

        c->copies = s->next;
        copies_free(s);
    }
    free(c);
}

size_t plan_counts_bytes(const struct plan_counts *c)
{
    return c->bytes;
}

/* Cumulative counts per source rank and totals per expert. */
static void rows_count(struct slice_rows *s)
{
    const struct plan_routing *r = s->routing;

    for (int rank = 0; rank < r->ranks; rank++) {
        int32_t *p = s->prefix + (size_t)rank * (s->experts + 1);
        const int32_t *e =
            r->expert + ((size_t)rank * r->tokens + s->first_token) * (size_t)r->topk;
        size_t n = (size_t)s->num_tokens * r->topk;

        for (size_t i = 0; i < n; i++)
            if (e[i] >= 0)
                p[e[i] + 1]++;
        for (int i = 0; i < s->experts; i++) {
            s->rows[i] += p[i + 1];
            p[i + 1] += p[i];
        }
    }
}

static int rows_make(struct plan_counts *c, int experts, const struct plan_batch *b,
                     struct slice_rows **out)
{
    struct slice_rows *s = calloc(1, sizeof *s);
    size_t cells = (size_t)b->routing->ranks * (experts + 1);

    if (!s)
        return ERR_NOMEM;
    s->routing = b->routing;
    s->first_token = b->first_token;
    s->num_tokens = b->num_tokens;
    s->experts = experts;
    s->prefix = calloc(cells, sizeof *s->prefix);
    s->rows = calloc((size_t)experts, sizeof *s->rows);
    if (!s->prefix || !s->rows) {
        rows_free(s);
        return ERR_NOMEM;
    }
    rows_count(s);
    s->next = c->rows;
    c->rows = *out = s;
    c->bytes += (cells + experts) * sizeof(int32_t);
    return 0;
}

int plan_counts_rows(struct plan_counts *c, int experts, struct plan_batch *b)
{
    struct slice_rows *s = c->rows;
    int err = 0;

    while (s && !(s->routing == b->routing && s->first_token == b->first_token &&
                  s->num_tokens == b->num_tokens && s->experts == experts))
        s = s->next;
    if (!s)
        err = rows_make(c, experts, b, &s);
    if (err)
        return err;
    b->prefix = s->prefix;
    b->rows = s->rows;
    return 0;
}

/* Destination ranks of one token inside the expert range, without repeats; returns how many. */
static int token_ranks(const struct slice_copies *s, const int32_t *chosen, int topk, int *dst)
{
    int n = 0;

    for (int j = 0; j < topk; j++) {
        int rank, local, seen = 0;

        if (chosen[j] < 0)
            continue;
        rank = chosen[j] / s->experts_per_rank;
        local = chosen[j] % s->experts_per_rank;
        if (local < s->first_expert || local >= s->first_expert + s->num_experts)
            continue;
        for (int i = 0; i < n; i++)
            seen |= dst[i] == rank;
        if (!seen)
            dst[n++] = rank;
    }
    return n;
}

/* One token's copies: one per destination rank, or one per destination node plus forwarding. */
static void token_copies(struct slice_copies *s, int src, const int *dst, int n)
{
    int W = s->ranks, node_ranks = s->ranks_per_node;

    for (int i = 0; i < n; i++) {
        int node = dst[i] / node_ranks, proxy = node * node_ranks + src % node_ranks, seen = 0;

        s->copies[dst[i]]++;
        if (s->dedup == FLOW_PER_RANK || node == src / node_ranks) {
            s->pair[(size_t)src * W + dst[i]]++;
            continue;
        }
        for (int j = 0; j < i; j++)
            seen |= dst[j] / node_ranks == node;
        if (!seen)
            s->pair[(size_t)src * W + proxy]++;
        if (dst[i] != proxy)
            s->fwd[(size_t)proxy * W + dst[i]]++;
    }
}

static void copies_count(struct slice_copies *s, int *dst)
{
    const struct plan_routing *r = s->routing;

    for (int src = 0; src < s->ranks; src++)
        for (int t = s->first_token; t < s->first_token + s->num_tokens; t++) {
            const int32_t *e = r->expert + ((size_t)src * r->tokens + t) * (size_t)r->topk;

            token_copies(s, src, dst, token_ranks(s, e, r->topk, dst));
        }
}

static struct slice_copies slice_of(const struct plan *plan, const struct plan_flow *f)
{
    const struct plan_batch *b = &plan->batches[f->batch];

    return (struct slice_copies){
        .routing = b->routing,
        .first_token = b->first_token,
        .num_tokens = b->num_tokens,
        .first_expert = f->first_expert,
        .num_experts = f->num_experts,
        .dedup = f->dedup,
        .ranks = plan->ranks,
        .experts_per_rank = plan->experts_per_rank,
        .ranks_per_node = plan->ranks_per_node,
    };
}

static bool same_slice(const struct slice_copies *a, const struct slice_copies *b)
{
    return a->routing == b->routing && a->first_token == b->first_token &&
           a->num_tokens == b->num_tokens && a->first_expert == b->first_expert &&
           a->num_experts == b->num_experts && a->dedup == b->dedup && a->ranks == b->ranks &&
           a->experts_per_rank == b->experts_per_rank && a->ranks_per_node == b->ranks_per_node;
}

static int copies_make(struct plan_counts *c, const struct slice_copies *key,
                       struct slice_copies **out)
{
    struct slice_copies *s = malloc(sizeof *s);
    size_t cells = (size_t)key->ranks * key->ranks;
    int *dst = malloc((size_t)key->routing->topk * sizeof *dst);

    if (!s || !dst) {
        free(s);
        free(dst);
        return ERR_NOMEM;
    }
    *s = *key;
    s->pair = calloc(cells, sizeof *s->pair);
    s->fwd = calloc(cells, sizeof *s->fwd);
    s->copies = calloc((size_t)s->ranks, sizeof *s->copies);
    if (!s->pair || !s->fwd || !s->copies) {
        copies_free(s);
        free(dst);
        return ERR_NOMEM;
    }
    copies_count(s, dst);
    free(dst);
    s->next = c->copies;
    c->copies = *out = s;
    c->bytes += (2 * cells + s->ranks) * sizeof(int32_t);
    return 0;
}

int plan_counts_copies(struct plan_counts *c, const struct plan *plan, struct plan_flow *f)
{
    struct slice_copies key = slice_of(plan, f), *s = c->copies;
    int err = 0;

    while (s && !same_slice(s, &key))
        s = s->next;
    if (!s)
        err = copies_make(c, &key, &s);
    if (err)
        return err;
    f->pair = s->pair;
    f->fwd = s->fwd;
    f->copies = s->copies;
    return 0;
}
