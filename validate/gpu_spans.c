/* validate/gpu_spans.c: where the ops of a layer stood in it. The graph with stamps gives the
 * spans, and is refused where the stamps moved its total. Where CUPTI is installed, it is replayed
 * once more and recorded, for the kernels of libraries: its records are refused in the same way,
 * and CUPTI is attached for these replays only. */
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/stats.h"
#include "kernels/delay.h"
#include "validate/gpu_marks.h"
#include "validate/gpu_replay.h"

#define TRACE_MOVES_MOST 0.05
#define HEAD_START_NS    500000 /* of the host, in traced replays */

/* The stamped graph, replayed a few times: with CUPTI's records, or without. */
struct tracing {
    struct gpu_cupti *cupti; /* NULL: without */
    struct gpu_mark *mine;   /* [GPU_TRACED_REPLAYS][passes][run_marks] */
    struct gpu_mark *all;    /* of every rank */
    double us[GPU_TRACED_REPLAYS];
    struct gpu_cupti_fit fit[GPU_TRACED_REPLAYS];
    bool complete; /* every library kernel has its record */
};

static size_t tracing_marks(const struct gpu_run *r)
{
    return (size_t)run_marks(r) * (size_t)r->passes * GPU_TRACED_REPLAYS;
}

/* One replay between two events. The host gets ahead of the GPU first, so that what it takes to
 * start a graph is not in the time; eager launches are measured as they come. */
static int replay_time(const struct gpu_replay *p, const struct kernel_stamp *reset,
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
        err = gpu_replay_start(p);
    if (!err)
        err = GPU(cudaEventRecord(event[1], stream));
    if (!err)
        err = GPU(cudaMemcpyAsync(got, r->stamps, bytes, cudaMemcpyDeviceToHost, stream));
    return err ? err : gpu_wait(r->s, stream);
}

/* The records of a replay, and how their clock stands to the stamps'. A record that is missing
 * spoils the tracing but not the run: other ranks go on replaying with this one. */
static int records_take(const struct gpu_run *r, struct tracing *t, struct gpu_left *left,
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

static int tracing_replays(const struct gpu_replay *p, struct tracing *t,
                           const struct kernel_stamp *reset, struct gpu_left *left,
                           cudaEvent_t event[2])
{
    struct gpu_run *r = p->r;
    size_t per_pass = (size_t)run_marks(r), n = per_pass * (size_t)r->passes;
    int err = 0;

    t->complete = true;
    for (int k = -1; !err && k < GPU_TRACED_REPLAYS; k++) {
        int into = k < 0 ? 0 : k; /* the first replay warms up */
        float ms = 0;

        err = replay_time(p, reset, left->stamps, n * sizeof *reset, event);
        if (!err)
            err = GPU(cudaEventElapsedTime(&ms, event[0], event[1]));
        if (!err && left->records)
            err = records_take(r, t, left, &t->fit[into]);
        t->us[into] = (double)ms * 1e3 / (r->passes * r->plan->num_layers);
        if (!err && r->periodic)
            err = gpu_replay_period_us(r, &t->us[into]);
        for (int l = 1; !err && l < r->passes; l++)
            gpu_marks_of_pass(r, left, l, t->mine + (size_t)into * n + (size_t)l * per_pass);
    }
    return err;
}

static int records_open(const struct gpu_run *r, struct gpu_left *left)
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

static int tracing_collect(const struct gpu_replay *p, struct tracing *t)
{
    size_t n = (size_t)run_marks(p->r) * (size_t)p->r->passes;
    struct kernel_stamp *reset = NULL;
    struct gpu_left left = {0};
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
    double every[GPU_MAX_RANKS * GPU_TRACED_REPLAYS];
    struct gpu_replay p = {0};
    int err;

    t->mine = calloc(n, sizeof *t->mine);
    t->all = calloc(n * (size_t)s->ranks, sizeof *t->all);
    err = t->mine && t->all ? gpu_replay_open(&p, r, true, r->passes) : ERR_NOMEM;
    if (!err)
        err = tracing_collect(&p, t);
    gpu_replay_close(&p);
    if (!err)
        err = gpu_gather(s, t->mine, t->all, n * sizeof *t->mine);
    if (!err)
        err = gpu_gather(s, t->us, every, sizeof t->us);
    for (int i = 0; !err && i < s->ranks * GPU_TRACED_REPLAYS; i++)
        t->us[i % GPU_TRACED_REPLAYS] = fmax(t->us[i % GPU_TRACED_REPLAYS], every[i]);
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
    double longer_ns[GPU_TRACED_REPLAYS];
    int err;

    for (int k = 0; k < GPU_TRACED_REPLAYS; k++) {
        const struct gpu_cupti_fit *fit = &t->fit[k];

        mine.spread_ns = fmax(mine.spread_ns, fit->spread_ns);
        longer_ns[k] = fit->longer_ns;
        c->kernels += fit->n;
        if (fabs(fit->longer_most_ns) > fabs(c->longer_most_us) * 1e3)
            c->longer_most_us = fit->longer_most_ns * 1e-3;
    }
    err = gpu_gather(r->s, &mine, all, sizeof mine);
    c->version = gpu_cupti_version(r->s->cupti);
    c->total_us = stats_median(t->us, GPU_TRACED_REPLAYS);
    c->longer_us = stats_median(longer_ns, GPU_TRACED_REPLAYS) * 1e-3;
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
    int err = gpu_marks_evaluate(r, t->all, &recorded, &with);

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

int gpu_spans_measure(struct gpu_run *r, struct gpu_result *result, struct trace **trace)
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
        result->traced_us = stats_median(t.us, GPU_TRACED_REPLAYS);
        result->spans_ok = fabs(result->traced_us / result->median_us - 1) <= TRACE_MOVES_MOST;
    }
    if (!err && s->rank == 0)
        err = gpu_marks_evaluate(r, t.all, result, trace);
    tracing_free(&t);
    if (!err && result->spans_ok && r->o->cupti && !s->cupti_off)
        err = cupti_measure(r, result, trace);
    return err;
}
