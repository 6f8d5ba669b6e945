#include "calib/read_peo.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_rng.h>

#include "base/arena.h"
#include "base/err.h"
#include "calib/read_cells.h"
#include "model/law/gemm.h"
#include "model/law/ll.h"

enum { NUM_SMS = 132, DRAWS = 16, START_US = 2 }; /* SMs of an H200 */

int peo_shape_find(const char *name, struct peo_shape *out)
{
    if (strcmp(name, "dpsk64") != 0)
        return ERR_NOTFOUND;
    *out = (struct peo_shape){7168, 2048, 64, 8, 4};
    return 0;
}

int peo_schedule(const char *name)
{
    if (strcmp(name, "non-overlap") == 0)
        return 0;
    return strncmp(name, "peo-", 4) == 0 && name[4] >= '1' && name[4] <= '4' && !name[5]
               ? name[4] - '0'
               : -1;
}

static int first_kind(const char *kernel)
{
    static const struct {
        const char *name;
        enum plan_op_kind kind;
    } kinds[] = {{"dispatch", OP_DISPATCH},
                 {"combine", OP_COMBINE},
                 {"gemm", OP_GEMM_UP},
                 {"silu", OP_ACT_QUANT}};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kernel, kinds[i].name) == 0)
            return (int)kinds[i].kind;
    return -1;
}

static void read_span(struct cells *c, struct peo_span *s, struct peo_shape *shape)
{
    int kind = first_kind(cell_text(c, "kernel"));

    s->line = c->csv->line[c->row];
    s->schedule = peo_schedule(cell_text(c, "schedule"));
    s->tokens = cell_int(c, "tokens_per_rank", 1, 1 << 20);
    s->num_rounds = cell_int(c, "num_rounds", 0, 64);
    s->sms = cell_int(c, "sms", 1, 1024);
    s->replay = cell_int(c, "replay", 0, 1 << 20);
    s->stream = cell_int(c, "stream", 0, 1 << 30);
    s->start_us = cell_number(c, "start_us", 0, CELL_MAX_US);
    s->dur_us = cell_number(c, "dur_us", CELL_MIN_US, CELL_MAX_US);
    if (s->num_rounds < 1)
        s->num_rounds = 1;
    if (peo_shape_find(cell_text(c, "shape"), shape) != 0)
        cell_bad(c, "shape", "is unknown");
    if (s->schedule < 0)
        cell_bad(c, "schedule", "is neither non-overlap nor peo-1 to peo-4");
    if (kind < 0)
        cell_bad(c, "kernel", "is unknown");
    s->kind = kind < 0 ? OP_ROUTER : (enum plan_op_kind)kind;
}

static int replay_compare(const struct peo_span *a, const struct peo_span *b)
{
    const int x[] = {a->tokens, a->schedule, a->num_rounds, a->sms, a->replay};
    const int y[] = {b->tokens, b->schedule, b->num_rounds, b->sms, b->replay};
    int c = 0;

    for (size_t i = 0; c == 0 && i < sizeof x / sizeof *x; i++)
        c = (x[i] > y[i]) - (x[i] < y[i]);
    return c;
}

static int span_compare(const void *a, const void *b)
{
    const struct peo_span *x = a, *y = b;
    int c = replay_compare(x, y);

    if (c == 0)
        c = (x->start_us > y->start_us) - (x->start_us < y->start_us);
    return c ? c : (x->line > y->line) - (x->line < y->line);
}

/* The i-th dispatch kernel: method 1 sends all rounds first, 2 and 3 send and receive in turn. */
static void dispatch_place(struct peo_span *s, int i)
{
    int R = s->num_rounds;
    bool recv;

    if (s->schedule == 0 || s->schedule == 4)
        return; /* fused */
    recv = s->schedule == 1 ? i >= R : i % 2 == 1;
    s->kind = recv ? OP_DISPATCH_RECV : OP_DISPATCH_SEND;
    s->round = s->schedule == 1 ? i % R : i / 2;
    s->kernel_sms = s->round == 0 || (!recv && s->schedule == 1) ? NUM_SMS : s->sms;
}

static void combine_place(struct peo_span *s, int i)
{
    if (s->schedule == 0)
        return;
    s->kind = i < s->num_rounds ? OP_COMBINE_SEND : OP_COMBINE_RECV;
    s->round = i < s->num_rounds ? i : 0;
    s->kernel_sms = i < s->num_rounds - 1 ? s->sms : NUM_SMS;
}

static void span_place(struct peo_span *s, int seen[OP_KIND_COUNT])
{
    int i = seen[s->kind]++;
    bool all;

    s->kernel_sms = NUM_SMS;
    switch (s->kind) {
    case OP_DISPATCH:
        dispatch_place(s, i);
        return;
    case OP_COMBINE:
        combine_place(s, i);
        return;
    default:
        s->round = s->kind == OP_ACT_QUANT ? i : i / 2;
        if (s->kind == OP_GEMM_UP && i % 2 == 1)
            s->kind = OP_GEMM_DOWN;
        all = s->schedule == 0 || (s->schedule == 4 && s->round == 0);
        s->kernel_sms = all ? NUM_SMS : NUM_SMS - s->sms;
    }
}

int peo_spans_read(struct data_set *set, const struct csv *csv, struct peo_span **spans,
                   size_t *num, struct peo_shape *shape)
{
    struct peo_span *all = calloc(csv->num_rows + 1, sizeof *all);
    int seen[OP_KIND_COUNT] = {0};
    size_t n = 0;

    if (!all)
        return ERR_NOMEM;
    for (size_t i = 0; i < csv->num_rows; i++) {
        struct cells c = {set, csv, i, false};

        if (csv->bad[i])
            data_bad(set, csv->line[i], "the row has another number of cells than the header");
        else
            read_span(&c, &all[n], shape);
        n += !csv->bad[i] && !c.err;
    }
    qsort(all, n, sizeof *all, span_compare);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || replay_compare(&all[i - 1], &all[i]) != 0)
            memset(seen, 0, sizeof seen);
        span_place(&all[i], seen);
    }
    *spans = all;
    *num = n;
    return 0;
}

static bool is_comm(enum plan_op_kind kind)
{
    return plan_op_kind_class(kind) == OP_CLASS_COMM;
}

static bool is_gemm(enum plan_op_kind kind)
{
    return kind == OP_GEMM_UP || kind == OP_GEMM_DOWN;
}

/* Rows of a rank's experts where tokens choose at random: what a draw has, not the measured one. */
static int draw_rows(struct data_set *set, const struct peo_shape *shape, int tokens, int num_local,
                     struct data_row *r)
{
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    int all = tokens * shape->ranks;

    r->num_draws = DRAWS;
    r->num_local = num_local;
    r->expert_rows = arena_alloc(set->arena, (size_t)(DRAWS * num_local) * sizeof *r->expert_rows);
    if (!rng || !r->expert_rows) {
        if (rng)
            gsl_rng_free(rng);
        return ERR_NOMEM;
    }
    gsl_rng_set(rng, 1);
    for (int i = 0; i < DRAWS * num_local; i++) {
        r->expert_rows[i] = 0;
        for (int t = 0; t < all; t++)
            r->expert_rows[i] += gsl_rng_uniform(rng) * shape->experts < shape->topk;
    }
    gsl_rng_free(rng);
    return 0;
}

/* How much of span a other kernels of the other class ran, and the kernel beside which it started,
 * or NULL: what is there within 2 us. Down GEMMs were not seen to be slowed by it. */
static double beside_share(const struct peo_span *spans, size_t first, size_t end, size_t at,
                           const struct peo_span **started_beside)
{
    const struct peo_span *a = &spans[at];
    double sum = 0;

    *started_beside = NULL;
    for (size_t i = first; i < end; i++) {
        const struct peo_span *b = &spans[i];
        double from = fmax(a->start_us, b->start_us);
        double to = fmin(a->start_us + a->dur_us, b->start_us + b->dur_us);

        if (i == at || is_comm(a->kind) == is_comm(b->kind) || to <= from)
            continue;
        sum += to - from;
        if (is_gemm(b->kind) || is_comm(b->kind)) {
            double ahead = a->start_us - b->start_us;

            if (ahead > -START_US && a->kind != OP_GEMM_DOWN)
                *started_beside = b;
        }
    }
    return fmin(sum / a->dur_us, 1);
}

static bool unclustered(const struct peo_shape *shape, const struct peo_span *gemm)
{
    int groups = shape->experts / shape->ranks / gemm->num_rounds;
    int mean = gemm->tokens * shape->ranks * shape->topk / shape->experts;

    return gemm->kind == OP_GEMM_UP &&
           law_grouped_unclustered(groups, mean, 2 * shape->inter, gemm->kernel_sms);
}

static void row_of_comm(const struct peo_shape *shape, const struct peo_span *s, struct data_row *r)
{
    bool back = s->kind == OP_COMBINE || s->kind == OP_COMBINE_SEND || s->kind == OP_COMBINE_RECV;
    bool fused = s->kind == OP_DISPATCH || s->kind == OP_COMBINE;
    /* A combine receive reduces what all rounds sent. */
    int rounds = s->kind == OP_COMBINE_RECV ? 1 : s->num_rounds;

    r->law = fused ? back ? DATA_LL_COMBINE : DATA_LL_DISPATCH : DATA_PEO;
    r->part = fused                                                       ? DATA_FUSED
              : s->kind == OP_DISPATCH_SEND || s->kind == OP_COMBINE_SEND ? DATA_SEND
                                                                          : DATA_RECV;
    r->dtype = back ? DTYPE_BF16 : DTYPE_FP8;
    r->experts = shape->experts;
    r->rounds = fused ? 1 : rounds;
    r->round = s->round;
    r->reference = !fused;
}

static int row_of_compute(struct data_set *set, const struct peo_shape *shape,
                          const struct peo_span *s, struct data_row *r)
{
    int num_local = shape->experts / shape->ranks / s->num_rounds;

    r->rows = s->tokens * shape->ranks * shape->topk / shape->experts;
    r->groups = num_local;
    r->inter = shape->inter;
    r->dtype = DTYPE_FP8;
    r->law = DATA_PEO;
    r->reference = true;
    if (s->kind == OP_ACT_QUANT)
        return 0;
    r->n = s->kind == OP_GEMM_UP ? 2 * shape->inter : shape->hidden;
    r->k = s->kind == OP_GEMM_UP ? shape->hidden : shape->inter;
    return draw_rows(set, shape, s->tokens, num_local, r);
}

/* A combine receive's quickest replays found that all peers had sent: what the kernel itself takes.
 */
static bool found_all_sent(const struct peo_span *spans, size_t num, const struct peo_span *s)
{
    double least = s->dur_us;

    for (size_t i = 0; i < num; i++)
        if (spans[i].kind == s->kind && spans[i].tokens == s->tokens)
            least = fmin(least, spans[i].dur_us);
    return s->dur_us <= 1.1 * least;
}

/* They are judged twice: with what a rank waits on average, and, to fit the kernel, without. */
static int quick_row(struct data_set *set, const struct peo_span *spans, size_t num,
                     const struct peo_span *s, const struct data_row *r)
{
    struct data_row quick = *r;

    if (!found_all_sent(spans, num, s))
        return 0;
    quick.reference = true;
    quick.gemm_sms = 0;
    snprintf(quick.coll, sizeof quick.coll, "combine_quick");
    snprintf(quick.group, sizeof quick.group, "combine_quick T%d R%d %dSM", s->tokens,
             s->num_rounds, s->kernel_sms);
    return data_add(set, &quick) ? 0 : ERR_NOMEM;
}

/* A receive behind a send of its round that ran beside a GEMM: peers' sends may not be over. */
static void waits_behind_send(const struct peo_span *spans, size_t first, size_t end,
                              const struct peo_span *s, struct data_row *r)
{
    const struct peo_span *beside;

    for (size_t i = first; i < end; i++) {
        const struct peo_span *send = &spans[i];

        if (send->kind != OP_DISPATCH_SEND || send->round != s->round)
            continue;
        r->send_beside = beside_share(spans, first, end, i, &beside);
        if (s->schedule != 1 && beside)
            r->since_us = s->start_us - send->start_us;
    }
}

/* A combine receive ends when the slowest rank's GEMMs and sends have: the rows of all its
 * experts, of which only draws are known. */
static int waits_for_ranks(struct data_set *set, const struct peo_shape *shape,
                           const struct peo_span *s, struct data_row *r)
{
    r->rows = s->tokens * shape->ranks * shape->topk / shape->experts;
    r->inter = shape->inter;
    r->gemm_sms = NUM_SMS - s->sms;
    r->groups = shape->experts / shape->ranks / s->num_rounds;
    return draw_rows(set, shape, s->tokens, shape->experts / shape->ranks, r);
}

static int span_row(struct data_set *set, const struct peo_shape *shape,
                    const struct peo_span *spans, size_t num, size_t first, size_t end, size_t at)
{
    const struct peo_span *s = &spans[at], *beside;
    struct data_row r = {.line = s->line,
                         .ranks = shape->ranks,
                         .nodes = 1,
                         .num_sms = s->kernel_sms,
                         .tokens = s->tokens,
                         .hidden = shape->hidden,
                         .topk = shape->topk,
                         .rounds = s->num_rounds,
                         .latency_us = s->dur_us};
    int rc = 0;

    snprintf(r.system, sizeof r.system, "h200");
    snprintf(r.coll, sizeof r.coll, "%.15s", plan_op_kind_name(s->kind));
    snprintf(r.group, sizeof r.group, "%s T%d R%d %dSM", plan_op_kind_name(s->kind), s->tokens,
             s->num_rounds, s->kernel_sms);
    r.beside = beside_share(spans, first, end, at, &beside);
    if (is_comm(s->kind)) {
        row_of_comm(shape, s, &r);
        r.unpaired = beside && unclustered(shape, beside);
        if (s->kind == OP_DISPATCH_RECV)
            waits_behind_send(spans, first, end, s, &r);
        if (s->kind == OP_COMBINE_RECV)
            rc = waits_for_ranks(set, shape, s, &r);
        r.reference = r.reference && !(r.since_us > 0) && r.gemm_sms == 0;
        if (rc == 0 && r.gemm_sms > 0)
            rc = quick_row(set, spans, num, s, &r);
    } else {
        rc = row_of_compute(set, shape, s, &r);
        if (is_gemm(s->kind) && beside)
            r.beside_ctas = law_ll_grid(shape->experts / beside->num_rounds, beside->kernel_sms);
        else if (is_gemm(s->kind))
            r.reference = false; /* alone: the sweeps of DeepGEMM determine that */
        else
            r.reference = s->round == s->num_rounds - 1; /* nothing beside: one a replay */
    }
    return rc ? rc : data_add(set, &r) ? 0 : ERR_NOMEM;
}

/* From the kernel that ended last before it, which is what it waited for, on its stream or on
 * another one. */
static int gap_row(struct data_set *set, const struct peo_span *spans, size_t first, size_t at)
{
    const struct peo_span *s = &spans[at];
    struct data_row r = {.law = DATA_GRAPH_GAP, .line = s->line, .reference = true, .rounds = 1};
    double least = 1.5; /* more, and it waited for something else */

    for (size_t i = at; i-- > first;) {
        double gap = s->start_us - spans[i].start_us - spans[i].dur_us;

        if (gap > 0.05 && gap < least) {
            least = gap;
            r.law = spans[i].stream == s->stream ? DATA_GRAPH_GAP : DATA_CROSS_GAP;
        }
    }
    if (least == 1.5)
        return 0;
    r.latency_us = least;
    snprintf(r.system, sizeof r.system, "h200");
    snprintf(r.group, sizeof r.group, "gap T%d", s->tokens);
    return data_add(set, &r) ? 0 : ERR_NOMEM;
}

int read_peo_spans(struct data_set *set, const struct csv *csv)
{
    struct peo_span *spans = NULL;
    struct peo_shape shape;
    size_t num = 0;
    int rc = peo_spans_read(set, csv, &spans, &num, &shape);

    for (size_t first = 0, end; first < num && rc == 0; first = end) {
        for (end = first + 1; end < num && replay_compare(&spans[first], &spans[end]) == 0;)
            end++;
        for (size_t i = first; i < end && rc == 0; i++) {
            rc = span_row(set, &shape, spans, num, first, end, i);
            if (rc == 0)
                rc = gap_row(set, spans, first, i);
        }
    }
    free(spans);
    return rc;
}
