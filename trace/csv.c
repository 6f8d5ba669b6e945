#include "trace/csv.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"
#include "base/err.h"
#include "base/log.h"

/* A field that needs no quotes for labels of our own; kernel names of others may hold commas. */
void trace_csv_text(const char *s, FILE *f)
{
    if (!strpbrk(s, ",\"\r\n")) {
        fputs(s, f);
        return;
    }
    fputc('"', f);
    for (; *s; s++) {
        if (*s == '"')
            fputc('"', f);
        fputc(*s, f);
    }
    fputc('"', f);
}

void trace_csv_record(const struct trace_record *r, FILE *f)
{
    fprintf(f, "%d,%d,", r->rank, r->stream);
    trace_csv_text(r->stream_name, f);
    fprintf(f, ",%d,", r->op);
    trace_csv_text(r->kind, f);
    fprintf(f, ",%s,", r->class_name);
    trace_csv_text(r->label, f);
    fprintf(f, ",%d,%d,%d,%.4f,%.4f,%.4f,%.4f,%d,%lld,%.0f,%s,%d,%d,%d", r->layer, r->batch,
            r->round, r->ready_ns / 1e3, r->start_ns / 1e3, r->end_ns / 1e3, r->wait_ns / 1e3,
            r->sms, r->rows, r->bytes, trace_cause_name(r->cause), r->cause_op, r->data_rank,
            r->data_op);
    for (int p = 0; p < PART_COUNT; p++)
        fprintf(f, ",%.4f", (double)r->part_ns[p] / 1e3);
    fputc('\n', f);
}

void trace_csv_header(FILE *f)
{
    fputs("rank,stream,stream_name,op,kind,class,label,layer,batch,round,ready_us,start_us,end_us,"
          "wait_us,sms,rows,bytes,cause,cause_op,data_rank,data_op",
          f);
    for (int p = 0; p < PART_COUNT; p++)
        fprintf(f, ",part_%s_us", trace_part_name((enum trace_part)p));
    fputc('\n', f);
}

int trace_csv_write(const struct trace_log *log, FILE *f)
{
    trace_csv_header(f);
    for (size_t i = 0; i < log->num_records; i++)
        trace_csv_record(&log->records[i], f);
    return ferror(f) ? ERR_IO : 0;
}

int trace_csv_write_counters(const struct trace_log *log, FILE *f)
{
    fputs("rank,counter,t_us,value\n", f);
    for (size_t i = 0; i < log->num_counters; i++) {
        const struct trace_counter *c = &log->counters[i];

        fprintf(f, "%d,%s,%.4f,%.6g\n", c->rank, trace_counter_name(c->which), c->t_ns / 1e3,
                c->value);
    }
    return ferror(f) ? ERR_IO : 0;
}

enum col {
    COL_RANK,
    COL_LABEL,
    COL_START,
    COL_END, /* up to here a file must have them */
    COL_STREAM,
    COL_STREAM_NAME,
    COL_OP,
    COL_KIND,
    COL_CLASS,
    COL_LAYER,
    COL_BATCH,
    COL_ROUND,
    COL_READY,
    COL_WAIT,
    COL_SMS,
    COL_ROWS,
    COL_BYTES,
    COL_CAUSE,
    COL_CAUSE_OP,
    COL_DATA_RANK,
    COL_DATA_OP,
    COL_PART, /* and PART_COUNT - 1 more */
    COL_COUNT = COL_PART + PART_COUNT
};

static const char *const col_names[COL_PART] = {
    "rank", "label", "start_us", "end_us", "stream",   "stream_name", "op",
    "kind", "class", "layer",    "batch",  "round",    "ready_us",    "wait_us",
    "sms",  "rows",  "bytes",    "cause",  "cause_op", "data_rank",   "data_op"};

struct reader {
    const struct csv *csv;
    int col[COL_COUNT];
};

static int reader_columns(struct reader *rd)
{
    for (int c = 0; c < COL_COUNT; c++) {
        char part[32];

        if (c >= COL_PART)
            snprintf(part, sizeof part, "part_%s_us",
                     trace_part_name((enum trace_part)(c - COL_PART)));
        rd->col[c] = csv_col(rd->csv, c < COL_PART ? col_names[c] : part);
        if (rd->col[c] < 0 && c <= COL_END) {
            log_error_at(rd->csv->path, 1, "not a trace: column '%s' is missing", col_names[c]);
            return ERR_PARSE;
        }
    }
    return 0;
}

static const char *reader_text(const struct reader *rd, size_t row, enum col c, const char *def)
{
    return rd->col[c] < 0 ? def : csv_at(rd->csv, row, rd->col[c]);
}

/* One number of a row, times scale; def where the file has no such column. Bounds are inclusive. */
static int reader_number(const struct reader *rd, size_t row, int c, double def, double min,
                         double max, double *out)
{
    *out = def;
    if (rd->col[c] < 0)
        return 0;
    if (!csv_double(rd->csv, row, rd->col[c], out) && *out >= min && *out <= max)
        return 0;
    log_error_at(rd->csv->path, rd->csv->line[row], "%s: '%s' is not a number from %g to %g",
                 rd->csv->header[rd->col[c]], csv_at(rd->csv, row, rd->col[c]), min, max);
    return ERR_DATA;
}

static int reader_int(const struct reader *rd, size_t row, int c, int def, double min, double max,
                      int *out)
{
    double x;
    int err = reader_number(rd, row, c, def, min, max, &x);

    *out = err ? def : (int)x;
    return err;
}

static int reader_us(const struct reader *rd, size_t row, int c, double def_ns, double *out_ns)
{
    double us;
    int err = reader_number(rd, row, c, def_ns / 1e3, -1e12, 1e12, &us);

    *out_ns = us * 1e3;
    return err;
}

static enum trace_cause cause_find(const char *name)
{
    for (int c = 0; c < CAUSE_UNKNOWN; c++)
        if (!strcmp(name, trace_cause_name((enum trace_cause)c)))
            return (enum trace_cause)c;
    return CAUSE_UNKNOWN;
}

static int reader_ints(const struct reader *rd, size_t row, struct trace_record *r)
{
    int err = reader_int(rd, row, COL_RANK, 0, 0, TRACE_MAX_RANKS - 1, &r->rank);

    if (!err)
        err = reader_int(rd, row, COL_STREAM, 0, 0, INT_MAX, &r->stream);
    if (!err)
        err = reader_int(rd, row, COL_OP, -1, -1, INT_MAX, &r->op);
    if (!err)
        err = reader_int(rd, row, COL_LAYER, 0, 0, INT_MAX, &r->layer);
    if (!err)
        err = reader_int(rd, row, COL_BATCH, 0, 0, INT_MAX, &r->batch);
    if (!err)
        err = reader_int(rd, row, COL_ROUND, -1, -1, INT_MAX, &r->round);
    if (!err)
        err = reader_int(rd, row, COL_SMS, 0, 0, INT_MAX, &r->sms);
    if (!err)
        err = reader_int(rd, row, COL_CAUSE_OP, -1, -1, INT_MAX, &r->cause_op);
    if (!err)
        err = reader_int(rd, row, COL_DATA_RANK, -1, -1, INT_MAX, &r->data_rank);
    if (!err)
        err = reader_int(rd, row, COL_DATA_OP, -1, -1, INT_MAX, &r->data_op);
    return err;
}

static int reader_times(const struct reader *rd, size_t row, struct trace_record *r)
{
    double rows;
    int err = reader_us(rd, row, COL_START, 0, &r->start_ns);

    if (!err)
        err = reader_us(rd, row, COL_END, 0, &r->end_ns);
    if (!err)
        err = reader_us(rd, row, COL_READY, r->start_ns, &r->ready_ns);
    if (!err)
        err = reader_us(rd, row, COL_WAIT, 0, &r->wait_ns);
    if (!err)
        err = reader_number(rd, row, COL_ROWS, 0, 0, 1e15, &rows);
    if (!err)
        err = reader_number(rd, row, COL_BYTES, 0, 0, 1e18, &r->bytes);
    for (int p = 0; p < PART_COUNT && !err; p++) {
        double ns;

        err = reader_us(rd, row, COL_PART + p, 0, &ns);
        r->part_ns[p] = (float)ns;
    }
    if (!err && r->end_ns < r->start_ns) {
        log_error_at(rd->csv->path, rd->csv->line[row], "end_us is before start_us");
        err = ERR_DATA;
    }
    r->rows = err ? 0 : (long long)rows;
    return err;
}

static int reader_row(const struct reader *rd, size_t row, struct trace_log *log)
{
    struct trace_record r = {0};
    int err;

    if (rd->csv->bad[row]) {
        log_error_at(rd->csv->path, rd->csv->line[row],
                     "the line has not as many fields as the header");
        return ERR_DATA;
    }
    r.label = reader_text(rd, row, COL_LABEL, "");
    r.kind = reader_text(rd, row, COL_KIND, r.label);
    r.class_name = reader_text(rd, row, COL_CLASS, "other");
    r.stream_name = reader_text(rd, row, COL_STREAM_NAME, "");
    r.cause = cause_find(reader_text(rd, row, COL_CAUSE, "unknown"));
    err = reader_ints(rd, row, &r);
    if (!err)
        err = reader_times(rd, row, &r);
    return err ? err : trace_log_add(log, &r);
}

int trace_csv_parse(const char *text, size_t len, const char *name, struct trace_log **out)
{
    struct reader rd = {0};
    struct trace_log *log = NULL;
    struct csv *csv = NULL;
    int err = csv_parse(text, len, name, &csv);

    if (err)
        goto out;
    rd.csv = csv;
    err = reader_columns(&rd);
    if (!err)
        err = trace_log_new(&log, "");
    for (size_t row = 0; row < csv->num_rows && !err; row++)
        err = reader_row(&rd, row, log);
    if (err)
        goto out;
    *out = log;
    log = NULL;
out:
    trace_log_free(log);
    csv_free(csv);
    return err;
}
