/* validate/gpu_marks.c: what stamps and CUPTI's records say of a pass: when each op began and
 * ended, the times of its kinds, its trace. */
#include "validate/gpu_marks.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/stats.h"

/* When an op could begin by the order of its stream and by its dependencies. */
long long ready_of(const struct gpu_run *r, const struct gpu_mark *m, int op, bool *first)
{
    const struct plan *p = r->plan;
    const struct plan_op *o = &p->ops[op];
    long long ready = m[p->num_ops].end_ns;

    *first = true;
    for (int i = 0; i < op; i++)
        if (p->ops[i].stream == o->stream && m[i].free_ns >= ready) {
            ready = m[i].free_ns;
            *first = false;
        }
    for (int d = o->first_dep; d < o->first_dep + o->num_deps; d++)
        if (p->deps[d].kind == DEP_END && m[p->deps[d].op].end_ns >= ready) {
            ready = m[p->deps[d].op].end_ns;
            *first = false;
        }
    return ready;
}

/* A library kernel without a record: it began one launch gap after what it waited for, and ended
 * one gap before the first that waited for it: before its mark, where the next on its stream is a
 * library kernel too. */
static void library_marks(const struct gpu_run *r, struct gpu_mark *m)
{
    const struct plan *p = r->plan;
    long long gap = (long long)r->s->gap_ns;

    for (int i = 0; i < p->num_ops; i++) {
        bool first;
        long long end = r->op[i].mark ? m[i].start_ns : m[p->num_ops + 1].start_ns;

        if (m[i].source != GPU_SOURCE_INFERRED)
            continue;
        m[i].start_ns = ready_of(r, m, i, &first) + gap;
        for (int next = i + 1; next < p->num_ops; next++)
            if (run_op_follows(p, i, next) && m[next].source != GPU_SOURCE_INFERRED &&
                m[next].start_ns < end)
                end = m[next].start_ns;
        if (!run_op_ends_stamped(&p->ops[i]) || m[i].end_ns < m[i].start_ns) {
            m[i].end_ns = end - gap > m[i].start_ns ? end - gap : m[i].start_ns;
            if (!r->op[i].mark)
                m[i].free_ns = m[i].end_ns;
        }
        m[i].wait_ns = 0;
    }
}

static struct gpu_mark mark_of(const struct gpu_run *r, const struct kernel_stamp *stamp)
{
    long long offset = r->s->clock_offset_ns[r->s->rank];

    return (struct gpu_mark){.start_ns = (long long)stamp->start_ns - offset,
                             .end_ns = (long long)stamp->end_ns - offset,
                             .free_ns = (long long)stamp->end_ns - offset,
                             .wait_ns = (long long)stamp->wait_max_ns,
                             .sms = (int)stamp_sm_count(stamp)};
}

static void mark_record(const struct gpu_run *r, const struct gpu_left *left, size_t at,
                        struct gpu_mark *m)
{
    long long offset = r->s->clock_offset_ns[r->s->rank];

    m->start_ns = left->records[at].start_ns + left->fit.start_ns - offset;
    m->end_ns = left->records[at].end_ns + left->fit.end_ns - offset;
    m->wait_ns = 0;
    if (!r->op[at % (size_t)run_marks(r)].mark)
        m->free_ns = m->end_ns;
    m->source = GPU_SOURCE_CUPTI;
}

void gpu_marks_of_pass(const struct gpu_run *r, const struct gpu_left *left, int l,
                       struct gpu_mark *m)
{
    int n = r->plan->num_ops;
    size_t first = (size_t)l * (size_t)run_marks(r);
    const struct kernel_stamp *stamps = left->stamps + first;
    const struct kernel_stamp *before = stamps - run_marks(r), *after = stamps + run_marks(r) + n;

    for (int i = 0; i < n; i++) {
        const struct plan_op *o = &r->plan->ops[i];

        m[i] = mark_of(r, stamps + i);
        if (run_op_is_library(o) && left->records)
            mark_record(r, left, first + (size_t)i, &m[i]);
        else if (run_op_is_library(o))
            m[i].source = GPU_SOURCE_INFERRED;
        if (run_op_is_library(o) || r->op[i].experts) /* whose stamps are of one CTA */
            m[i].sms = o->sms;
    }
    if (r->marked) {
        m[n] = mark_of(r, stamps + n);
        m[n + 1] = mark_of(r, l + 1 < r->passes ? after : stamps + n + 1);
    } else {
        m[n] = m[n + 1] = (struct gpu_mark){.start_ns = LLONG_MAX};
        for (int i = 0; i < n; i++) {
            struct gpu_mark last = mark_of(r, before + i);

            if (!run_op_is_library(&r->plan->ops[i]) && last.end_ns > m[n].end_ns)
                m[n].end_ns = last.end_ns;
        }
    }
    library_marks(r, m);
}

/* All ranks' marks of one pass: all + rank * stride. */
struct pass_view {
    const struct gpu_run *r;
    const struct gpu_mark *all;
    size_t stride; /* marks per rank */
};

static const struct gpu_mark *view_rank(const struct pass_view *v, int rank)
{
    return v->all + (size_t)rank * v->stride;
}

static void view_ends(const struct pass_view *v, long long *start, long long *end)
{
    int n = v->r->plan->num_ops;

    *start = view_rank(v, 0)[n].end_ns;
    *end = *start;
    for (int rank = 0; rank < v->r->s->ranks; rank++) {
        const struct gpu_mark *m = view_rank(v, rank);

        *start = m[n].end_ns < *start ? m[n].end_ns : *start;
        for (int i = 0; i < n; i++)
            *end = m[i].end_ns > *end ? m[i].end_ns : *end;
    }
}

static int trace_make(const struct pass_view *v, struct trace **out)
{
    const struct gpu_run *r = v->r;
    struct trace_sink sink;
    long long start, end;
    int err = trace_new(out, "gpu", r->s->ranks);

    if (err)
        return err;
    sink = trace_collect(*out);
    view_ends(v, &start, &end);
    for (int rank = 0; rank < r->s->ranks; rank++) {
        const struct gpu_mark *m = view_rank(v, rank);

        for (int i = 0; !err && i < r->plan->num_ops; i++) {
            bool first;
            double wait = (double)m[i].wait_ns, length = (double)(m[i].end_ns - m[i].start_ns);
            struct trace_span span = {.rank = rank,
                                      .stream = r->plan->ops[i].stream,
                                      .op = i,
                                      .ready_ns = (double)(ready_of(r, m, i, &first) - start),
                                      .start_ns = (double)(m[i].start_ns - start),
                                      .end_ns = (double)(m[i].end_ns - start),
                                      .sms = m[i].sms,
                                      .cause = CAUSE_UNKNOWN,
                                      .cause_op = -1,
                                      .data_rank = -1,
                                      .data_op = -1};

            span.wait_ns = wait < length ? wait : length;
            span.part_ns[PART_WAIT] = (float)span.wait_ns;
            span.part_ns[PART_SM] = (float)(length - span.wait_ns);
            err = sink.span(sink.self, &span);
        }
    }
    (*out)->end_ns = (double)(end - start);
    if (!err)
        trace_sort(*out);
    return err;
}

/* kind_us of one pass: the mean over ranks of the time of all ops of a kind. */
static void kinds_of(const struct pass_view *v, double *busy_us, double *wait_us)
{
    const struct plan *p = v->r->plan;

    for (int k = 0; k < OP_KIND_COUNT; k++)
        busy_us[k] = wait_us[k] = 0;
    for (int rank = 0; rank < v->r->s->ranks; rank++) {
        const struct gpu_mark *m = view_rank(v, rank);

        for (int i = 0; i < p->num_ops; i++) {
            double length = (double)(m[i].end_ns - m[i].start_ns) * 1e-3;
            double wait = fmin((double)m[i].wait_ns * 1e-3, length);

            if (plan_op_sends(p->ops[i].kind) && plan_op_recvs(p->ops[i].kind))
                wait = 0;
            busy_us[p->ops[i].kind] += (length - wait) / v->r->s->ranks;
            wait_us[p->ops[i].kind] += wait / v->r->s->ranks;
        }
    }
}

/* marks: of any pass, for where its times come from. */
static void kinds_summarise(const struct gpu_run *r, const struct gpu_mark *marks,
                            const double *busy, const double *wait, int n,
                            struct gpu_result *result)
{
    double column[2][1024];

    for (int k = 0; k < OP_KIND_COUNT; k++) {
        bool any = false;

        for (int i = 0; i < r->plan->num_ops; i++) {
            if ((int)r->plan->ops[i].kind != k)
                continue;
            any = true;
            if (marks[i].source > result->kind_source[k])
                result->kind_source[k] = marks[i].source;
        }
        for (int i = 0; i < n; i++) {
            column[0][i] = busy[i * OP_KIND_COUNT + k];
            column[1][i] = wait[i * OP_KIND_COUNT + k];
        }
        result->kind_us[k] = any ? stats_median(column[0], (size_t)n) : -1;
        result->kind_wait_us[k] = any ? stats_median(column[1], (size_t)n) : -1;
    }
}

int gpu_marks_evaluate(const struct gpu_run *r, const struct gpu_mark *all,
                       struct gpu_result *result, struct trace **trace)
{
    int passes = r->passes, n = 0, pick = 0, count = GPU_TRACED_REPLAYS * (passes - 1);
    size_t per_pass = (size_t)run_marks(r), stride = per_pass * (size_t)passes * GPU_TRACED_REPLAYS;
    struct pass_view *view = calloc((size_t)count, sizeof *view);
    double *length = calloc((size_t)count, sizeof *length), middle;
    double *busy = calloc((size_t)count * 2 * OP_KIND_COUNT, sizeof *busy);
    double *wait = busy ? busy + (size_t)count * OP_KIND_COUNT : NULL;
    int err = view && length && busy ? 0 : ERR_NOMEM;

    for (int k = 0; !err && k < GPU_TRACED_REPLAYS; k++)
        for (int l = 1; l < passes; l++, n++) {
            long long start, end;

            view[n] = (struct pass_view){
                r, all + ((size_t)k * (size_t)passes + (size_t)l) * per_pass, stride};
            view_ends(&view[n], &start, &end);
            length[n] = (double)(end - start);
            kinds_of(&view[n], busy + n * OP_KIND_COUNT, wait + n * OP_KIND_COUNT);
        }
    if (!err) {
        middle = stats_median(length, (size_t)n);
        for (int i = 1; i < n; i++)
            if (fabs(length[i] - middle) < fabs(length[pick] - middle))
                pick = i;
        kinds_summarise(r, view_rank(&view[0], 0), busy, wait, n, result);
        err = trace_make(&view[pick], trace);
    }
    free(view);
    free(length);
    free(busy);
    return err;
}
