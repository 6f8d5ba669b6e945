/* validate/gpu_measure.c: how long a layer takes, and where its ops stood in it.
 *
 * A graph runs the plan several times, so that what it costs to start a graph is spread; replays
 * follow one another without the host in between. Of a plan with a steady period, that of the
 * graph's last pass is measured, by events inside it. Totals come from graphs without stamps. The
 * same graph with stamps gives the spans, and is refused where the stamps moved its total.
 * Where CUPTI is installed, a third one has stamps and is recorded, for the kernels of libraries:
 * its records are refused in the same way, and CUPTI is attached for these replays only. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/stats.h"
#include "kernels/delay.h"
#include "validate/gpu_backend.h"

#define TRACED_REPLAYS   7
#define TRACE_MOVES_MOST 0.05
#define HEAD_START_NS    500000 /* of the host, in traced replays */

struct replay {
    struct gpu_run *r;
    bool stamped;
    int passes;
    cudaGraphExec_t exec; /* NULL: eager */
};

static int passes_enqueue(const struct replay *p)
{
    struct gpu_run *r = p->r;
    int err = 0;

    for (int i = 0; !err && i < p->passes; i++)
        err = run_pass(r, p->stamped ? r->stamps + (size_t)i * (size_t)run_marks(r) : NULL,
                       i + 1 == p->passes);
    return err;
}

static int replay_open(struct replay *p, struct gpu_run *r, bool stamped, int passes)
{
    cudaGraph_t graph = NULL;
    int err, ended;

    *p = (struct replay){.r = r, .stamped = stamped, .passes = passes};
    if (r->o->eager)
        return 0;
    err = GPU(cudaStreamBeginCapture(r->stream[0], cudaStreamCaptureModeThreadLocal));
    if (err)
        return err;
    err = passes_enqueue(p);
    ended = GPU(cudaStreamEndCapture(r->stream[0], &graph));
    err = err ? err : ended;
    if (!err)
        err = GPU(cudaGraphInstantiate(&p->exec, graph, 0));
    if (!err)
        err = GPU(cudaGraphUpload(p->exec, r->stream[0]));
    if (graph)
        cudaGraphDestroy(graph);
    return err;
}

static void replay_close(struct replay *p)
{
    if (p->exec)
        cudaGraphExecDestroy(p->exec);
    p->exec = NULL;
}

static int replay_start(const struct replay *p)
{
    return p->exec ? GPU(cudaGraphLaunch(p->exec, p->r->stream[0])) : passes_enqueue(p);
}

/* Other policies have left the same values in the same buffers, and other ranks in this one's
 * window: without them a wait that is missing shows as NaN, or as a token that nobody wrote. No
 * rank may poison while another still runs, nor send before all have poisoned. */
static int memory_poison(struct gpu_run *r)
{
    struct gpu_session *s = r->s;
    int err = kernels_comm_barrier(s->control, r->stream[0]);

    if (!err)
        err = gpu_layer_poison(s, r->a2a == NULL, r->stream[0]);
    if (!err && r->a2a)
        err = gpu_a2a_poison(r->a2a, s, r->stream[0]);
    return err ? err : kernels_comm_barrier(s->control, r->stream[0]);
}

static int replay_poisoned(const struct replay *p)
{
    int err = memory_poison(p->r);

    if (!err)
        err = replay_start(p);
    return err ? err : gpu_wait(p->r->s, p->r->stream[0]);
}

int run_poisoned(struct gpu_run *r)
{
    struct replay p = {0};
    int err = replay_open(&p, r, false, 1);

    if (!err)
        err = replay_poisoned(&p);
    replay_close(&p);
    return err;
}

/* Time of one layer in the last pass's steady period, on this rank: from the last of the streams to
 * leave the layer before it to the last to leave it. */
static int period_us(const struct gpu_run *r, double *us)
{
    const struct gpu_bound *b = r->bound;
    int err = 0;

    *us = 0;
    for (int to = 0; !err && to < r->plan->num_streams; to++) {
        double shortest_ms = INFINITY;

        for (int from = 0; !err && b[1].event[to] && from < r->plan->num_streams; from++) {
            float ms = 0;

            if (!b[0].event[from])
                continue;
            err = GPU(cudaEventElapsedTime(&ms, b[0].event[from], b[1].event[to]));
            shortest_ms = fmin(shortest_ms, (double)ms);
        }
        if (b[1].event[to])
            *us = fmax(*us, shortest_ms * 1e3 / (b[1].layer - b[0].layer));
    }
    return err;
}

/* The slowest rank's of each sample. */
static int slowest(struct gpu_session *s, double *sample_us, int n)
{
    double *all = calloc((size_t)n * (size_t)s->ranks, sizeof *all);
    int err = all ? gpu_gather(s, sample_us, all, (size_t)n * sizeof *all) : ERR_NOMEM;

    for (int i = 0; !err && i < n; i++)
        for (int rank = 0; rank < s->ranks; rank++)
            sample_us[i] = fmax(sample_us[i], all[(size_t)rank * (size_t)n + (size_t)i]);
    free(all);
    return err;
}

/* As totals(), from the events inside the graph: the host reads them after each replay, and the
 * ranks start the next together. The pipeline fills in the passes before the last one. */
static int period_totals(const struct replay *p, double *sample_us, int n)
{
    struct gpu_run *r = p->r;
    int err = 0;

    for (int i = -1; !err && i < n; i++) {
        double us = 0;

        err = kernels_comm_barrier(r->s->control, r->stream[0]);
        if (!err)
            err = replay_start(p);
        if (!err)
            err = gpu_wait(r->s, r->stream[0]);
        if (!err)
            err = period_us(r, &us);
        if (i >= 0)
            sample_us[i] = us;
    }
    return err ? err : slowest(r->s, sample_us, n);
}

/* sample_us[n]: time of one layer in each of n replays that follow a first one; the slowest rank's.
 */
static int totals(const struct replay *p, double *sample_us, int n)
{
    struct gpu_run *r = p->r;
    struct gpu_session *s = r->s;
    cudaEvent_t *event = calloc((size_t)n + 2, sizeof *event);
    int err = event ? 0 : ERR_NOMEM;

    for (int i = 0; !err && i < n + 2; i++)
        err = GPU(cudaEventCreate(&event[i]));
    if (!err)
        err = replay_start(p); /* brings caches, clocks and code to where they stay */
    if (!err)
        err = kernels_comm_barrier(s->control, r->stream[0]);
    for (int i = 0; !err && i < n + 2; i++) {
        err = GPU(cudaEventRecord(event[i], r->stream[0]));
        if (!err && i < n + 1)
            err = replay_start(p);
    }
    for (int i = 0; !err && i < n + 2; i++)
        err = gpu_wait_event(s, event[i]);
    if (!err)
        err = gpu_wait(s, r->stream[0]);
    for (int i = 0; !err && i < n; i++) {
        float ms;

        err = GPU(cudaEventElapsedTime(&ms, event[i + 1], event[i + 2]));
        sample_us[i] = err ? 0 : (double)ms * 1e3 / (r->passes * r->plan->num_layers);
    }
    if (!err)
        err = slowest(s, sample_us, n);
    for (int i = 0; event && i < n + 2; i++)
        if (event[i])
            cudaEventDestroy(event[i]);
    free(event);
    return err;
}

/* When an op could begin by the order of its stream and by its dependencies. */
static long long ready_of(const struct gpu_run *r, const struct gpu_mark *m, int op, bool *first)
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

/* What one replay left; records: CUPTI's, or NULL. All [passes][run_marks]. */
struct left {
    struct kernel_stamp *stamps;
    struct gpu_record *records;
    bool *own; /* a stamp that is an op's own; with records */
    struct gpu_cupti_fit fit;
};

static void mark_record(const struct gpu_run *r, const struct left *left, size_t at,
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

/* Pass l >= 1 of a graph. It begins where the mark before it ends, or where the last op of the pass
 * before it ended. */
static void marks_of_pass(const struct gpu_run *r, const struct left *left, int l,
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

/* The stamped graph, replayed a few times: with CUPTI's records, or without. */
struct tracing {
    struct gpu_cupti *cupti; /* NULL: without */
    struct gpu_mark *mine;   /* [TRACED_REPLAYS][passes][run_marks] */
    struct gpu_mark *all;    /* of every rank */
    double us[TRACED_REPLAYS];
    struct gpu_cupti_fit fit[TRACED_REPLAYS];
    bool complete; /* every library kernel has its record */
};

static size_t tracing_marks(const struct gpu_run *r)
{
    return (size_t)run_marks(r) * (size_t)r->passes * TRACED_REPLAYS;
}

/* One replay between two events. The host gets ahead of the GPU first, so that what it takes to
 * start a graph is not in the time; eager launches are measured as they come. */
static int replay_time(const struct replay *p, const struct kernel_stamp *reset,
                       struct kernel_stamp *got, size_t bytes, cudaEvent_t event[2])
{
    struct gpu_run *r = p->r;
    cudaStream_t stream = r->stream[0];
    struct delay_args head_start = {.ctas = 1, .min_ns = HEAD_START_NS};
    int err = GPU(cudaMemcpyAsync(r->stamps, reset, bytes, cudaMemcpyHostToDevice, stream));

    if (!err && p->exec)
        err = kernels_delay_launch(&head_start, stream);
    if (!err)
        err = kernels_comm_barrier(r->s->control, stream);
    if (!err)
        err = GPU(cudaEventRecord(event[0], stream));
    if (!err)
        err = replay_start(p);
    if (!err)
        err = GPU(cudaEventRecord(event[1], stream));
    if (!err)
        err = GPU(cudaMemcpyAsync(got, r->stamps, bytes, cudaMemcpyDeviceToHost, stream));
    return err ? err : gpu_wait(r->s, stream);
}

/* The records of a replay, and how their clock stands to the stamps'. A record that is missing
 * spoils the tracing but not the run: other ranks go on replaying with this one. */
static int records_take(const struct gpu_run *r, struct tracing *t, struct left *left,
                        struct gpu_cupti_fit *fit)
{
    int n = run_marks(r), num = r->passes * n;
    int err = gpu_cupti_collect(t->cupti, left->records, num);

    if (!err)
        err = gpu_cupti_fit(left->records, left->stamps, left->own, num, &left->fit);
    for (int i = 0; !err && i < num; i++)
        if (i % n < r->plan->num_ops && !left->own[i] && !left->records[i].kernels)
            err = ERR_DATA;
    t->complete &= !err;
    *fit = left->fit;
    return err == ERR_DATA ? 0 : err;
}

static int tracing_replays(const struct replay *p, struct tracing *t,
                           const struct kernel_stamp *reset, struct left *left,
                           cudaEvent_t event[2])
{
    struct gpu_run *r = p->r;
    size_t per_pass = (size_t)run_marks(r), n = per_pass * (size_t)r->passes;
    int err = 0;

    t->complete = true;
    for (int k = -1; !err && k < TRACED_REPLAYS; k++) {
        int into = k < 0 ? 0 : k; /* the first replay warms up */
        float ms = 0;

        err = replay_time(p, reset, left->stamps, n * sizeof *reset, event);
        if (!err)
            err = GPU(cudaEventElapsedTime(&ms, event[0], event[1]));
        if (!err && left->records)
            err = records_take(r, t, left, &t->fit[into]);
        t->us[into] = (double)ms * 1e3 / (r->passes * r->plan->num_layers);
        if (!err && r->periodic)
            err = period_us(r, &t->us[into]);
        for (int l = 1; !err && l < r->passes; l++)
            marks_of_pass(r, left, l, t->mine + (size_t)into * n + (size_t)l * per_pass);
    }
    return err;
}

static int records_open(const struct gpu_run *r, struct left *left)
{
    int n = run_marks(r), num = r->passes * n;

    left->records = calloc((size_t)num, sizeof *left->records);
    left->own = calloc((size_t)num, sizeof *left->own);
    if (!left->records || !left->own)
        return ERR_NOMEM;
    for (int i = 0; i < num; i++)
        left->own[i] = i % n < r->plan->num_ops && !run_op_is_library(&r->plan->ops[i % n]);
    return 0;
}

static int tracing_collect(const struct replay *p, struct tracing *t)
{
    size_t n = (size_t)run_marks(p->r) * (size_t)p->r->passes;
    struct kernel_stamp *reset = NULL;
    struct left left = {0};
    cudaEvent_t event[2] = {NULL, NULL};
    int err = t->cupti ? records_open(p->r, &left) : 0;

    if (!err)
        err = GPU(cudaMallocHost((void **)&reset, n * sizeof *reset));
    if (!err)
        err = GPU(cudaMallocHost((void **)&left.stamps, n * sizeof *left.stamps));
    for (size_t i = 0; !err && i < n; i++)
        stamp_reset(&reset[i]);
    for (int i = 0; !err && i < 2; i++)
        err = GPU(cudaEventCreate(&event[i]));
    if (!err)
        err = tracing_replays(p, t, reset, &left, event);
    for (int i = 0; i < 2; i++)
        if (event[i])
            cudaEventDestroy(event[i]);
    cudaFreeHost(reset);
    cudaFreeHost(left.stamps);
    free(left.records);
    free(left.own);
    return err;
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

/* From all ranks' marks: medians per kind, and the trace of the pass whose length is the median.
 * The first pass of a graph is left out: it carries the ranks' skew. */
static int marks_evaluate(const struct gpu_run *r, const struct gpu_mark *all,
                          struct gpu_result *result, struct trace **trace)
{
    int passes = r->passes, n = 0, pick = 0, count = TRACED_REPLAYS * (passes - 1);
    size_t per_pass = (size_t)run_marks(r), stride = per_pass * (size_t)passes * TRACED_REPLAYS;
    struct pass_view *view = calloc((size_t)count, sizeof *view);
    double *length = calloc((size_t)count, sizeof *length), middle;
    double *busy = calloc((size_t)count * 2 * OP_KIND_COUNT, sizeof *busy);
    double *wait = busy ? busy + (size_t)count * OP_KIND_COUNT : NULL;
    int err = view && length && busy ? 0 : ERR_NOMEM;

    for (int k = 0; !err && k < TRACED_REPLAYS; k++)
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

static void tracing_free(struct tracing *t)
{
    free(t->mine);
    free(t->all);
}

/* Collective: the marks of all ranks, and the slowest rank's time of each replay. */
static int tracing_measure(struct gpu_run *r, struct tracing *t)
{
    struct gpu_session *s = r->s;
    size_t n = tracing_marks(r);
    double every[GPU_MAX_RANKS * TRACED_REPLAYS];
    struct replay p = {0};
    int err;

    t->mine = calloc(n, sizeof *t->mine);
    t->all = calloc(n * (size_t)s->ranks, sizeof *t->all);
    err = t->mine && t->all ? replay_open(&p, r, true, r->passes) : ERR_NOMEM;
    if (!err)
        err = tracing_collect(&p, t);
    replay_close(&p);
    if (!err)
        err = gpu_gather(s, t->mine, t->all, n * sizeof *t->mine);
    if (!err)
        err = gpu_gather(s, t->us, every, sizeof t->us);
    for (int i = 0; !err && i < s->ranks * TRACED_REPLAYS; i++)
        t->us[i % TRACED_REPLAYS] = fmax(t->us[i % TRACED_REPLAYS], every[i]);
    return err;
}

/* Collective: CUPTI records on every rank, or (cupti_off) on none. Where it cannot, that is said
 * once. */
static void cupti_start(struct gpu_session *s)
{
    const char *why = NULL;
    int err = 0;

    if (!s->cupti)
        err = gpu_cupti_open(&s->cupti, &why);
    if (!err)
        err = gpu_drain(s, "CUPTI records");
    if (!err)
        err = gpu_cupti_start(s->cupti);
    if (why)
        log_note("rank %d: no CUPTI (%s): times of library kernels are inferred from their "
                 "neighbours'",
                 s->rank, why);
    s->cupti_off = gpu_agree(s, err) != 0;
    if (s->cupti_off)
        gpu_cupti_stop(s->cupti);
}

/* Clocks and lengths, and whether all ranks have all records. */
static int cupti_judge(struct gpu_run *r, const struct tracing *t, struct gpu_cupti_result *c)
{
    struct {
        double spread_ns;
        int complete, pad;
    } mine = {.complete = t->complete}, all[GPU_MAX_RANKS];
    double longer_ns[TRACED_REPLAYS];
    int err;

    for (int k = 0; k < TRACED_REPLAYS; k++) {
        const struct gpu_cupti_fit *fit = &t->fit[k];

        mine.spread_ns = fmax(mine.spread_ns, fit->spread_ns);
        longer_ns[k] = fit->longer_ns;
        c->kernels += fit->n;
        if (fabs(fit->longer_most_ns) > fabs(c->longer_most_us) * 1e3)
            c->longer_most_us = fit->longer_most_ns * 1e-3;
    }
    err = gpu_gather(r->s, &mine, all, sizeof mine);
    c->version = gpu_cupti_version(r->s->cupti);
    c->total_us = stats_median(t->us, TRACED_REPLAYS);
    c->longer_us = stats_median(longer_ns, TRACED_REPLAYS) * 1e-3;
    c->ok = true;
    for (int i = 0; !err && i < r->s->ranks; i++) {
        c->ok &= all[i].complete;
        c->spread_us = fmax(c->spread_us, all[i].spread_ns * 1e-3);
    }
    return err;
}

/* Library kernels from their records, and the trace of recorded replays, where every op's place is
 * measured. Kinds that leave stamps keep the times of the tracing without CUPTI, which is nearer to
 * untraced replays. */
static int cupti_evaluate(struct gpu_run *r, const struct tracing *t, struct gpu_result *result,
                          struct trace **trace)
{
    struct gpu_result recorded = {0};
    struct trace *with = NULL;
    int err = marks_evaluate(r, t->all, &recorded, &with);

    if (err) {
        trace_free(with);
        return err;
    }
    trace_free(*trace);
    *trace = with;
    for (int k = 0; k < OP_KIND_COUNT; k++)
        if (recorded.kind_source[k] == GPU_SOURCE_CUPTI) {
            result->kind_us[k] = recorded.kind_us[k];
            result->kind_wait_us[k] = recorded.kind_wait_us[k];
            result->kind_source[k] = GPU_SOURCE_CUPTI;
        }
    return 0;
}

static int cupti_measure(struct gpu_run *r, struct gpu_result *result, struct trace **trace)
{
    struct tracing t = {0};
    struct gpu_cupti_result *c = &result->cupti;
    int err = gpu_clocks(r->s);

    if (!err)
        cupti_start(r->s);
    if (err || r->s->cupti_off)
        return err;
    t.cupti = r->s->cupti;
    err = tracing_measure(r, &t);
    gpu_cupti_stop(r->s->cupti);
    if (!err)
        err = cupti_judge(r, &t, c);
    c->ok &= fabs(c->total_us / result->median_us - 1) <= TRACE_MOVES_MOST;
    if (!err && c->ok && r->s->rank == 0)
        err = cupti_evaluate(r, &t, result, trace);
    tracing_free(&t);
    return err;
}

static int spans_measure(struct gpu_run *r, struct gpu_result *result, struct trace **trace)
{
    struct gpu_session *s = r->s;
    struct tracing t = {0};
    int err = gpu_clocks(s);

    if (!err)
        err = tracing_measure(r, &t);
    for (int i = 0; i < s->ranks; i++)
        result->clock_residual_us =
            fmax(result->clock_residual_us, (double)s->clock_trip_ns[i] * 0.5e-3);
    if (!err) {
        result->traced_us = stats_median(t.us, TRACED_REPLAYS);
        result->spans_ok = fabs(result->traced_us / result->median_us - 1) <= TRACE_MOVES_MOST;
    }
    if (!err && s->rank == 0)
        err = marks_evaluate(r, t.all, result, trace);
    tracing_free(&t);
    if (!err && result->spans_ok && r->o->cupti && !s->cupti_off)
        err = cupti_measure(r, result, trace);
    return err;
}

/* The output of a replay has the bits of the one that was compared with the reference. */
static int output_same(struct gpu_run *r, int replay)
{
    double worst;
    uint64_t hash;
    int checked, err = gpu_output_check(r->s, r->plan->num_layers, r->o->check_tokens, &worst,
                                        &checked, &hash);

    if (!err && hash != r->hash) {
        log_error("rank %d, %s: the output after %d replays differs from the first", r->s->rank,
                  r->plan->policy, replay);
        err = ERR_DATA;
    }
    return err;
}

/* Replays whose every output is looked at, each on poisoned memory: or what the one before left
 * would hide that something was read too early. */
static int replays_check(struct gpu_run *r)
{
    struct replay p = {0};
    int err = r->o->check_replays > 0 ? replay_open(&p, r, false, 1) : 0;

    for (int i = 0; !err && i < r->o->check_replays; i++) {
        err = replay_poisoned(&p);
        if (!err)
            err = output_same(r, i + 1);
    }
    replay_close(&p);
    return err;
}

int run_measure(struct gpu_run *r, struct gpu_result *result, struct trace **trace)
{
    int n = r->o->repeats;
    double *sample_us = calloc((size_t)n, sizeof *sample_us);
    struct replay p = {0};
    int err = sample_us ? replay_open(&p, r, false, r->passes) : ERR_NOMEM;

    if (!err)
        err = r->periodic ? period_totals(&p, sample_us, n) : totals(&p, sample_us, n);
    if (!err) {
        result->n = n;
        result->median_us = stats_median(sample_us, (size_t)n);
        result->p95_us = stats_quantile(sample_us, (size_t)n, 0.95);
        result->min_us = stats_quantile(sample_us, (size_t)n, 0);
        err = spans_measure(r, result, trace);
    }
    if (!err)
        err = output_same(r, n);
    if (!err)
        err = replays_check(r);
    if (!err && *trace && !result->spans_ok) {
        trace_free(*trace);
        *trace = NULL;
    }
    replay_close(&p);
    free(sample_us);
    return err;
}
