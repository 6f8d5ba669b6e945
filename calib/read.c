#include "calib/attn.h"
#include "calib/read.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"

#define DATA_MAX_BYTES (256u << 20)

const char *data_law_name(enum data_law law)
{
    static const char *const names[DATA_LAW_COUNT] = {
        [DATA_LL_DISPATCH] = "ll_dispatch",
        [DATA_LL_LAYERED] = "ll_layered",
        [DATA_LL_COMBINE] = "ll_combine",
        [DATA_NORMAL_DISPATCH] = "normal_dispatch",
        [DATA_NORMAL_COMBINE] = "normal_combine",
        [DATA_PEO] = "peo",
        [DATA_MASKED] = "grouped_masked",
        [DATA_CONTIGUOUS] = "grouped_contiguous",
        [DATA_DENSE_BF16] = "gemm_bf16",
        [DATA_DENSE_FP8] = "gemm_fp8",
        [DATA_DENSE_BLOCK] = "gemm_fp8_block",
        [DATA_DENSE_NVFP4] = "gemm_nvfp4",
        [DATA_FFN] = "ffn_masked",
        [DATA_FFN_FUSED] = "ffn_fused",
        [DATA_FFN_CONTIGUOUS] = "ffn_contiguous",
        [DATA_COLLECTIVE] = "collective",
        [DATA_ACT] = "act_quant",
        [DATA_PUSH] = "push",
        [DATA_HBM_COPY] = "hbm_copy",
        [DATA_GRAPH_GAP] = "launch_gap_graph",
        [DATA_CROSS_GAP] = "launch_gap_cross",
        [DATA_EAGER_LAUNCH] = "launch_eager",
        [DATA_FLAG] = "flag_rtt",
        [DATA_INTERFERENCE] = "interference",
        [DATA_STRETCH] = "stretch",
        [DATA_A2A_BESIDE] = "interference_a2a",
        [DATA_ROUTER] = "router",
        [DATA_A2A] = "a2a",
        [DATA_DEDUP_DISPATCH] = "dedup_dispatch",
        [DATA_DEDUP_COMBINE] = "dedup_combine",
        [DATA_ATTN_CORE] = "attn_core",
        [DATA_ATTN_SIDE] = "attn_side",
        [DATA_ATTN_GQA] = "attn_gqa",
        [DATA_ATTN_MLA] = "attn_mla",
        [DATA_ATTN_SPARSE] = "attn_sparse",
        [DATA_ATTN_STATE] = "attn_state",
        [DATA_V2_DISPATCH] = "v2_dispatch",
        [DATA_V2_COMBINE] = "v2_combine",
        [DATA_A2A_NVL] = "a2a_nvl",
        [DATA_MEGA] = "mega",
        [DATA_SPLIT] = "split_layer",
        [DATA_SHOWN] = "no law",
    };

    return (unsigned)law < DATA_LAW_COUNT ? names[law] : "?";
}

struct data_row *data_add(struct data_set *set, const struct data_row *row)
{
    if (set->n == set->cap) {
        size_t cap = set->cap ? 2 * set->cap : 256;
        struct data_row *grown = realloc(set->rows, cap * sizeof *grown);

        if (!grown)
            return NULL;
        set->rows = grown;
        set->cap = cap;
    }
    set->rows[set->n] = *row;
    return &set->rows[set->n++];
}

double data_usable_experts(const struct data_row *r)
{
    bool limited = r->node_limit > 0 && r->node_limit < r->nodes;

    return r->experts * (limited ? (double)r->node_limit / r->nodes : 1.0);
}

void data_free(struct data_set *set)
{
    if (!set)
        return;
    free(set->path);
    free(set->rows);
    data_bad_free(set);
    arena_free(set->arena);
    free(set);
}

static int set_new(const char *name, struct data_set **out)
{
    struct data_set *set = calloc(1, sizeof *set);

    if (!set)
        return ERR_NOMEM;
    set->path = strdup(name);
    set->arena = arena_new();
    if (!set->path || !set->arena) {
        data_free(set);
        return ERR_NOMEM;
    }
    *out = set;
    return 0;
}

/* What makes two rows measurements of the same thing: everything but the result. */
static int row_compare_shape(const struct data_row *a, const struct data_row *b)
{
    const double x[] = {a->law,    a->part,  a->ranks,   a->nodes, a->num_sms, a->tokens,
                        a->hidden, a->inter, a->experts, a->topk,  a->rounds,  a->groups,
                        a->rows,   a->round, a->n,       a->k,     a->dtype,   a->bytes};
    const double y[] = {b->law,    b->part,  b->ranks,   b->nodes, b->num_sms, b->tokens,
                        b->hidden, b->inter, b->experts, b->topk,  b->rounds,  b->groups,
                        b->rows,   b->round, b->n,       b->k,     b->dtype,   b->bytes};
    int c = strcmp(a->system, b->system);

    if (c == 0)
        c = strcmp(a->group, b->group);
    if (c == 0)
        c = strcmp(a->coll, b->coll);
    for (size_t i = 0; c == 0 && i < sizeof x / sizeof *x; i++)
        c = (x[i] > y[i]) - (x[i] < y[i]);
    return c == 0 && a->attn && b->attn ? data_attn_compare(a->attn, b->attn) : c;
}

static int order_compare(const void *a, const void *b)
{
    const struct data_row *x = *(const struct data_row *const *)a;
    const struct data_row *y = *(const struct data_row *const *)b;
    int c = row_compare_shape(x, y);

    return c ? c : (x->line > y->line) - (x->line < y->line);
}

/* How much there is to do, so that neighbours in a group can be compared. */
static double row_size(const struct data_row *r)
{
    if (r->attn)
        return data_attn_size(r->attn);
    if (r->bytes > 0)
        return r->bytes;
    if (r->n > 0)
        return (double)(r->groups > 0 ? r->groups : 1) * r->rows * r->n * r->k;
    return r->tokens;
}

#define MISFIT 100

/* In another unit: 100 times above or below what its neighbour in size makes likely. Across the end
 * of a group (`grows`) time may grow as fast as the size does; between two neighbours it may not.
 */
static int row_side(const struct data_row *at, const struct data_row *near, bool grows)
{
    double x = row_size(at), y = row_size(near), ratio = grows && x > 0 && y > 0 ? x / y : 1;
    double most = MISFIT * fmax(ratio, 1), least = fmin(ratio, 1) / MISFIT;

    if (at->latency_us > most * near->latency_us)
        return 1;
    return at->latency_us < least * near->latency_us ? -1 : 0;
}

/* Both neighbours must say the same: one alone may be the one in the other unit. */
static bool row_misfits(const struct data_row *a, const struct data_row *b,
                        const struct data_row *c, bool grows)
{
    int side = row_side(b, a, grows);

    return side != 0 && row_side(b, c, grows) == side;
}

static int size_compare(const void *a, const void *b)
{
    const struct data_row *x = *(const struct data_row *const *)a;
    const struct data_row *y = *(const struct data_row *const *)b;
    int c = (x->law > y->law) - (x->law < y->law);

    if (c == 0)
        c = strcmp(x->system, y->system);
    if (c == 0)
        c = strcmp(x->group, y->group);
    if (c == 0)
        c = (row_size(x) > row_size(y)) - (row_size(x) < row_size(y));
    return c ? c : (x->line > y->line) - (x->line < y->line);
}

static bool same_group(const struct data_row *a, const struct data_row *b)
{
    return a->law == b->law && strcmp(a->system, b->system) == 0 && strcmp(a->group, b->group) == 0;
}

static void mark_duplicates(struct data_set *set, struct data_row **order, bool *drop)
{
    qsort(order, set->n, sizeof *order, order_compare);
    for (size_t i = 1; i < set->n; i++) {
        if (row_compare_shape(order[i - 1], order[i]) != 0)
            continue;
        /* Microbenchmarks repeat; only a row that repeats the result too was copied. */
        if (set->repeats && order[i - 1]->latency_us != order[i]->latency_us)
            continue;
        drop[order[i] - set->rows] = true;
        data_bad(set, order[i]->line, "the same measurement stands in line %d", order[i - 1]->line);
    }
}

/* order[i] beside order[a] and order[c]; rows at an end have both on one side. */
static void mark_misfit(struct data_set *set, struct data_row *const *order, size_t a, size_t i,
                        size_t c, bool *drop)
{
    const struct data_row *row = order[i];

    if (drop[row - set->rows] || !row_misfits(order[a], row, order[c], a > i || c < i))
        return;
    drop[row - set->rows] = true;
    data_bad(set, row->line,
             "latency %g us is 100 times off its neighbours (%g, %g): another unit?",
             row->latency_us, order[a]->latency_us, order[c]->latency_us);
}

static void mark_misfits(struct data_set *set, struct data_row **order, bool *drop)
{
    qsort(order, set->n, sizeof *order, size_compare);
    for (size_t i = 0, end; i < set->n; i = end) {
        for (end = i + 1; end < set->n && same_group(order[i], order[end]);)
            end++;
        if (end - i < 3 || order[i]->law == DATA_SHOWN)
            continue; /* two alone: nothing says which is right */
        for (size_t j = i + 1; j + 1 < end; j++)
            mark_misfit(set, order, j - 1, j, j + 1, drop);
        mark_misfit(set, order, i + 1, i, i + 2, drop);
        mark_misfit(set, order, end - 3, end - 1, end - 2, drop);
    }
}

static int drop_odd_rows(struct data_set *set)
{
    struct data_row **order = malloc((set->n + 1) * sizeof *order);
    bool *drop = calloc(set->n + 1, sizeof *drop);
    size_t kept = 0;

    if (!order || !drop) {
        free(order);
        free(drop);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < set->n; i++)
        order[i] = &set->rows[i];
    if (!set->runs)
        mark_duplicates(set, order, drop);
    mark_misfits(set, order, drop);
    for (size_t i = 0; i < set->n; i++)
        if (!drop[i])
            set->rows[kept++] = set->rows[i];
    set->n = kept;
    free(order);
    free(drop);
    return 0;
}

static void versions_read(struct data_versions *v, const char *text)
{
    const struct {
        const char *key;
        char *value;
    } all[] = {{"# driver: ", v->driver},
               {"# cuda: ", v->cuda},
               {"# nccl: ", v->nccl},
               {"# commit: ", v->commit}};

    for (; *text == '#'; text += strspn(text, "\r\n")) {
        size_t length = strcspn(text, "\r\n");

        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            size_t key = strlen(all[i].key);

            if (strncmp(text, all[i].key, key) == 0)
                snprintf(all[i].value, sizeof v->driver, "%.*s", (int)(length - key), text + key);
        }
        text += length;
    }
}

static int parse_text(struct data_set *set, const char *text, size_t len,
                      const struct data_hint *hint)
{
    struct csv *csv = NULL;
    int rc;

    if (read_nccl_json_matches(text))
        return read_nccl_json(set, text, len, hint);
    if (read_nccl_matches(text) || read_nccl_bare(text, set->path, hint))
        return read_nccl(set, text, hint);
    if (read_deepep_matches(text))
        return read_deepep(set, text, hint);
    versions_read(&set->versions, text);
    rc = csv_parse(text, len, set->path, &csv);
    if (rc == 0)
        rc = read_csv(set, csv);
    csv_free(csv);
    return rc;
}

int data_parse(const char *text, size_t len, const char *name, const struct data_hint *hint,
               bool strict, struct data_set **out)
{
    static const struct data_hint none;
    struct data_set *set = NULL;
    int rc = set_new(name, &set);

    if (rc == 0) {
        file_hash_text(text, len, set->sha256);
        rc = parse_text(set, text, len, hint ? hint : &none);
    }
    if (rc == 0)
        rc = drop_odd_rows(set);
    data_bad_summary(set, strict);
    if (rc == 0 && strict && set->bad > 0) {
        log_error_at(name, 0, "%zu bad rows, and --strict refuses the file", set->bad);
        rc = ERR_DATA;
    }
    if (rc == 0 && set->n == 0) {
        log_error_at(name, 0, "no usable row");
        rc = ERR_DATA;
    }
    if (rc != 0) {
        data_free(set);
        return rc;
    }
    *out = set;
    return 0;
}

int data_read(const char *path, const struct data_hint *hint, bool strict, struct data_set **out)
{
    char *text = NULL;
    size_t len = 0;
    int rc = file_read(path, DATA_MAX_BYTES, &text, &len);

    if (rc == 0)
        rc = data_parse(text, len, path, hint, strict, out);
    free(text);
    return rc;
}
