#include "calib/e2e.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"
#include "base/err.h"
#include "base/log.h"

enum { MAX_BYTES = 1 << 26, MAX_COUNT = 1 << 24 };
#define MAX_MS 1e7

static const char *const needed[] = {"engine", "version",     "model", "system",  "precision",
                                     "mode",   "isl",         "osl",   "id_tp",   "id_ep",
                                     "stated", "concurrency", "tp",    "ttft_ms", "tpot_ms"};

static bool has_columns(const struct csv *csv)
{
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (csv_col(csv, needed[i]) < 0)
            return false;
    return true;
}

bool e2e_matches(const char *path)
{
    FILE *f = fopen(path, "r");
    char head[4096] = "";
    struct csv *csv = NULL;
    bool found = f && fgets(head, sizeof head, f) != NULL &&
                 csv_parse(head, strlen(head), path, &csv) == 0 && has_columns(csv);

    if (f)
        fclose(f);
    csv_free(csv);
    return found;
}

struct reading {
    const struct csv *csv;
    size_t row;
    bool bad;
};

static const char *text(struct reading *r, const char *col)
{
    int c = csv_col(r->csv, col);

    return c < 0 ? "" : csv_at(r->csv, r->row, c);
}

static void fault(struct reading *r, const char *col, const char *why)
{
    if (!r->bad)
        log_warn("%s:%d: %s '%s' %s; row skipped", r->csv->path, r->csv->line[r->row], col,
                 text(r, col), why);
    r->bad = true;
}

/* An empty cell is 0. */
static int count(struct reading *r, const char *col, bool optional)
{
    double x = 0;

    if (optional && !*text(r, col))
        return 0;
    if (csv_double(r->csv, r->row, csv_col(r->csv, col), &x) || x != floor(x) || x < 1 ||
        x > MAX_COUNT) {
        fault(r, col, "is no count");
        return 0;
    }
    return (int)x;
}

static double milliseconds(struct reading *r, const char *col)
{
    double x = 0;

    if (csv_double(r->csv, r->row, csv_col(r->csv, col), &x) || !(x > 0) || x > MAX_MS)
        fault(r, col, "is no time in ms");
    return x;
}

static int one_of(struct reading *r, const char *col, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(text(r, col), names[i]))
            return i;
    fault(r, col, "is none that this file has");
    return 0;
}

static void pool_read(struct reading *r, const char *prefix, struct e2e_workers *w)
{
    const struct {
        const char *name;
        int *to;
    } cols[] = {{"batch", &w->batch}, {"workers", &w->workers}, {"tp", &w->tp},
                {"attn_dp", &w->dp},  {"moe_tp", &w->moe_tp},   {"moe_ep", &w->moe_ep}};

    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++) {
        char col[64];

        snprintf(col, sizeof col, "%s%s", prefix, cols[i].name);
        *cols[i].to = csv_col(r->csv, col) < 0 ? 0 : count(r, col, true);
    }
}

static void row_read(struct reading *r, struct e2e_row *out)
{
    static const char *const modes[] = {"agg", "disagg"}, *const stated[] = {
                                                              "yes", "contradicts id", "no"};

    *out = (struct e2e_row){.line = r->csv->line[r->row],
                            .id = text(r, "id"),
                            .engine = text(r, "engine"),
                            .version = text(r, "version"),
                            .model = text(r, "model"),
                            .system = text(r, "system"),
                            .precision = text(r, "precision"),
                            .gemm_dtype = text(r, "gemm_dtype"),
                            .moe_dtype = text(r, "moe_dtype"),
                            .disagg = one_of(r, "mode", modes, 2) == 1,
                            .isl = count(r, "isl", false),
                            .osl = count(r, "osl", false),
                            .concurrency = count(r, "concurrency", false),
                            .pp = count(r, "pp", true),
                            .id_tp = count(r, "id_tp", true),
                            .id_ep = count(r, "id_ep", true),
                            .stated = (enum e2e_stated)one_of(r, "stated", stated, 3),
                            .ttft_ms = milliseconds(r, "ttft_ms"),
                            .tpot_ms = milliseconds(r, "tpot_ms")};
    pool_read(r, out->disagg ? "decode_" : "", &out->pool[E2E_DECODE]);
    if (out->disagg)
        pool_read(r, "prefill_", &out->pool[E2E_PREFILL]);
}

static int rows_read(struct e2e *e)
{
    for (size_t i = 0; i < e->csv->num_rows; i++) {
        struct reading r = {.csv = e->csv, .row = i};

        if (e->csv->bad[i]) {
            log_warn("%s:%d: wrong number of cells; row skipped", e->csv->path, e->csv->line[i]);
            r.bad = true;
        } else {
            row_read(&r, &e->row[e->num]);
        }
        e->num += !r.bad;
        e->bad += r.bad;
    }
    if (e->num)
        return 0;
    log_error("%s: no deployment in it can be read", e->csv->path);
    return ERR_DATA;
}

int e2e_read(const char *path, struct e2e *out)
{
    int err = csv_read(path, MAX_BYTES, &out->csv);

    out->row = NULL;
    out->num = out->bad = 0;
    if (!err && !has_columns(out->csv)) {
        log_error("%s: not a file of deployments: a column is missing", path);
        err = ERR_PARSE;
    }
    if (!err)
        out->row = calloc(out->csv->num_rows + 1, sizeof *out->row);
    if (!err && !out->row)
        err = ERR_NOMEM;
    if (!err)
        err = rows_read(out);
    if (err)
        e2e_free(out);
    return err;
}

void e2e_free(struct e2e *e)
{
    csv_free(e->csv);
    free(e->row);
    *e = (struct e2e){0};
}
