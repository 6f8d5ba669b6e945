/* trace/diff_side.h: what the parts of a comparison share: inside trace/diff*.c only. */
#ifndef PEOSIM_TRACE_DIFF_SIDE_H
#define PEOSIM_TRACE_DIFF_SIDE_H

#include <stdbool.h>

#include "trace/diff.h"

/* One trace while it is being paired: its records in the order of the pass's key. */
struct diff_side {
    const struct trace_log *log;
    const struct trace_record **rest; /* not paired yet */
    size_t num_rest;
    long *partner; /* [num_records]: index in the other log, -1 */
    bool any_rank; /* both traces have one rank: its number says nothing */
    bool *common;  /* [log.ranks]: the other trace has this rank too */
    bool *on_path;
    long *before; /* [num_records]: the record before it on its stream, -1 */
};

static inline size_t diff_record_index(const struct diff_side *s, const struct trace_record *r)
{
    return (size_t)(r - s->log->records);
}

static inline int diff_start_cmp(const struct trace_record *a, const struct trace_record *b)
{
    if (a->start_ns != b->start_ns)
        return a->start_ns < b->start_ns ? -1 : 1;
    return (a > b) - (a < b); /* same log: its order */
}

static inline const struct trace_record *diff_partner_of(const struct diff_side *s,
                                                         const struct diff_side *other,
                                                         const struct trace_record *r)
{
    long at = s->partner[diff_record_index(s, r)];

    return at < 0 ? NULL : &other->log->records[at];
}

bool diff_one_rank(const struct trace_log *log);
/* ERR_NOMEM, logged. side_close accepts a zeroed struct. */
int diff_side_open(struct diff_side *s, const struct trace_log *log, const struct trace_log *other,
                   bool any_rank);
void diff_side_close(struct diff_side *s);
/* Fills d->pairs and their counts. ERR_NOMEM, logged. */
int diff_pairs(struct trace_diff *d, struct diff_side *a, struct diff_side *b);
/* The row of d->kinds that a kind is booked in. */
struct trace_diff_kind *diff_kind_at(struct trace_diff *d, const char *kind);
/* Fills what the difference is made of, of d->kinds too. ERR_NOMEM, logged. */
int diff_split(struct trace_diff *d, const struct diff_side *a, const struct diff_side *b);

#endif
