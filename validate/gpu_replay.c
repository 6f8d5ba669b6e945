/* validate/gpu_replay.c: a plan as a graph that runs it several times in a row, or eagerly. */
#include "validate/gpu_replay.h"

#include <math.h>

#include "base/err.h"

static int passes_enqueue(const struct gpu_replay *p)
{
    struct gpu_run *r = p->r;
    int err = 0;

    for (int i = 0; !err && i < p->passes; i++)
        err = run_pass(r, p->stamped ? r->stamps + (size_t)i * (size_t)run_marks(r) : NULL,
                       i + 1 == p->passes);
    return err;
}

int gpu_replay_open(struct gpu_replay *p, struct gpu_run *r, bool stamped, int passes)
{
    cudaGraph_t graph = NULL;
    int err, ended;

    *p = (struct gpu_replay){.r = r, .stamped = stamped, .passes = passes};
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

void gpu_replay_close(struct gpu_replay *p)
{
    if (p->exec)
        cudaGraphExecDestroy(p->exec);
    p->exec = NULL;
}

int gpu_replay_start(const struct gpu_replay *p)
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

int gpu_replay_poisoned(const struct gpu_replay *p)
{
    int err = memory_poison(p->r);

    if (!err)
        err = gpu_replay_start(p);
    return err ? err : gpu_wait(p->r->s, p->r->stream[0]);
}

int run_poisoned(struct gpu_run *r)
{
    struct gpu_replay p = {0};
    int err = gpu_replay_open(&p, r, false, 1);

    if (!err)
        err = gpu_replay_poisoned(&p);
    gpu_replay_close(&p);
    return err;
}

int gpu_replay_period_us(const struct gpu_run *r, double *us)
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
