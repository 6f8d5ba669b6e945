/* trace/diff_print.c: a comparison for people, programs and plots. */
#include <math.h>

#include <jansson.h>

#include "base/err.h"
#include "base/log.h"
#include "trace/csv.h"
#include "trace/diff.h"

static double pct(double part, double whole)
{
    return whole != 0 ? part / whole * 100 : 0;
}

static const char *divergence_name(enum trace_divergence what)
{
    static const char *const names[] = {"none", "start", "duration", "order", "only_a", "only_b"};

    return names[what];
}

static void print_where(const struct trace_record *r, FILE *f)
{
    fprintf(f, "rank %d, stream %d%s%s, %.120s", r->rank, r->stream, *r->stream_name ? " " : "",
            r->stream_name, r->label);
}

static void print_first(const struct trace_diff *d, FILE *f)
{
    const struct trace_record *a = d->first_pair.a, *b = d->first_pair.b, *r = a ? a : b;

    fputs("first divergence: ", f);
    if (d->first == DIVERGE_NONE) {
        fputs("none beyond the tolerance\n", f);
        return;
    }
    print_where(r, f);
    if (d->first == DIVERGE_ONLY_A || d->first == DIVERGE_ONLY_B)
        fprintf(f, ": only in %s (%.2f us at %.2f us)\n", a ? "A" : "B", trace_record_ns(r) / 1e3,
                r->start_ns / 1e3);
    else if (d->first == DIVERGE_ORDER)
        fprintf(f, ": follows another op (starts at %.2f us in A, %.2f us in B)\n",
                a->start_ns / 1e3, b->start_ns / 1e3);
    else if (d->first == DIVERGE_START)
        fprintf(f, ": starts %.2f us %s in B (A %.2f us, B %.2f us)\n", fabs(d->first_ns) / 1e3,
                d->first_ns > 0 ? "later" : "earlier", a->start_ns / 1e3, b->start_ns / 1e3);
    else
        fprintf(f, ": takes %.2f us %s in B (A %.2f us, B %.2f us)\n", fabs(d->first_ns) / 1e3,
                d->first_ns > 0 ? "more" : "less", trace_record_ns(a) / 1e3,
                trace_record_ns(b) / 1e3);
}

/* A cause of the difference, also as a part of A's time; causes of nothing are left out. */
static bool print_cause(const struct trace_diff *d, const char *name, double ns, FILE *f)
{
    if (fabs(ns) < 0.5)
        return false;
    fprintf(f, "  %-36.36s %+10.2f  %+8.2f%%", name, ns / 1e3, pct(ns, d->a_ns));
    return true;
}

static void print_split(const struct trace_diff *d, FILE *f)
{
    fprintf(f, "\nwhere the difference comes from (critical path of rank %d)\n", d->b_rank);
    fprintf(f, "  %-36s %10s  %9s  %12s  %14s  %12s\n", "cause", "us", "of A", "same spans",
            "one trace only", "other order");
    for (size_t i = 0; i < d->num_kinds; i++) {
        const struct trace_diff_kind *k = &d->kinds[i];
        char name[64];

        snprintf(name, sizeof name, "work of %.55s", k->kind);
        if (print_cause(d, name, trace_diff_kind_ns(k), f))
            fprintf(f, "  %+12.2f  %+14.2f  %+12.2f\n", k->path_ns / 1e3, k->only_ns / 1e3,
                    k->order_ns / 1e3);
    }
    if (print_cause(d, "waiting for data", d->wait_ns, f))
        fputc('\n', f);
    if (print_cause(d, "gaps between spans (launch, skew)", d->gap_ns, f))
        fputc('\n', f);
    if (print_cause(d, "another rank is the slowest", d->rank_ns, f))
        fputc('\n', f);
    fprintf(f, "  %-36s %+10.2f  %+8.2f%%\n", "total", (d->b_ns - d->a_ns) / 1e3,
            pct(d->b_ns - d->a_ns, d->a_ns));
}

static void print_kinds(const struct trace_diff *d, FILE *f)
{
    fprintf(f, "\n%-24s %6s %10s %10s %9s %8s %10s %10s %6s %6s\n", "op (mean over pairs)", "pairs",
            "A us", "B us", "B-A us", "B/A-1", "A wait us", "B wait us", "only A", "only B");
    for (size_t i = 0; i < d->num_kinds; i++) {
        const struct trace_diff_kind *k = &d->kinds[i];

        if (!k->pairs) {
            fprintf(f, "%-24.24s %6d %10s %10s %9s %8s %10s %10s %6d %6d\n", k->kind, 0, "-", "-",
                    "-", "-", "-", "-", k->only_a, k->only_b);
            continue;
        }
        fprintf(f, "%-24.24s %6d %10.2f %10.2f %+9.2f %+7.1f%% %10.2f %10.2f %6d %6d\n", k->kind,
                k->pairs, k->a_ns / 1e3, k->b_ns / 1e3, (k->b_ns - k->a_ns) / 1e3,
                pct(k->b_ns - k->a_ns, k->a_ns), k->a_wait_ns / 1e3, k->b_wait_ns / 1e3, k->only_a,
                k->only_b);
    }
}

int trace_diff_print(const struct trace_diff *diff, const char *a_name, const char *b_name, FILE *f)
{
    double total_ns = diff->b_ns - diff->a_ns;

    fprintf(f, "A: %s: %zu spans, ends at %.2f us (slowest rank %d)\n", a_name,
            diff->a->num_records, diff->a_ns / 1e3, diff->a_slowest);
    fprintf(f, "B: %s: %zu spans, ends at %.2f us (slowest rank %d)\n", b_name,
            diff->b->num_records, diff->b_ns / 1e3, diff->b_slowest);
    fprintf(f,
            "B - A: %+.2f us (%+.2f%%); on %d common ranks %d spans paired, %d only in A, %d only "
            "in B, %d in "
            "another order\n",
            total_ns / 1e3, pct(total_ns, diff->a_ns), diff->ranks, diff->matched, diff->only_a,
            diff->only_b, diff->reordered);
    print_first(diff, f);
    print_split(diff, f);
    print_kinds(diff, f);
    return ferror(f) ? ERR_IO : 0;
}

static json_t *json_us(double ns)
{
    return json_real(round(ns * 10) / 1e4);
}

/* jansson refuses strings that are not UTF-8; a kernel's name may be anything. */
static json_t *json_name(const char *s)
{
    json_t *j = json_string(s);

    return j ? j : json_string("?");
}

static json_t *json_side(const struct trace_log *log, const char *name, double ns, int slowest)
{
    return json_pack("{s:o, s:i, s:o, s:i}", "name", json_name(name), "spans",
                     (int)log->num_records, "end_us", json_us(ns), "slowest_rank", slowest);
}

static json_t *json_first(const struct trace_diff *d)
{
    const struct trace_record *a = d->first_pair.a, *b = d->first_pair.b, *r = a ? a : b;

    if (d->first == DIVERGE_NONE)
        return json_null();
    return json_pack("{s:s, s:i, s:i, s:o, s:o, s:o, s:o}", "what", divergence_name(d->first),
                     "rank", r->rank, "stream", r->stream, "label", json_name(r->label), "by_us",
                     json_us(d->first_ns), "a_start_us", a ? json_us(a->start_ns) : json_null(),
                     "b_start_us", b ? json_us(b->start_ns) : json_null());
}

static json_t *json_kinds(const struct trace_diff *d)
{
    json_t *list = json_array();

    for (size_t i = 0; i < d->num_kinds; i++) {
        const struct trace_diff_kind *k = &d->kinds[i];

        json_array_append_new(
            list, json_pack("{s:o, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "kind",
                            json_name(k->kind), "pairs", k->pairs, "only_a", k->only_a, "only_b",
                            k->only_b, "a_us", json_us(k->a_ns), "b_us", json_us(k->b_ns),
                            "a_wait_us", json_us(k->a_wait_ns), "b_wait_us", json_us(k->b_wait_ns),
                            "path_us", json_us(k->path_ns), "path_only_us", json_us(k->only_ns),
                            "path_order_us", json_us(k->order_ns)));
    }
    return list;
}

int trace_diff_print_json(const struct trace_diff *diff, const char *a_name, const char *b_name,
                          FILE *f)
{
    json_t *causes = json_pack("{s:o, s:o, s:o}", "wait_us", json_us(diff->wait_ns), "gap_us",
                               json_us(diff->gap_ns), "slowest_rank_us", json_us(diff->rank_ns));
    json_t *root = json_pack("{s:o, s:o, s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:o, s:o}", "a",
                             json_side(diff->a, a_name, diff->a_ns, diff->a_slowest), "b",
                             json_side(diff->b, b_name, diff->b_ns, diff->b_slowest), "diff_us",
                             json_us(diff->b_ns - diff->a_ns), "rank", diff->b_rank, "ranks",
                             diff->ranks, "paired", diff->matched, "only_a", diff->only_a, "only_b",
                             diff->only_b, "reordered", diff->reordered, "first_divergence",
                             json_first(diff), "causes", causes, "ops", json_kinds(diff));
    int err = 0;

    if (!root) {
        log_error("out of memory for JSON");
        return ERR_NOMEM;
    }
    if (json_dumpf(root, f, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) || fputc('\n', f) == EOF)
        err = ERR_IO;
    json_decref(root);
    return err;
}

static void csv_times(const struct trace_record *r, FILE *f)
{
    if (r)
        fprintf(f, ",%.4f,%.4f,%.4f", r->start_ns / 1e3, r->end_ns / 1e3, r->wait_ns / 1e3);
    else
        fputs(",,,", f);
}

int trace_diff_write_csv(const struct trace_diff *diff, FILE *f)
{
    fputs("rank,stream,label,kind,a_start_us,a_end_us,a_wait_us,b_start_us,b_end_us,b_wait_us,"
          "diff_us\n",
          f);
    for (size_t i = 0; i < diff->num_pairs; i++) {
        const struct trace_pair *p = &diff->pairs[i];
        const struct trace_record *r = p->a ? p->a : p->b;

        fprintf(f, "%d,%d,", r->rank, r->stream);
        trace_csv_text(r->label, f);
        fputc(',', f);
        trace_csv_text(r->kind, f);
        csv_times(p->a, f);
        csv_times(p->b, f);
        if (p->a && p->b)
            fprintf(f, ",%.4f\n", (trace_record_ns(p->b) - trace_record_ns(p->a)) / 1e3);
        else
            fputs(",\n", f);
    }
    return ferror(f) ? ERR_IO : 0;
}

/* The k-th distinct stream of a rank in order of appearance, or -1. */
static int nth_stream(const struct trace_log *log, int rank, int nth)
{
    int seen[64], num = 0;

    for (size_t i = 0; i < log->num_records && num <= nth; i++) {
        const struct trace_record *r = &log->records[i];
        int k = 0;

        if (r->rank != rank)
            continue;
        while (k < num && seen[k] != r->stream)
            k++;
        if (k == num && num < 64)
            seen[num++] = r->stream;
    }
    return nth < num ? seen[nth] : -1;
}

/* The most boxes of a lane in a picture: more are narrower than its pixels. */
#define LANE_BOXES 3000

static void write_box(const struct trace_record *r, int as_rank, const char *name, FILE *f)
{
    struct trace_record box = *r;

    box.rank = as_rank;
    trace_csv_text(name, f);
    fputc(',', f);
    trace_csv_record(&box, f);
}

/* The width under which neighbours become one box; 0 where a lane has few spans. */
static double lane_pixel_ns(const struct trace_log *log, int rank, int stream)
{
    size_t n = 0;

    for (size_t i = 0; i < log->num_records; i++)
        n += log->records[i].rank == rank && log->records[i].stream == stream;
    return n > LANE_BOXES ? trace_log_rank_end(log, rank) / LANE_BOXES : 0;
}

/* as_rank: the picture shows one rank, whatever the traces call it. Of spans that start within one
 * pixel the longest gives the box its name. */
static void write_lane(const struct trace_log *log, int rank, int stream, int as_rank,
                       const char *name, FILE *f)
{
    double pixel_ns = lane_pixel_ns(log, rank, stream);
    struct trace_record box;
    double longest_ns = 0;
    bool open = false;

    for (size_t i = 0; i < log->num_records; i++) {
        const struct trace_record *r = &log->records[i];

        if (r->rank != rank || r->stream != stream)
            continue;
        if (open && r->start_ns < box.start_ns + pixel_ns) {
            struct trace_record longer = trace_record_ns(r) > longest_ns ? *r : box;

            longest_ns = fmax(longest_ns, trace_record_ns(r));
            longer.start_ns = box.start_ns;
            longer.end_ns = fmax(box.end_ns, r->end_ns);
            box = longer;
            continue;
        }
        if (open)
            write_box(&box, as_rank, name, f);
        box = *r;
        longest_ns = trace_record_ns(r);
        open = true;
    }
    if (open)
        write_box(&box, as_rank, name, f);
}

int trace_diff_write_lanes(const struct trace_diff *diff, const char *a_name, const char *b_name,
                           FILE *f)
{
    fputs("trace,", f);
    trace_csv_header(f);
    for (int k = 0; k < 32; k++) {
        int a = nth_stream(diff->a, diff->a_rank, k), b = nth_stream(diff->b, diff->b_rank, k);

        if (a >= 0)
            write_lane(diff->a, diff->a_rank, a, diff->b_rank, a_name, f);
        if (b >= 0)
            write_lane(diff->b, diff->b_rank, b, diff->b_rank, b_name, f);
    }
    return ferror(f) ? ERR_IO : 0;
}
