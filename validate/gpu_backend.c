#include "validate/gpu_backend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "kernels/delay.h"

#define TOLERANCE_FP8  2e-2
#define TOLERANCE_BF16 5e-3

static const struct plan_op *first_dispatch(const struct plan *plan)
{
    for (int i = 0; i < plan->num_flows; i++)
        if (plan->flows[i].dir == FLOW_DISPATCH)
            return &plan->ops[plan->flows[i].send_op];
    return NULL;
}

/* What the plan says about the layer as a whole; ERR_UNSUPPORTED where it is none that the kernels
 * know. */
static int shape_of(struct gpu_run *r, struct gpu_shape *shape)
{
    const struct plan *p = r->plan;
    const struct plan_op *dispatch = first_dispatch(p), *act = plan_op_of_kind(p, OP_ACT_QUANT);
    const struct plan_op *up = plan_op_of_kind(p, OP_GEMM_UP);
    const char *why = NULL;

    if (!dispatch || !act || !up)
        why = "it has no experts";
    else if (dispatch->comm == COMM_NCCL_RANK)
        why = "all-to-alls of one copy per rank (comm: nccl_rank) are simulated only; comm normal "
              "runs them";
    else if (p->ranks % r->s->ranks)
        why = "its ranks are not a multiple of the GPUs";
    else if ((dispatch->dtype == DTYPE_FP8) != (up->dtype == DTYPE_FP8))
        why = "dispatch and GEMMs must have one data type (both fp8 or both bf16)";
    else if (p->num_sms != r->s->sm_count)
        why = "its SM count is not this GPU's";
    else if (p->num_streams > GPU_MAX_STREAMS)
        why = "it has too many streams";
    else if (p->num_batches > GPU_MAX_BATCHES)
        why = "it has too many batches";
    if (why) {
        if (r->s->rank == 0)
            log_warn("%s: this plan cannot run on the GPUs here: %s", p->policy, why);
        return ERR_UNSUPPORTED;
    }
    r->hidden = dispatch->n;
    r->inter = act->n;
    r->topk = p->batches[0].routing->topk;
    *shape = (struct gpu_shape){.vranks = p->ranks,
                                .experts = p->experts,
                                .hidden = r->hidden,
                                .inter = r->inter,
                                .topk = r->topk,
                                .max_tokens = r->o->max_tokens,
                                .fp8 = dispatch->dtype == DTYPE_FP8,
                                .dedup = dispatch->comm == COMM_DEDUP};
    return 0;
}

/* Exchanges of one buffer set follow one another on every GPU (kernels/comm.h says why that is
 * enough whatever the ranks' speed), and each kernel of the next layer overwrites packed tensors of
 * the last only behind it. */
static int buffers_check(const struct gpu_run *r)
{
    char label[64];
    int op, err = plan_buffer_clash(r->plan, &op);

    if (err || op < 0)
        return err;
    plan_op_label(r->plan, op, label, sizeof label);
    if (r->s->rank == 0)
        log_warn("%s, %s: its buffer set may still be in use", r->plan->policy, label);
    return ERR_UNSUPPORTED;
}

static bool before_library(const struct plan *p, int op)
{
    int next = op + 1;

    while (next < p->num_ops && p->ops[next].stream != p->ops[op].stream)
        next++;
    return next < p->num_ops && run_op_is_library(&p->ops[next]);
}

/* Who waits for whom: across streams by events, unit by unit by tile signals. */
static int deps_read(struct gpu_run *r)
{
    const struct plan *p = r->plan;
    int err = 0;

    for (int i = 0; i < p->num_ops; i++) {
        const struct plan_op *o = &p->ops[i];

        r->op[i].mark = run_op_is_library(o) && !run_op_ends_stamped(o) && before_library(p, i);
        for (int d = o->first_dep; d < o->first_dep + o->num_deps; d++) {
            const struct plan_dep *dep = &p->deps[d];

            if (dep->kind == DEP_UNIT) {
                r->op[i].follows = true;
                r->op[dep->op].signals = true;
            } else if (p->ops[dep->op].stream != o->stream) {
                r->op[dep->op].event_wanted = true;
            }
        }
    }
    for (int i = 0; !err && i < p->num_ops; i++)
        if (r->op[i].event_wanted)
            err = GPU(cudaEventCreateWithFlags(&r->op[i].event, cudaEventDisableTiming));
    return err;
}

static int dense_prepare(struct gpu_run *r, int op)
{
    const struct plan_op *o = &r->plan->ops[op];
    struct dense_gemm_shape shape = {
        .dtype = o->kind != OP_ROUTER && o->dtype == DTYPE_FP8 ? GEMM_FP8 : GEMM_BF16,
        .m = o->rows,
        .n = o->kind == OP_ROUTER      ? gpu_router_width(o->n)
             : o->kind == OP_ATTN_PROJ ? gpu_attn_columns(o->n)
                                       : o->n,
        .k = o->k,
        .num_sms = o->sms < r->plan->num_sms ? o->sms : 0};

    return run_op_has_dense(o) ? gpu_dense_find(r->s, shape, &r->op[op].dense) : 0;
}

/* One library GEMM per expert. scale_rows [batches][El]: how the GEMMs want their FP8 scales. */
static int experts_prepare(struct gpu_run *r, int op, int *scale_rows)
{
    const struct plan_op *o = &r->plan->ops[op];
    struct gpu_experts_shape shape = {.up = o->kind == OP_GEMM_UP,
                                      .first = o->first_expert,
                                      .count = o->num_experts,
                                      .num_sms = o->sms < r->plan->num_sms ? o->sms : 0};
    int rows[SLOTS_MAX_EXPERTS], err;

    for (int i = 0; i < o->num_experts; i++)
        rows[i] = gpu_a2a_rows(r->plan, r->s, o->batch, o->first_expert + i);
    err = gpu_experts_open(&r->op[op].experts, r->s, &shape, rows);
    for (int i = 0; !err && i < o->num_experts; i++)
        scale_rows[o->batch * r->plan->experts_per_rank + o->first_expert + i] =
            r->op[op].experts->done[i];
    return err;
}

static int dense_ops(const struct plan *plan)
{
    int n = 0;

    for (int i = 0; i < plan->num_ops; i++)
        n += plan->ops[i].layer == 0 && run_op_has_dense(&plan->ops[i]);
    return n;
}

/* What a kernel is told of the rows that it will find, for its speed. */
static int rows_expect(struct gpu_run *r, int op)
{
    const struct plan *p = r->plan;
    const struct plan_op *o = &p->ops[op];

    if (o->kind == OP_DISPATCH || o->kind == OP_DISPATCH_RECV)
        r->op[op].hot_rows = plan_op_hot_rows(p, op, r->s->rank);
    if (!plan_op_is_expert_gemm(o->kind))
        return 0;
    r->op[op].rows_each = malloc((size_t)o->num_experts * sizeof *r->op[op].rows_each);
    if (!r->op[op].rows_each)
        return ERR_NOMEM;
    for (int e = 0; e < o->num_experts; e++)
        r->op[op].rows_each[e] = plan_expert_rows(p, o->batch, r->s->rank, o->first_expert + e);
    return 0;
}

static int ops_prepare(struct gpu_run *r)
{
    const struct plan *p = r->plan;
    struct gpu_dense_memory *d = &r->s->layer->dense;
    const struct plan_op *mlp = plan_op_of_kind(p, OP_MLP_ACT);
    int err = gpu_dense_open(r->s, mlp ? mlp->n : 0), rows[GPU_MAX_BATCHES] = {0};

    for (int i = 0; i < p->num_batches; i++)
        rows[i] = p->batches[i].num_tokens;
    if (!err && mlp)
        err = gpu_upload(d->rows, rows, sizeof rows);
    gpu_dense_room(r->s, dense_ops(p)); /* the other layers want the same */
    for (int i = 0; !err && i < p->num_ops; i++) {
        if (!err)
            err = rows_expect(r, i);
        if (p->ops[i].buffer)
            err = gpu_half_open(r->s, p->ops[i].buffer);
        if (!err)
            err = dense_prepare(r, i);
    }
    return err;
}

/* The activation's scales: as far apart as the GEMM of their expert wants them, or all alike. */
static int act_strides_open(struct gpu_run *r, int *scale_rows, size_t count)
{
    bool any = false;
    int err;

    for (size_t i = 0; i < count; i++) {
        any |= scale_rows[i] > 0;
        if (!scale_rows[i])
            scale_rows[i] = r->s->layer->slots.rows_max;
    }
    if (!any)
        return 0;
    err = gpu_alloc((void **)&r->act_strides, count * sizeof *scale_rows);
    return err ? err : gpu_upload(r->act_strides, scale_rows, count * sizeof *scale_rows);
}

/* Library all-to-alls and, where the plan asks for them, library GEMMs of their rows. */
static int a2a_prepare(struct gpu_run *r)
{
    const struct plan *p = r->plan;
    size_t count = (size_t)p->num_batches * (size_t)p->experts_per_rank;
    int *up = calloc(count, sizeof *up), *down = calloc(count, sizeof *down);
    int err = up && down ? 0 : ERR_NOMEM;

    for (int i = 0; !err && i < p->num_ops; i++)
        if (plan_op_is_expert_gemm(p->ops[i].kind) && p->ops[i].gemm == GEMM_DENSE)
            err = experts_prepare(r, i, p->ops[i].kind == OP_GEMM_UP ? up : down);
    err = gpu_agree(r->s, err);
    if (!err)
        err = act_strides_open(r, down, count);
    if (!err)
        err = gpu_a2a_open(&r->a2a, r->s, p, up);
    free(up);
    free(down);
    return err;
}

bool run_op_follows(const struct plan *plan, int op, int next)
{
    const struct plan_op *o = &plan->ops[next];

    if (next <= op)
        return false;
    for (int d = o->first_dep; d < o->first_dep + o->num_deps; d++)
        if (plan->deps[d].op == op)
            return true;
    return o->stream == plan->ops[op].stream;
}

static bool needs_marks(const struct plan *plan)
{
    for (int i = 0; i < plan->num_ops; i++) {
        bool bounded = !run_op_is_library(&plan->ops[i]) || run_op_ends_stamped(&plan->ops[i]);

        for (int next = i + 1; !bounded && next < plan->num_ops; next++)
            bounded = run_op_follows(plan, i, next) && !run_op_is_library(&plan->ops[next]);
        if (!bounded)
            return true;
    }
    return false;
}

static int streams_open(struct gpu_run *r)
{
    int least, most, err = GPU(cudaDeviceGetStreamPriorityRange(&least, &most));

    for (int i = 0; !err && i < r->plan->num_streams; i++) {
        int priority = r->plan->streams[i].priority;

        priority = priority < most ? most : priority > least ? least : priority;
        err = GPU(cudaStreamCreateWithPriority(&r->stream[i], cudaStreamNonBlocking, priority));
        if (!err)
            err = GPU(cudaEventCreateWithFlags(&r->join[i], cudaEventDisableTiming));
    }
    return err ? err : GPU(cudaEventCreateWithFlags(&r->fork, cudaEventDisableTiming));
}

/* The ends of the steady period, if there is one. */
static int bounds_open(struct gpu_run *r)
{
    const struct plan *p = r->plan;
    int err = 0;

    r->periodic = plan_period(p, &r->bound[0].layer, &r->bound[1].layer);
    for (int b = 0; r->periodic && b < 2; b++) {
        memset(r->bound[b].last, -1, sizeof r->bound[b].last);
        for (int i = 0; i < p->num_ops; i++)
            if (p->ops[i].layer == r->bound[b].layer)
                r->bound[b].last[p->ops[i].stream] = i;
        for (int s = 0; !err && s < p->num_streams; s++)
            if (r->bound[b].last[s] >= 0)
                err = GPU(cudaEventCreate(&r->bound[b].event[s]));
    }
    return err;
}

static int pacing_set(struct gpu_run *r)
{
    if (r->o->pace_GBps > 0)
        r->pacing = (struct kernels_pacing){.bytes_per_ns = r->o->pace_GBps,
                                            .latency_ns = (long long)(r->o->pace_us * 1e3),
                                            .clock_offset_ns = r->s->pace_offset_ns};
    return r->o->pace_GBps > 0 ? gpu_clocks(r->s) : 0;
}

int run_open(struct gpu_run *r, struct gpu_session *s, const struct plan *plan,
             const struct gpu_options *o)
{
    struct gpu_shape shape;
    int err;

    memset(r, 0, sizeof *r);
    r->s = s;
    r->plan = plan;
    r->o = o;
    err = shape_of(r, &shape);
    if (err)
        return err;
    r->marked = needs_marks(plan);
    r->passes = (o->layers + plan->num_layers - 1) / plan->num_layers;
    r->passes = r->passes < 2 ? 2 : r->passes;
    r->op = calloc((size_t)plan->num_ops, sizeof *r->op);
    if (!r->op)
        return ERR_NOMEM;
    err = deps_read(r);
    if (!err)
        err = buffers_check(r);
    for (int i = 0; !err && i < plan->num_ops; i++)
        err = run_op_check(r, i);
    if (!err && plan_op_of_kind(plan, OP_ATTN_CORE))
        err = gpu_attn_check(s, plan);
    if (!err)
        err = gpu_layer_open(s, &shape, o->seed);
    if (!err)
        err = gpu_outputs_open(s, plan->num_layers);
    if (!err)
        err = gpu_inputs(s, plan->batches[0].routing, plan->batches[0].routing->tokens, o->seed);
    if (!err)
        err = ops_prepare(r);
    if (!err && run_has_a2a(plan))
        err = a2a_prepare(r);
    if (!err && plan_op_of_kind(plan, OP_ATTN_CORE))
        err = gpu_attn_open(&r->attn, s, plan);
    if (!err)
        err = streams_open(r);
    if (!err)
        err = bounds_open(r);
    if (!err)
        err = gpu_alloc((void **)&r->stamps,
                        (size_t)r->passes * (size_t)run_marks(r) * sizeof *r->stamps);
    return err ? err : pacing_set(r);
}

void run_close(struct gpu_run *r)
{
    gpu_drain(r->s, "a run's memory goes");
    for (int i = 0; r->op && i < r->plan->num_ops; i++) {
        if (r->op[i].event)
            cudaEventDestroy(r->op[i].event);
        gpu_experts_close(r->op[i].experts);
        free(r->op[i].rows_each);
    }
    for (int i = 0; i < GPU_MAX_STREAMS; i++) {
        if (r->stream[i])
            cudaStreamDestroy(r->stream[i]);
        if (r->join[i])
            cudaEventDestroy(r->join[i]);
        for (int b = 0; b < 2; b++)
            if (r->bound[b].event[i])
                cudaEventDestroy(r->bound[b].event[i]);
    }
    if (r->fork)
        cudaEventDestroy(r->fork);
    cudaFree(r->stamps);
    cudaFree(r->act_strides);
    gpu_a2a_close(r->a2a);
    gpu_attn_close(r->attn);
    free(r->op);
    memset(r, 0, sizeof *r);
}

static int pass_fork(struct gpu_run *r)
{
    int err = GPU(cudaEventRecord(r->fork, r->stream[0]));

    for (int i = 1; !err && i < r->plan->num_streams; i++)
        err = GPU(cudaStreamWaitEvent(r->stream[i], r->fork, 0));
    return err;
}

static int pass_join(struct gpu_run *r)
{
    int err = 0;

    for (int i = 1; !err && i < r->plan->num_streams; i++) {
        err = GPU(cudaEventRecord(r->join[i], r->stream[i]));
        if (!err)
            err = GPU(cudaStreamWaitEvent(r->stream[0], r->join[i], 0));
    }
    return err;
}

/* Events outside the graph keep the time of its last pass. */
static int bounds_record(struct gpu_run *r, int op, cudaStream_t stream)
{
    int of = r->plan->ops[op].stream, err = 0;

    for (int b = 0; !err && r->periodic && b < 2; b++) {
        enum cudaStreamCaptureStatus capture;

        if (r->bound[b].last[of] != op)
            continue;
        err = GPU(cudaStreamIsCapturing(stream, &capture));
        if (!err)
            err = GPU(cudaEventRecordWithFlags(r->bound[b].event[of], stream,
                                               capture == cudaStreamCaptureStatusActive
                                                   ? cudaEventRecordExternal
                                                   : cudaEventRecordDefault));
    }
    return err;
}

static int op_issue(struct gpu_run *r, int op, struct kernel_stamp *stamp)
{
    const struct plan *p = r->plan;
    const struct plan_op *o = &p->ops[op];
    cudaStream_t stream = r->stream[o->stream];
    int err = 0;

    for (int d = o->first_dep; !err && d < o->first_dep + o->num_deps; d++) {
        const struct plan_dep *dep = &p->deps[d];

        if (dep->kind == DEP_END && p->ops[dep->op].stream != o->stream)
            err = GPU(cudaStreamWaitEvent(stream, r->op[dep->op].event, 0));
    }
    gpu_cupti_tag(r->s->cupti, stamp ? (int)(stamp - r->stamps) : -1);
    if (!err)
        err = run_op(r, op, stream, stamp);
    gpu_cupti_tag(r->s->cupti, -1);
    if (!err && r->op[op].event_wanted)
        err = GPU(cudaEventRecord(r->op[op].event, stream));
    if (!err && r->op[op].mark)
        err = gpu_mark_launch(stream, stamp);
    return err ? err : bounds_record(r, op, stream);
}

int run_pass(struct gpu_run *r, struct kernel_stamp *stamps, bool last)
{
    int n = r->plan->num_ops;
    int err = gpu_mark_launch(r->stream[0], stamps && r->marked ? stamps + n : NULL);

    if (!err)
        err = pass_fork(r);
    for (int i = 0; !err && i < n; i++)
        err = op_issue(r, i, stamps ? stamps + i : NULL);
    if (!err)
        err = pass_join(r);
    return err ? err
               : gpu_mark_launch(r->stream[0], stamps && r->marked && last ? stamps + n + 1 : NULL);
}

/* Runs the plan on memory that holds no earlier result, and compares the output with the
 * reference. The run before it loads the kernels: while they load, GPUs wait for the host, and hide
 * that a kernel should have waited. All ranks learn the worst. */
static int output_check(struct gpu_run *r, struct gpu_result *result)
{
    struct gpu_session *s = r->s;
    struct gpu_layer *l = s->layer;
    struct {
        double worst;
        uint64_t hash;
        int checked, pad;
    } mine = {0}, all[GPU_MAX_RANKS];
    int err = run_pass(r, NULL, true);

    if (!err)
        err = gpu_wait(s, r->stream[0]);
    if (!err)
        err = run_poisoned(r);
    if (!err)
        err = gpu_output_check(s, r->plan->num_layers, r->o->check_tokens, &mine.worst,
                               &mine.checked, &mine.hash);
    r->hash = mine.hash;
    if (!err)
        err = gpu_gather(s, &mine, all, sizeof mine);
    result->hash = DATA_HASH_START;
    for (int i = 0; !err && i < s->ranks; i++) {
        result->worst_error = fmax(result->worst_error, all[i].worst);
        result->checked += all[i].checked;
        result->hash = data_hash(result->hash, &all[i].hash, sizeof all[i].hash);
    }
    if (!err && !(result->worst_error <= (l->shape.fp8 ? TOLERANCE_FP8 : TOLERANCE_BF16))) {
        if (s->rank == 0)
            log_error("%s: wrong output: a token is %.3g off its reference", r->plan->policy,
                      result->worst_error);
        err = ERR_DATA;
    }
    return err;
}

int gpu_session_run(struct gpu_session *s, const struct plan *plan, const struct gpu_options *o,
                    struct gpu_result *result, struct trace **trace)
{
    struct gpu_run r;
    int err;

    memset(result, 0, sizeof *result);
    *trace = NULL;
    err = run_open(&r, s, plan, o);
    if (!err)
        err = output_check(&r, result);
    if (!err)
        err = run_measure(&r, result, trace);
    if (!err && plan->ranks != s->ranks)
        result->emulated_ranks = plan->ranks;
    run_close(&r);
    return gpu_session_failed(s, err);
}
