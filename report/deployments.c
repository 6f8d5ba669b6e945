#include "report/deployments.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/file.h"

/* A line of the table: errors in percent, NAN where nothing was answered. */
struct line {
    const char *rows_are, *by, *group;
    int rows, answered;
    double tpot, tpot_p90, tpot_bias, ttft, ttft_p90, ttft_bias;
};

#define COL(k, h, t, f, w, d, u)                                                                   \
    {                                                                                              \
        .key = k, .head = h, .type = t, .offset = offsetof(struct line, f), .width = w,            \
        .digits = d, .unit = u, .none = "-", .views = RECORD_ALL                                   \
    }
static const struct record_column columns[] = {
    COL("rows_are", "rows", RECORD_WORDS, rows_are, -12, 0, NULL),
    COL("by", "by", RECORD_WORDS, by, -9, 0, NULL),
    COL("group", "group", RECORD_WORDS, group, -22, 0, NULL),
    COL("rows", "n", RECORD_INT, rows, 5, 0, NULL),
    COL("answered", "answered", RECORD_INT, answered, 8, 0, NULL),
    COL("tpot_median_pct", "TPOT median", RECORD_REAL, tpot, 11, 1, "%"),
    COL("tpot_p90_pct", "p90", RECORD_REAL, tpot_p90, 7, 1, "%"),
    COL("tpot_bias_pct", "bias", RECORD_REAL, tpot_bias, 7, 1, "%"),
    COL("ttft_median_pct", "TTFT median", RECORD_REAL, ttft, 11, 1, "%"),
    COL("ttft_p90_pct", "p90", RECORD_REAL, ttft_p90, 7, 1, "%"),
    COL("ttft_bias_pct", "bias", RECORD_REAL, ttft_bias, 7, 1, "%"),
};
static const struct record_table table = {"groups", RECORD_ALL, columns,
                                          sizeof columns / sizeof *columns};

static void lines_record(const struct judged *j, bool stated, bool apart, const char *name,
                         struct record *r)
{
    struct judge_line *lines = calloc(JUDGE_MAX_LINES, sizeof *lines);
    int n = lines ? judge_lines(j, stated, apart, lines) : 0;

    for (int i = 0; i < n; i++) {
        const struct judge_line *l = &lines[i];
        struct line out = {.rows_are = name,
                           .by = l->by,
                           .group = l->group,
                           .rows = (int)l->rows,
                           .answered = (int)l->tpot.n,
                           .tpot = 100 * l->tpot.median_ape,
                           .tpot_p90 = 100 * l->tpot.p90_ape,
                           .tpot_bias = 100 * l->tpot.bias,
                           .ttft = 100 * l->ttft.median_ape,
                           .ttft_p90 = 100 * l->ttft.p90_ape,
                           .ttft_bias = 100 * l->ttft.bias};

        if (stated || i == 0 || !strcmp(l->by, "mode") || !strcmp(l->by, "engine"))
            record_row(r, &out);
    }
    free(lines);
}

void deployments_report(const struct judged *j, const char *how, struct record *r)
{
    size_t sets, rows_apart = 0;
    double tau = judge_order(j, &sets);

    for (size_t i = 0; i < j->num; i++)
        rows_apart += j->row[i].apart;
    record_member_text(r, "engines", how);
    record_member(r, "rows", json_integer((json_int_t)j->num));
    record_member(r, "answered", json_integer((json_int_t)j->answered));
    record_member(r, "kendall_tau", isnan(tau) ? json_null() : json_real(tau));
    record_table(r, &table);
    lines_record(j, true, true, "stated", r);
    lines_record(j, false, true, "not stated", r);
    record_note(r, "%zu of %zu rows answered (%.1f%%); engines: %s\n", j->answered, j->num,
                100.0 * (double)j->answered / (double)j->num, how);
    record_note(r,
                "not stated: worker counts or batches are missing from the row; one worker of each "
                "kind is assumed\n");
    record_note(r, "%zu configurations (%zu rows) have repeats that differ by over 10%%\n",
                j->apart, rows_apart);
    if (sets)
        record_note(
            r,
            "order of configurations at equal load: Kendall's tau %.2f over %zu sets of three "
            "and more\n",
            tau, sets);
    record_table_end(r);
}

static void pool_print(const struct serve_pool *p, FILE *f)
{
    fprintf(f, "%d,%d,%d,%d,%d,%d,", p->workers, p->gpus, p->tp, p->dp, p->moe_tp, p->ep);
}

static void row_print(const struct judged_row *r, FILE *f)
{
    record_csv_cell(r->row->id, f);
    fprintf(f, ",%d,%s,%s,", r->row->line, r->row->engine, r->row->version);
    record_csv_cell(r->row->model, f);
    fprintf(f, ",%s,%s,%s,%d,%d,%d,", r->row->system, r->row->precision,
            r->row->disagg ? "disagg" : "agg", r->row->isl, r->row->osl, r->row->concurrency);
    pool_print(&r->d.decode, f);
    pool_print(&r->d.prefill, f);
    fprintf(f, "%d,%d,%d,%g,%g,", judged_is_stated(r), r->apart, r->drafts, r->row->tpot_ms,
            r->row->ttft_ms);
    if (r->answered)
        fprintf(f, "%.6g,%.6g,%.4g,%.4g,", r->tpot_ms, r->ttft_ms, r->tpot_ms / r->row->tpot_ms - 1,
                r->ttft_ms / r->row->ttft_ms - 1);
    else
        fprintf(f, ",,,,");
    record_csv_cell(r->answered ? r->d.note : r->why, f);
    fprintf(f, ",%s %s,%.6g,", r->row->engine, r->row->disagg ? "disagg" : "agg",
            1e3 * r->row->tpot_ms);
    if (r->answered)
        fprintf(f, "%.6g", 1e3 * r->tpot_ms);
    fprintf(f, ",%d\n", r->apart);
}

int deployments_write_rows(const struct judged *j, const char *path)
{
    struct file_out out;
    int err = file_create(&out, path);

    if (err)
        return err;
    fprintf(out.f, "id,line,engine,version,model,system,precision,mode,isl,osl,concurrency");
    for (int p = 0; p < 2; p++) {
        const char *x = p ? "prefill" : "decode";

        fprintf(out.f, ",%s_workers,%s_gpus,%s_tp,%s_dp,%s_moe_tp,%s_ep", x, x, x, x, x, x);
    }
    fprintf(out.f, ",stated,repeats_differ,drafts,tpot_ms,ttft_ms,predicted_tpot_ms,"
                   "predicted_ttft_ms,tpot_error,ttft_error,note,law,measured_us,predicted_us,"
                   "outside\n");
    for (size_t i = 0; i < j->num; i++)
        row_print(&j->row[i], out.f);
    return file_commit(&out);
}
