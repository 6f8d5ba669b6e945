#include "model/routing_file.h"

#include <dirent.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <gsl/gsl_rng.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "model/routing_array.h"

#define ROUTING_MAX_FILE_BYTES ((size_t)1 << 28)

static int routing_row_fault(const struct csv *csv, size_t row, const char *text)
{
    log_error_at(csv->path, csv->line[row], "%s", text);
    return ERR_DATA;
}

static int routing_cell(const struct csv *csv, size_t row, int col, long long *out)
{
    if (num_int(csv_at(csv, row, col), out) == 0)
        return 0;
    log_error_at(csv->path, csv->line[row], "%s: '%.40s' is not a whole number", csv->header[col],
                 csv_at(csv, row, col));
    return ERR_DATA;
}

/* The first row that is whole and of the wanted layer, from `row` on; *rc set where one is bad. */
static bool routing_next_row(const struct csv *csv, int layer_col, long long layer, size_t *row,
                             int *rc)
{
    long long l;

    for (; *row < csv->num_rows; ++*row) {
        if (csv->bad[*row]) {
            *rc = routing_row_fault(csv, *row, "wrong number of cells");
            return false;
        }
        *rc = routing_cell(csv, *row, layer_col, &l);
        if (*rc)
            return false;
        if (l == layer)
            return true;
    }
    return false;
}

static int routing_pick_layer(const struct routing_spec *spec, const struct csv *csv, int col,
                              long long *layer)
{
    if (csv->num_rows == 0) {
        log_error_at(csv->path, 0, "holds no rows");
        return ERR_DATA;
    }
    *layer = spec->layer;
    return spec->layer >= 0 ? 0 : routing_cell(csv, 0, col, layer);
}

static int routing_read_token(const struct csv *csv, size_t row, int first_col, int32_t *out,
                              const struct plan_routing *r)
{
    for (int j = 0; j < r->topk; j++) {
        long long e;
        int rc = routing_cell(csv, row, first_col + j, &e);
        if (rc)
            return rc;
        if (e < -1 || e >= r->experts) {
            log_error_at(csv->path, csv->line[row], "e%d: expert %lld is outside -1..%d", j, e,
                         r->experts - 1);
            return ERR_DATA;
        }
        for (int i = 0; i < j; i++) {
            if (e >= 0 && out[i] == e)
                return routing_row_fault(csv, row, "a token names the same expert twice");
        }
        out[j] = (int32_t)e;
    }
    return 0;
}

/* All tokens of all ranks must have come; says how many did. */
static int routing_check_complete(const struct csv *csv, long long layer, const int *tokens_of,
                                  const struct plan_routing *r)
{
    int ranks = 0;

    for (int rank = 0; rank < r->ranks; rank++)
        ranks += tokens_of[rank] > 0;
    if (ranks < r->ranks) {
        log_error_at(csv->path, 0, "layer %lld holds %d of the %d ranks asked for", layer, ranks,
                     r->ranks);
        return ERR_DATA;
    }
    for (int rank = 0; rank < r->ranks; rank++) {
        if (tokens_of[rank] < r->tokens) {
            log_error_at(csv->path, 0,
                         "layer %lld, rank %d: holds %d of the %d tokens asked for (0..%d)", layer,
                         rank, tokens_of[rank], r->tokens, r->tokens - 1);
            return ERR_DATA;
        }
    }
    return 0;
}

static int routing_place_row(const struct csv *csv, size_t row, const int col[3],
                             struct plan_routing *r, int *tokens_of)
{
    long long rank, token;
    int32_t *out;
    int rc = routing_cell(csv, row, col[1], &rank);

    if (rc == 0)
        rc = routing_cell(csv, row, col[2], &token);
    if (rc)
        return rc;
    if (rank < 0 || token < 0)
        return routing_row_fault(csv, row, "rank and token may not be negative");
    if (rank >= r->ranks || token >= r->tokens)
        return 0;
    out = r->expert + ((size_t)rank * (size_t)r->tokens + (size_t)token) * (size_t)r->topk;
    if (out[0] != INT32_MIN)
        return routing_row_fault(csv, row, "this rank and token came before");
    tokens_of[rank]++;
    return routing_read_token(csv, row, csv_col(csv, "e0"), out, r);
}

static bool routing_topk_header(const struct csv *csv, int topk)
{
    int first = csv_col(csv, "e0");
    char name[16];

    for (int j = 0; j < topk; j++) {
        snprintf(name, sizeof name, "e%d", j);
        if (first + j >= csv->num_cols || strcmp(csv->header[first + j], name) != 0)
            return false;
    }
    return first + topk == csv->num_cols;
}

static int routing_fill_topk(const struct routing_spec *spec, const struct csv *csv,
                             struct plan_routing *r)
{
    size_t n = (size_t)r->ranks * (size_t)r->tokens * (size_t)r->topk;
    int col[3] = {csv_col(csv, "layer"), csv_col(csv, "rank"), csv_col(csv, "token")};
    int first = csv_col(csv, "e0"), rc, *tokens_of = NULL;
    long long layer;

    if (col[0] < 0 || col[1] < 0 || col[2] < 0 || !routing_topk_header(csv, r->topk)) {
        log_error_at(csv->path, 1, "columns layer,rank,token,e0..e%d are wanted, %d experts found",
                     r->topk - 1, csv->num_cols - first);
        return ERR_DATA;
    }
    rc = routing_pick_layer(spec, csv, col[0], &layer);
    if (rc)
        return rc;
    tokens_of = calloc((size_t)r->ranks, sizeof *tokens_of);
    if (!tokens_of)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        r->expert[i] = INT32_MIN;
    for (size_t row = 0; rc == 0 && routing_next_row(csv, col[0], layer, &row, &rc); row++)
        rc = routing_place_row(csv, row, col, r, tokens_of);
    if (rc == 0)
        rc = routing_check_complete(csv, layer, tokens_of, r);
    free(tokens_of);
    return rc;
}

/* The column by our name or by the one SGLang's recorder writes. */
static int routing_col(const struct csv *csv, const char *name, const char *other)
{
    int col = csv_col(csv, name);

    return col >= 0 ? col : csv_col(csv, other);
}

/* Adds a file's counts to `count`, which holds -1 where none has come. A file of several ranks says
 * so by a column: then an expert comes once for each. */
static int routing_read_counts(const struct routing_spec *spec, const struct csv *csv,
                               double *count, int experts)
{
    int layer_col = routing_col(csv, "layer", "layer_id");
    int expert_col = routing_col(csv, "expert", "expert_id"), count_col = csv_col(csv, "count");
    bool several = csv_col(csv, "rank") >= 0;
    double *mine = malloc((size_t)experts * sizeof *mine);
    long long layer, e;
    int rc = mine ? 0 : ERR_NOMEM;

    for (int i = 0; i < experts && rc == 0; i++)
        mine[i] = -1;
    if (rc == 0 && layer_col < 0) {
        log_error_at(csv->path, 1, "columns layer,expert,count are wanted");
        rc = ERR_DATA;
    }
    if (rc == 0)
        rc = routing_pick_layer(spec, csv, layer_col, &layer);
    for (size_t row = 0; rc == 0 && routing_next_row(csv, layer_col, layer, &row, &rc); row++) {
        double v = -1;
        rc = routing_cell(csv, row, expert_col, &e);
        if (rc == 0 && (e < 0 || e >= experts))
            rc = routing_row_fault(csv, row, "this expert does not exist in the model");
        if (rc == 0 && mine[e] >= 0 && !several)
            rc = routing_row_fault(csv, row, "this expert came before");
        if (rc == 0 && (csv_double(csv, row, count_col, &v) != 0 || v < 0 || v > 1e15))
            rc = routing_row_fault(csv, row, "the count is not a number from 0 to 1e15");
        if (rc == 0)
            mine[e] = fmax(mine[e], 0) + v;
    }
    for (int i = 0; i < experts && rc == 0; i++)
        if (mine[i] >= 0)
            count[i] = fmax(count[i], 0) + mine[i];
    free(mine);
    return rc;
}

/* Shares `rows` by the counts, at most `cap` each: what a full expert cannot take goes to the
 * others, until no more fill up. Shares are real numbers here. */
static int routing_share(double *share, int experts, double rows, double cap)
{
    bool again = true;

    while (again) {
        double weight = 0, left = rows;
        again = false;
        for (int e = 0; e < experts; e++) {
            if (share[e] < 0)
                left -= cap; /* full: marked by its sign */
            else
                weight += share[e];
        }
        if (left > 0 && weight <= 0)
            return ERR_DATA;
        for (int e = 0; e < experts; e++) {
            if (share[e] > 0 && share[e] * left > cap * weight) {
                share[e] = -1;
                again = true;
            }
        }
        for (int e = 0; e < experts && !again; e++)
            share[e] = share[e] < 0 ? cap : weight > 0 ? share[e] * left / weight : 0;
    }
    return 0;
}

struct routing_remainder {
    double part;
    int expert;
};

static int routing_compare_remainders(const void *a, const void *b)
{
    const struct routing_remainder *x = a, *y = b;

    if (x->part != y->part)
        return x->part < y->part ? 1 : -1;
    return (x->expert > y->expert) - (x->expert < y->expert);
}

/* Whole quotas with the sum `rows`, by largest remainder. */
static int routing_round(const double *share, int experts, int64_t rows, int64_t cap,
                         int64_t *quota)
{
    struct routing_remainder *rem = malloc((size_t)experts * sizeof *rem);
    int64_t left = rows;

    if (!rem)
        return ERR_NOMEM;
    for (int e = 0; e < experts; e++) {
        quota[e] = (int64_t)floor(share[e]);
        rem[e] = (struct routing_remainder){share[e] - (double)quota[e], e};
        left -= quota[e];
    }
    qsort(rem, (size_t)experts, sizeof *rem, routing_compare_remainders);
    /* `left` is below 0 only where rounding carried a share over a whole number. */
    for (int i = 0; left != 0; i = (i + 1) % experts) {
        int e = rem[i].expert;
        if (left > 0 && quota[e] < cap && share[e] > 0) {
            quota[e]++;
            left--;
        } else if (left < 0 && quota[e] > 0) {
            quota[e]--;
            left++;
        }
    }
    free(rem);
    return 0;
}

static bool routing_token_has(const int32_t *token, int topk, int32_t e)
{
    for (int j = 0; j < topk; j++) {
        if (token[j] == e)
            return true;
    }
    return false;
}

/* Entries sorted by expert are dealt to tokens in turn: as no quota exceeds the number of tokens,
 * no token gets one twice. Swaps of two tokens' experts then mix the table without changing any
 * total. */
static void routing_deal(const int64_t *quota, struct plan_routing *r, const gsl_rng *rng)
{
    size_t tokens = (size_t)r->ranks * (size_t)r->tokens, k = (size_t)r->topk, n = 0;

    for (int e = 0; e < r->experts; e++) {
        for (int64_t i = 0; i < quota[e]; i++, n++)
            r->expert[n % tokens * k + n / tokens] = e;
    }
    for (size_t i = 0; i < 4 * tokens * k; i++) {
        int32_t *a = r->expert + gsl_rng_uniform_int(rng, tokens) * k;
        int32_t *b = r->expert + gsl_rng_uniform_int(rng, tokens) * k;
        size_t ja = gsl_rng_uniform_int(rng, k), jb = gsl_rng_uniform_int(rng, k);
        int32_t ea = a[ja], eb = b[jb];
        if (routing_token_has(a, r->topk, eb) || routing_token_has(b, r->topk, ea))
            continue;
        a[ja] = eb;
        b[jb] = ea;
    }
}

/* A table whose totals follow share[experts]; it is used up. */
static int routing_fill_counts(const struct routing_spec *spec, const char *path, double *share,
                               struct plan_routing *r)
{
    int64_t tokens = (int64_t)r->ranks * r->tokens, rows = tokens * r->topk;
    int64_t *quota = malloc((size_t)r->experts * sizeof *quota);
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    int rc = quota && rng ? 0 : ERR_NOMEM, usable = 0;

    for (int e = 0; e < r->experts; e++) {
        share[e] = fmax(share[e], 0);
        usable += share[e] > 0;
    }
    if (rc == 0 && usable < r->topk) {
        log_error_at(path, 0, "only %d experts have a count above 0; each token needs %d", usable,
                     r->topk);
        rc = ERR_DATA;
    }
    if (rc == 0)
        rc = routing_share(share, r->experts, (double)rows, (double)tokens);
    if (rc == 0)
        rc = routing_round(share, r->experts, rows, tokens, quota);
    if (rc == 0) {
        gsl_rng_set(rng, spec->seed);
        routing_deal(quota, r, rng);
    }
    if (rng)
        gsl_rng_free(rng);
    free(quota);
    return rc;
}

static double *routing_no_counts(int experts)
{
    double *count = malloc((size_t)experts * sizeof *count);

    for (int e = 0; count && e < experts; e++)
        count[e] = -1;
    return count;
}

static bool routing_has_counts(const struct csv *csv)
{
    return routing_col(csv, "expert", "expert_id") >= 0 && csv_col(csv, "count") >= 0;
}

int routing_csv_fill(const struct routing_spec *spec, const struct csv *csv, struct plan_routing *r)
{
    double *count;
    int rc;

    if (csv_col(csv, "e0") >= 0)
        return routing_fill_topk(spec, csv, r);
    if (!routing_has_counts(csv)) {
        log_error_at(csv->path, 1,
                     "columns layer,rank,token,e0.. or layer,expert,count (or "
                     "layer_id,expert_id,count) are wanted");
        return ERR_DATA;
    }
    count = routing_no_counts(r->experts);
    rc = count ? routing_read_counts(spec, csv, count, r->experts) : ERR_NOMEM;
    if (rc == 0)
        rc = routing_fill_counts(spec, csv->path, count, r);
    free(count);
    return rc;
}

static int routing_array_fault(const char *path, const char *text)
{
    log_error_at(path, 0, "%s", text);
    return ERR_DATA;
}

/* Counts [experts], [layers][experts] or [steps][layers][experts]: steps are summed. */
static int routing_array_counts(const struct routing_spec *spec, const char *path,
                                const struct routing_array *a, struct plan_routing *r)
{
    size_t experts = (size_t)r->experts, layers = a->dims > 1 ? a->shape[a->dims - 2] : 1;
    size_t steps = 1, layer = spec->layer > 0 && !a->one_layer ? (size_t)spec->layer : 0;
    double *count = routing_no_counts(r->experts);
    int rc = count ? 0 : ERR_NOMEM;

    for (int i = 0; i + 2 < a->dims; i++)
        steps *= a->shape[i];
    if (rc == 0 && layer >= layers)
        rc = routing_array_fault(path, "the layer asked for is not in it");
    for (size_t s = 0; s < steps && rc == 0; s++)
        for (size_t e = 0; e < experts && rc == 0; e++) {
            double v = a->value[(s * layers + layer) * experts + e];

            if (!(v >= 0 && v <= 1e15))
                rc = routing_array_fault(path, "a count is not a number from 0 to 1e15");
            else
                count[e] = fmax(count[e], 0) + v;
        }
    if (rc == 0)
        rc = routing_fill_counts(spec, path, count, r);
    free(count);
    return rc;
}

/* Experts of tokens: [tokens][k], rank after rank, [layers][tokens][k] or
 * [layers][ranks][tokens][k]. */
static int routing_array_topk(const struct routing_spec *spec, const char *path,
                              const struct routing_array *a, struct plan_routing *r)
{
    size_t k = (size_t)r->topk, per_rank = a->shape[a->dims - 2];
    size_t layers = a->dims > 2 ? a->shape[0] : 1, ranks = a->dims > 3 ? a->shape[1] : 1;
    size_t layer = spec->layer > 0 && !a->one_layer ? (size_t)spec->layer : 0, want;
    const double *from;

    if (layer >= layers)
        return routing_array_fault(path, "the layer asked for is not in it");
    from = a->value + layer * ranks * per_rank * k;
    want = a->dims > 3 ? (size_t)r->tokens : (size_t)r->ranks * (size_t)r->tokens;
    if (per_rank < want || (a->dims > 3 && ranks < (size_t)r->ranks)) {
        log_error_at(path, 0, "holds %zu x %zu tokens of a layer; %d ranks x %d are asked for",
                     ranks, per_rank, r->ranks, r->tokens);
        return ERR_DATA;
    }
    for (size_t i = 0; i < (size_t)r->ranks * (size_t)r->tokens; i++) {
        size_t token = a->dims > 3 ? i / (size_t)r->tokens * per_rank + i % (size_t)r->tokens : i;
        int32_t *out = r->expert + i * k;

        for (size_t j = 0; j < k; j++) {
            double e = from[token * k + j];

            if (!(e >= -1 && e < r->experts) || e != floor(e)) {
                log_error_at(path, 0, "token %zu: expert %g is outside -1..%d", token, e,
                             r->experts - 1);
                return ERR_DATA;
            }
            if (e >= 0 && routing_token_has(out, (int)j, (int32_t)e)) {
                log_error_at(path, 0, "token %zu names expert %g twice", token, e);
                return ERR_DATA;
            }
            out[j] = (int32_t)e;
        }
    }
    return 0;
}

static int routing_array_fill(const struct routing_spec *spec, const char *path,
                              const struct routing_array *a, struct plan_routing *r)
{
    size_t last = a->shape[a->dims - 1];

    if (last == (size_t)r->experts && a->dims < 4)
        return routing_array_counts(spec, path, a, r);
    if (last == (size_t)r->topk && a->dims > 1)
        return routing_array_topk(spec, path, a, r);
    log_error_at(
        path, 0,
        "its innermost length is %zu: neither the %d experts of the model (counts) nor the "
        "%d of a token (choices)",
        last, r->experts, r->topk);
    return ERR_DATA;
}

int routing_text_fill(const struct routing_spec *spec, const char *text, size_t len,
                      const char *path, struct plan_routing *r)
{
    struct routing_array a = {0};
    struct csv *csv = NULL;
    int rc;

    if (len > 1 && memcmp(text, "PK", 2) == 0) {
        log_error_at(path, 0,
                     "a file of torch.save or np.savez; save the one array with np.save (or "
                     "as JSON), e.g. np.save('x.npy', d['logical_count'].numpy())");
        return ERR_PARSE;
    }
    if (routing_is_npy(text, len))
        rc = routing_npy_read(text, len, path, &a);
    else if (routing_is_json(text, len))
        rc = routing_json_read(text, len, path, spec, r->experts, &a);
    else if ((rc = csv_parse(text, len, path, &csv)) == 0)
        rc = routing_csv_fill(spec, csv, r);
    if (rc == 0 && a.value)
        rc = routing_array_fill(spec, path, &a, r);
    csv_free(csv);
    routing_array_free(&a);
    return rc;
}

static int routing_compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The .csv files of a folder, by name; the names are the caller's to free. */
static int routing_list(const char *folder, char ***names, size_t *num)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    char **grown;
    int rc = 0;

    while (dir && rc == 0 && (entry = readdir(dir))) {
        size_t n = strlen(entry->d_name);

        if (n < 5 || strcmp(entry->d_name + n - 4, ".csv") != 0)
            continue;
        grown = realloc(*names, (*num + 1) * sizeof **names);
        *names = grown ? grown : *names;
        if (!grown || asprintf(&(*names)[*num], "%s/%s", folder, entry->d_name) < 0)
            rc = ERR_NOMEM;
        else
            ++*num;
    }
    if (dir)
        closedir(dir);
    if (*num > 1)
        qsort(*names, *num, sizeof **names, routing_compare_names);
    return rc;
}

/* A folder of one file per rank, as SGLang's recorder leaves it: the counts are summed. */
static int routing_folder_fill(const struct routing_spec *spec, struct plan_routing *r)
{
    double *count = routing_no_counts(r->experts);
    char **names = NULL;
    size_t num = 0;
    int rc = count ? routing_list(spec->path, &names, &num) : ERR_NOMEM;

    for (size_t i = 0; i < num && rc == 0; i++) {
        struct csv *csv = NULL;

        rc = csv_read(names[i], ROUTING_MAX_FILE_BYTES, &csv);
        if (rc == 0 && !routing_has_counts(csv))
            rc = routing_array_fault(names[i],
                                     "files of a folder are summed: each needs the columns "
                                     "layer,expert,count (or layer_id,expert_id,count)");
        if (rc == 0)
            rc = routing_read_counts(spec, csv, count, r->experts);
        csv_free(csv);
    }
    if (rc == 0 && num == 0)
        rc = routing_array_fault(spec->path, "the folder holds no .csv file");
    if (rc == 0)
        rc = routing_fill_counts(spec, spec->path, count, r);
    for (size_t i = 0; i < num; i++)
        free(names[i]);
    free(names);
    free(count);
    return rc;
}

int routing_file_fill(const struct routing_spec *spec, struct plan_routing *r)
{
    struct stat st;
    char *text = NULL;
    size_t len;
    int rc;

    if (!spec->path || !spec->path[0]) {
        log_error("routing: a file is asked for, but none is named");
        return ERR_CONFIG;
    }
    if (stat(spec->path, &st) == 0 && S_ISDIR(st.st_mode))
        return routing_folder_fill(spec, r);
    rc = file_read(spec->path, ROUTING_MAX_FILE_BYTES, &text, &len);
    if (rc == 0)
        rc = routing_text_fill(spec, text, len, spec->path, r);
    free(text);
    return rc;
}
