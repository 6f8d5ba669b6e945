/* trace/diff.h: compares two traces, A and B, knowing nothing of how either came about.
 *
 * Spans are paired by rank, stream and label; what is left by rank and label; what is left by rank
 * and kind; equal keys in order of start. (Two traces of one rank each are paired whatever the
 * ranks are called.)
 *
 * The total difference is (end of B on its slowest rank) - (end of A on its own). It is split
 * without rest: on one rank, both traces are walked back from the last span, each time through the
 * span that it waited for (the recorded cause where both traces have causes, else the span that
 * ended last before it), so that every moment belongs to a span's work, to its waiting for data, or
 * to a gap between spans. Work counts to its kind of op: of spans on both paths, of spans that only
 * one trace has (another policy has other rounds), and of spans that both have but that only one
 * path goes through (order). Ranks that only one trace has are left out of the pairing. */
#ifndef PEOSIM_TRACE_DIFF_H
#define PEOSIM_TRACE_DIFF_H

#include <stddef.h>
#include <stdio.h>

#include "trace/log.h"

struct trace_pair {
    const struct trace_record *a, *b; /* one may be NULL: only in the other trace */
};

struct trace_diff_kind {
    const char *kind; /* of the logs */
    int pairs, only_a, only_b;
    double a_ns, b_ns;           /* mean time per pair, waiting included */
    double a_wait_ns, b_wait_ns; /* mean wait per pair */
    /* What its work adds to the total difference: spans on both paths, in one trace only, in both
     * traces but on one path only. */
    double path_ns, only_ns, order_ns;
};

static inline double trace_diff_kind_ns(const struct trace_diff_kind *k)
{
    return k->path_ns + k->only_ns + k->order_ns;
}

enum trace_divergence {
    DIVERGE_NONE,
    DIVERGE_START,    /* starts earlier or later, beyond the tolerance */
    DIVERGE_DURATION, /* takes another time */
    DIVERGE_ORDER,    /* another op comes first on its stream */
    DIVERGE_ONLY_A,
    DIVERGE_ONLY_B
};

struct trace_diff {
    const struct trace_log *a, *b; /* borrowed */
    struct trace_pair *pairs;      /* in order of the earlier start */
    size_t num_pairs;
    int matched, only_a, only_b, reordered;
    int ranks;                     /* in both */
    double a_ns, b_ns;             /* ends on the slowest ranks */
    int a_slowest, b_slowest;      /* those ranks */
    int a_rank, b_rank;            /* where the split is made */
    double rank_ns;                /* another rank is the slowest */
    double wait_ns, gap_ns;        /* waiting for data; launch gaps */
    struct trace_diff_kind *kinds; /* by the size of what they add */
    size_t num_kinds;
    enum trace_divergence first;
    struct trace_pair first_pair;
    double first_ns; /* by how much */
};

struct trace_diff_opts {
    double tolerance_ns;   /* what counts as a divergence: more than this ... */
    double tolerance_part; /* ... and than this part of the span (0.02 = 2%) */
};

/* Logs must be sorted (trace_log_read does) and outlive the diff. ERR_DATA (no rank in common, no
 * spans), ERR_NOMEM; logged. trace_diff_free accepts NULL. */
int trace_diff_new(struct trace_diff **out, const struct trace_log *a, const struct trace_log *b,
                   const struct trace_diff_opts *opts);
void trace_diff_free(struct trace_diff *diff);

/* Tables for people, JSON for programs; names: what A and B are called. 0 or ERR_IO (silent). */
int trace_diff_print(const struct trace_diff *diff, const char *a_name, const char *b_name,
                     FILE *f);
int trace_diff_print_json(const struct trace_diff *diff, const char *a_name, const char *b_name,
                          FILE *f);
/* Every pair: rank,stream,label,kind,a_start_us,a_end_us,a_wait_us,b_start_us,b_end_us,b_wait_us,
 * diff_us; empty fields where a trace has no such span. */
int trace_diff_write_csv(const struct trace_diff *diff, FILE *f);
/* What plots/compare.gp reads: spans.csv of the rank compared, with a first column `trace`, lanes
 * in order (first stream of A, first stream of B, second of A, ...). */
int trace_diff_write_lanes(const struct trace_diff *diff, const char *a_name, const char *b_name,
                           FILE *f);

#endif
