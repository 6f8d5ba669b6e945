/* validate/gpu_measure.c: how long a layer takes.
 *
 * A graph runs the plan several times, so that what it costs to start a graph is spread; replays
 * follow one another without the host in between. Of a plan with a steady period, that of the
 * graph's last pass is measured, by events inside it. Totals come from graphs without stamps. */
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/stats.h"
#include "validate/gpu_marks.h"
#include "validate/gpu_replay.h"
#include "validate/gpu_state.h"

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
static int period_totals(const struct gpu_replay *p, double *sample_us, int n, unsigned *look)
{
    struct gpu_run *r = p->r;
    int err = 0;

    for (int i = -1; !err && i < n; i++) {
        double us = 0;

        err = kernels_comm_barrier(r->s->control, r->stream[0]);
        if (!err)
            err = gpu_replay_start(p);
        if (!err && i == n / 2)
            *look = gpu_state_look(r->s->state);
        if (!err)
            err = gpu_wait(r->s, r->stream[0]);
        if (!err)
            err = gpu_replay_period_us(r, &us);
        if (i >= 0)
            sample_us[i] = us;
    }
    return err ? err : slowest(r->s, sample_us, n);
}

/* sample_us[n]: time of one layer in each of n replays that follow a first one; the slowest rank's.
 */
static int totals(const struct gpu_replay *p, double *sample_us, int n, unsigned *look)
{
    struct gpu_run *r = p->r;
    struct gpu_session *s = r->s;
    cudaEvent_t *event = calloc((size_t)n + 2, sizeof *event);
    int err = event ? 0 : ERR_NOMEM;

    for (int i = 0; !err && i < n + 2; i++)
        err = GPU(cudaEventCreate(&event[i]));
    if (!err)
        err = gpu_replay_start(p); /* brings caches, clocks and code to where they stay */
    if (!err)
        err = kernels_comm_barrier(s->control, r->stream[0]);
    for (int i = 0; !err && i < n + 2; i++) {
        err = GPU(cudaEventRecord(event[i], r->stream[0]));
        if (!err && i < n + 1)
            err = gpu_replay_start(p);
    }
    if (!err)
        *look = gpu_state_look(s->state); /* while the replays run */
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

/* What any rank saw. */
static int looks_join(struct gpu_session *s, unsigned look, unsigned *all_saw)
{
    unsigned all[GPU_MAX_RANKS] = {0};
    int err = gpu_gather(s, &look, all, sizeof look);

    for (int rank = 0; !err && rank < s->ranks; rank++)
        *all_saw |= all[rank];
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
    struct gpu_replay p = {0};
    int err = r->o->check_replays > 0 ? gpu_replay_open(&p, r, false, 1) : 0;

    for (int i = 0; !err && i < r->o->check_replays; i++) {
        err = gpu_replay_poisoned(&p);
        if (!err)
            err = output_same(r, i + 1);
    }
    gpu_replay_close(&p);
    return err;
}

int run_measure(struct gpu_run *r, struct gpu_result *result, struct trace **trace)
{
    int n = r->o->repeats;
    double *sample_us = calloc((size_t)n, sizeof *sample_us);
    struct gpu_replay p = {0};
    unsigned look = 0;
    int err = sample_us ? gpu_replay_open(&p, r, false, r->passes) : ERR_NOMEM;

    if (!err)
        err =
            r->periodic ? period_totals(&p, sample_us, n, &look) : totals(&p, sample_us, n, &look);
    if (!err)
        err = looks_join(r->s, look, &result->disturbed);
    if (!err) {
        result->n = n;
        result->median_us = stats_median(sample_us, (size_t)n);
        result->p95_us = stats_quantile(sample_us, (size_t)n, 0.95);
        result->min_us = stats_quantile(sample_us, (size_t)n, 0);
        err = gpu_spans_measure(r, result, trace);
    }
    if (!err)
        err = output_same(r, n);
    if (!err)
        err = replays_check(r);
    if (!err && *trace && !result->spans_ok) {
        trace_free(*trace);
        *trace = NULL;
    }
    gpu_replay_close(&p);
    free(sample_us);
    return err;
}
