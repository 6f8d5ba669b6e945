#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "plan/counts.h"

/* A table's shared counts grow until they hold so much. */
#define COUNTS_KEPT_BYTES ((size_t)64 << 20)

static const char *const dtype_names[] = {"bf16",  "fp8",  "logfmt10", "nvfp4",
                                          "mxfp4", "w4a8", "w4a16"};
static const char *const gemm_names[] = {"masked", "contiguous", "dense", "fused"};

const char *plan_op_kind_name(enum plan_op_kind kind)
{
    return kind < OP_KIND_COUNT ? plan_op_traits(kind)->text : "?";
}

enum plan_op_class plan_op_kind_class(enum plan_op_kind kind)
{
    return plan_op_traits(kind)->class;
}

bool plan_op_sends(enum plan_op_kind kind)
{
    return plan_op_traits(kind)->network & OP_NET_SENDS;
}

bool plan_op_recvs(enum plan_op_kind kind)
{
    return plan_op_traits(kind)->network & OP_NET_RECVS;
}

enum plan_flow_dir plan_op_dir(enum plan_op_kind kind)
{
    return plan_op_traits(kind)->part == PLAN_PART_COMBINE ? FLOW_COMBINE : FLOW_DISPATCH;
}

bool plan_op_is_expert_gemm(enum plan_op_kind kind)
{
    return plan_op_traits(kind)->work == OP_WORK_GEMM;
}

bool plan_op_is_expert_work(enum plan_op_kind kind)
{
    return plan_op_traits(kind)->work != OP_WORK_TOKENS;
}

void plan_op_label(const struct plan *plan, int op, char *buf, size_t size)
{
    const struct plan_op *o = &plan->ops[op];
    char round[24] = "", half[8] = "", layer[16] = "";

    if (o->num_rounds > 1)
        snprintf(round, sizeof round, "[%d]", o->round);
    if (plan->num_batches > 1)
        snprintf(half, sizeof half, ".%c", 'A' + o->batch % 26);
    if (plan->num_layers > 1)
        snprintf(layer, sizeof layer, "/L%d", o->layer);
    snprintf(buf, size, "%s%s%s%s", plan_op_kind_name(o->kind), round, half, layer);
}

const struct plan_op *plan_op_of_kind(const struct plan *plan, enum plan_op_kind kind)
{
    for (int i = 0; i < plan->num_ops; i++)
        if (plan->ops[i].kind == kind)
            return &plan->ops[i];
    return NULL;
}

int plan_new(struct plan **out, int ranks, int experts, int num_sms)
{
    struct plan *p = calloc(1, sizeof *p);

    if (!p)
        return ERR_NOMEM;
    p->ranks = ranks;
    p->experts = experts;
    p->experts_per_rank = experts / ranks;
    p->num_sms = num_sms;
    p->ranks_per_node = ranks;
    p->num_layers = 1;
    p->period_layers = 1;
    *out = p;
    return 0;
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    plan_counts_free(plan->counts);
    if (plan->own_routing)
        free(plan->own_routing->expert);
    free(plan->own_routing);
    free(plan->streams);
    free(plan->ops);
    free(plan->deps);
    free(plan->flows);
    free(plan->batches);
    free(plan);
}

/* Makes room for one more element; returns the array, or NULL with the old one intact. */
static void *grown(void *array, int num, int *cap, size_t size)
{
    void *p = array;

    if (num < *cap)
        return array;
    int want = *cap ? 2 * *cap : 16;
    p = realloc(array, (size_t)want * size);
    if (p)
        *cap = want;
    return p;
}

int plan_stream_add(struct plan *plan, const char *name, int priority)
{
    struct plan_stream *s =
        realloc(plan->streams, (size_t)(plan->num_streams + 1) * sizeof *plan->streams);

    if (!s)
        return ERR_NOMEM;
    plan->streams = s;
    snprintf(s[plan->num_streams].name, sizeof s->name, "%s", name);
    s[plan->num_streams].priority = priority;
    return plan->num_streams++;
}

int plan_op_add(struct plan *plan, const struct plan_op *op)
{
    struct plan_op *ops = grown(plan->ops, plan->num_ops, &plan->cap_ops, sizeof *plan->ops);

    if (!ops)
        return ERR_NOMEM;
    plan->ops = ops;
    ops[plan->num_ops] = *op;
    ops[plan->num_ops].first_dep = plan->num_deps;
    ops[plan->num_ops].num_deps = 0;
    return plan->num_ops++;
}

int plan_dep_add(struct plan *plan, int on, enum plan_dep_kind kind)
{
    struct plan_dep *deps;

    if (on < 0)
        return 0;
    deps = grown(plan->deps, plan->num_deps, &plan->cap_deps, sizeof *plan->deps);
    if (!deps)
        return ERR_NOMEM;
    plan->deps = deps;
    deps[plan->num_deps++] = (struct plan_dep){.op = on, .kind = kind};
    plan->ops[plan->num_ops - 1].num_deps++;
    return 0;
}

/* The counts that a table shares among its plans, else the plan's own: those of a table without
 * any, and those that would make the shared ones too many to keep. */
static struct plan_counts *counts_of(struct plan *plan, const struct plan_routing *routing)
{
    if (routing->counts && plan_counts_bytes(routing->counts) < COUNTS_KEPT_BYTES)
        return routing->counts;
    if (!plan->counts)
        plan->counts = plan_counts_new();
    return plan->counts;
}

int plan_batch_add(struct plan *plan, const struct plan_routing *routing, int first_token,
                   int num_tokens)
{
    struct plan_batch *all =
        realloc(plan->batches, (size_t)(plan->num_batches + 1) * sizeof *plan->batches);
    struct plan_batch b = {
        .routing = routing, .first_token = first_token, .num_tokens = num_tokens};
    struct plan_counts *counts;
    int err;

    if (!all)
        return ERR_NOMEM;
    plan->batches = all;
    counts = counts_of(plan, routing);
    err = counts ? plan_counts_rows(counts, plan->experts, &b) : ERR_NOMEM;
    if (err)
        return err;
    all[plan->num_batches] = b;
    return plan->num_batches++;
}

int plan_flow_add(struct plan *plan, const struct plan_flow *flow)
{
    struct plan_flow *flows =
        grown(plan->flows, plan->num_flows, &plan->cap_flows, sizeof *plan->flows);
    struct plan_flow f = *flow;
    int err = 0;

    if (!flows)
        return ERR_NOMEM;
    plan->flows = flows;
    f.pair = f.fwd = f.copies = NULL;
    if (f.dedup != FLOW_PER_EXPERT) {
        struct plan_counts *counts = counts_of(plan, plan->batches[f.batch].routing);

        err = counts ? plan_counts_copies(counts, plan, &f) : ERR_NOMEM;
    }
    if (err)
        return err;
    flows[plan->num_flows] = f;
    return plan->num_flows++;
}

int plan_op_rows(const struct plan *plan, int op, int rank, int *max_rows)
{
    const struct plan_op *o = &plan->ops[op];
    int total = 0, most = 0;

    for (int e = o->first_expert; e < o->first_expert + o->num_experts; e++) {
        int rows = plan_expert_rows(plan, o->batch, rank, e);

        total += rows;
        if (rows > most)
            most = rows;
    }
    if (max_rows)
        *max_rows = most;
    return total;
}

int plan_op_hot_rows(const struct plan *plan, int op, int rank)
{
    const struct plan_op *o = &plan->ops[op];
    int num = o->num_experts > 0 ? o->num_experts : plan->experts_per_rank, most = 0;

    for (int src = 0; src < plan->ranks; src++)
        for (int e = o->first_expert; e < o->first_expert + num; e++) {
            int rows = plan_pair_rows(plan, o->batch, src, rank, e, 1);

            most = rows > most ? rows : most;
        }
    return most;
}

int plan_op_copies(const struct plan *plan, int op, int rank)
{
    const struct plan_op *o = &plan->ops[op];

    for (int i = 0; i < plan->num_flows; i++) {
        const struct plan_flow *f = &plan->flows[i];

        /* Layers share their batch's routing, so any layer's group has the same copies. */
        if (f->copies && f->batch == o->batch && f->first_expert == o->first_expert &&
            f->num_experts == o->num_experts)
            return f->copies[rank];
    }
    return plan_op_rows(plan, op, rank, NULL);
}

void plan_flow_rows(const struct plan *plan, int flow, int sender, int *rows, int *fwd)
{
    const struct plan_flow *f = &plan->flows[flow];
    int W = plan->ranks;
    bool back = f->dir == FLOW_COMBINE;

    if (fwd)
        memset(fwd, 0, (size_t)W * sizeof *fwd);
    for (int peer = 0; peer < W; peer++) {
        size_t cell = back ? (size_t)peer * W + sender : (size_t)sender * W + peer;

        if (!f->pair) {
            int token_rank = back ? peer : sender, expert_rank = back ? sender : peer;

            rows[peer] = plan_pair_rows(plan, f->batch, token_rank, expert_rank, f->first_expert,
                                        f->num_experts);
            continue;
        }
        rows[peer] = f->pair[cell];
        if (fwd)
            fwd[peer] = f->fwd[cell];
    }
}

int plan_op_num_units(const struct plan *plan, int op, int rank)
{
    const struct plan_op *o = &plan->ops[op];
    int units = 0;

    for (int e = o->first_expert; e < o->first_expert + o->num_experts; e++)
        units += (plan_expert_rows(plan, o->batch, rank, e) + o->block_m - 1) / o->block_m;
    return units;
}

void plan_unit_rows(const struct plan *plan, int op, int rank, int unit, int *rows)
{
    const struct plan_op *o = &plan->ops[op];
    int e = o->first_expert, first, last, at = 0;

    for (; e < o->first_expert + o->num_experts; e++) {
        int blocks = (plan_expert_rows(plan, o->batch, rank, e) + o->block_m - 1) / o->block_m;

        if (unit < blocks)
            break;
        unit -= blocks;
    }
    first = unit * o->block_m;
    last = first + o->block_m;
    for (int src = 0; src < plan->ranks && at < last; src++) {
        int n = plan_pair_rows(plan, o->batch, src, rank, e, 1);
        int lo = at > first ? at : first, hi = at + n < last ? at + n : last;

        if (hi > lo)
            rows[src] += hi - lo;
        at += n;
    }
}

double plan_total_flops(const struct plan *plan)
{
    double flops = 0;

    for (int op = 0; op < plan->num_ops; op++) {
        const struct plan_op *o = &plan->ops[op];

        if (o->k <= 0 || plan_op_kind_class(o->kind) != OP_CLASS_COMPUTE)
            continue;
        for (int rank = 0; rank < plan->ranks; rank++) {
            int rows = o->num_experts ? plan_op_rows(plan, op, rank, NULL) : o->rows;

            flops += 2.0 * rows * o->n * o->k;
        }
    }
    return flops;
}

double plan_total_message_bytes(const struct plan *plan)
{
    double bytes = 0;
    int *rows = malloc((size_t)plan->ranks * sizeof *rows);

    for (int f = 0; rows && f < plan->num_flows; f++)
        for (int rank = 0; rank < plan->ranks; rank++) {
            plan_flow_rows(plan, f, rank, rows, NULL);
            for (int i = 0; i < plan->ranks; i++)
                bytes += (double)rows[i] * plan->flows[f].bytes_per_row;
        }
    free(rows);
    return bytes;
}

static int fault(const struct plan *plan, int op, const char *what)
{
    char label[64];

    plan_op_label(plan, op, label, sizeof label);
    log_error("plan %s: op %d (%s): %s", plan->policy, op, label, what);
    return ERR_INTERNAL;
}

static int check_experts(const struct plan *plan, int op)
{
    const struct plan_op *o = &plan->ops[op];
    bool per_expert =
        plan_op_sends(o->kind) || plan_op_recvs(o->kind) || plan_op_is_expert_work(o->kind);

    if (per_expert && (o->first_expert < 0 || o->num_experts < 1 ||
                       o->first_expert + o->num_experts > plan->experts_per_rank))
        return fault(plan, op, "its local experts are outside the rank's");
    if (o->round < 0 || o->round >= o->num_rounds)
        return fault(plan, op, "its round is outside its rounds");
    if (plan_op_is_expert_gemm(o->kind) && (o->n < 1 || o->k < 1))
        return fault(plan, op, "a GEMM without a width");
    return 0;
}

static int check_deps(const struct plan *plan, int op)
{
    const struct plan_op *o = &plan->ops[op];

    for (int i = 0; i < o->num_deps; i++) {
        const struct plan_dep *d = &plan->deps[o->first_dep + i];

        /* An event is recorded before it can be waited for, so every dependency was launched
         * earlier; this also rules out cycles. */
        if (d->op < 0 || d->op >= op)
            return fault(plan, op, "waits for an op that is launched after it");
        if (d->kind == DEP_PART && plan->ops[d->op].kind != OP_FUSED)
            return fault(plan, op, "is a part of an op that is no fused kernel");
        if (d->kind == DEP_UNIT && (o->block_m < 1 || plan->ops[d->op].block_m != o->block_m ||
                                    plan->ops[d->op].first_expert != o->first_expert ||
                                    plan->ops[d->op].num_experts != o->num_experts))
            return fault(plan, op, "unit dependency between ops whose units differ");
    }
    return 0;
}

/* A lane holds nothing but parts. */
static int check_lane(const struct plan *plan, int op)
{
    int before = op - 1;

    while (before >= 0 && plan->ops[before].stream != plan->ops[op].stream)
        before--;
    if (before >= 0 && (plan_op_kernel(plan, op) < 0) != (plan_op_kernel(plan, before) < 0))
        return fault(plan, op, "shares a stream between kernels and parts of kernels");
    return 0;
}

static int check_op(const struct plan *plan, int op)
{
    const struct plan_op *o = &plan->ops[op];
    int err;

    if ((unsigned)o->kind >= OP_KIND_COUNT)
        return fault(plan, 0, "unknown kind of op");
    if (o->stream < 0 || o->stream >= plan->num_streams)
        return fault(plan, op, "no such stream");
    if (o->sms < 1 || o->sms > plan->num_sms)
        return fault(plan, op, "asks for fewer than 1 or more than all SMs");
    if (o->layer < 0 || o->layer >= plan->num_layers)
        return fault(plan, op, "no such layer");
    if (o->batch < 0 || o->batch >= plan->num_batches)
        return fault(plan, op, "no such batch");
    if (plan_op_kind_class(o->kind) == OP_CLASS_COLL && (o->coll_bytes < 0 || o->coll_ranks < 1))
        return fault(plan, op, "a collective without a size or a group");
    err = check_experts(plan, op);
    if (!err)
        err = check_deps(plan, op);
    return err ? err : check_lane(plan, op);
}

static int check_flows(const struct plan *plan)
{
    for (int i = 0; i < plan->num_flows; i++) {
        const struct plan_flow *f = &plan->flows[i];

        if (f->send_op < 0 || f->send_op >= plan->num_ops || f->recv_op < f->send_op ||
            f->recv_op >= plan->num_ops)
            return fault(plan, 0, "a flow whose ends are not ops, or received before it is sent");
        if (!plan_op_sends(plan->ops[f->send_op].kind))
            return fault(plan, f->send_op, "sends a flow but is not a sending op");
        if (!plan_op_recvs(plan->ops[f->recv_op].kind))
            return fault(plan, f->recv_op, "receives a flow but is not a receiving op");
        if (f->bytes_per_row < 1 || f->num_experts < 1 || f->first_expert < 0 ||
            f->first_expert + f->num_experts > plan->experts_per_rank)
            return fault(plan, f->send_op, "a flow of no bytes or of experts the ranks lack");
    }
    for (int op = 0; op < plan->num_ops; op++) {
        int sends = 0, recvs = 0;

        for (int i = 0; i < plan->num_flows; i++) {
            sends += plan->flows[i].send_op == op;
            recvs += plan->flows[i].recv_op == op;
        }
        if (plan_op_sends(plan->ops[op].kind) != (sends > 0))
            return fault(plan, op, "a sending op needs a flow");
        if (plan_op_recvs(plan->ops[op].kind) != (recvs > 0))
            return fault(plan, op, "a receiving op needs a flow");
    }
    return 0;
}

int plan_op_kernel(const struct plan *plan, int op)
{
    const struct plan_op *o = &plan->ops[op];

    for (int i = 0; i < o->num_deps; i++)
        if (plan->deps[o->first_dep + i].kind == DEP_PART)
            return plan->deps[o->first_dep + i].op;
    return -1;
}

int plan_check(const struct plan *plan)
{
    int err = 0;

    if (plan->ranks < 1 || plan->num_ops < 1 || plan->num_streams < 1 || plan->num_batches < 1 ||
        plan->experts % plan->ranks) {
        log_error("plan %s: no ranks, ops, streams or batches, or experts not divisible by ranks",
                  plan->policy);
        return ERR_INTERNAL;
    }
    for (int op = 0; op < plan->num_ops && !err; op++)
        err = check_op(plan, op);
    return err ? err : check_flows(plan);
}

static void print_shape(const struct plan_op *o, FILE *f)
{
    enum plan_op_class class = plan_op_kind_class(o->kind);

    if (o->num_experts)
        fprintf(f, " experts=%d+%d", o->first_expert, o->num_experts);
    if (o->rows)
        fprintf(f, " rows=%d", o->rows);
    if (o->n)
        fprintf(f, " n=%d", o->n);
    if (o->k)
        fprintf(f, " k=%d", o->k);
    fprintf(f, " %s", dtype_names[o->dtype]);
    if (plan_op_is_expert_gemm(o->kind))
        fprintf(f, " %s", gemm_names[o->gemm]);
    if (class == OP_CLASS_COMM)
        fprintf(f, " %s buffer=%d", plan_comm_traits(o->comm)->text, o->buffer);
    if (class == OP_CLASS_COLL)
        fprintf(f, " bytes=%lld of %d ranks", (long long)o->coll_bytes, o->coll_ranks);
    if (o->block_m)
        fprintf(f, " block=%dx%d", o->block_m, o->block_n);
}

static void print_op(const struct plan *plan, int op, FILE *f)
{
    static const char *const dep_names[] = {"", "(unit)", "(part)"};
    const struct plan_op *o = &plan->ops[op];
    char label[64];

    plan_op_label(plan, op, label, sizeof label);
    fprintf(f, "op %d %s on %s sms=%d%s", op, label, plan->streams[o->stream].name, o->sms,
            o->cooperative ? " coop" : "");
    print_shape(o, f);
    for (int i = 0; i < o->num_deps; i++) {
        const struct plan_dep *d = &plan->deps[o->first_dep + i];

        fprintf(f, "%s%d%s", i ? "," : " after=", d->op, dep_names[d->kind]);
    }
    fputc('\n', f);
}

int plan_print(const struct plan *plan, FILE *f)
{
    static const char *const dedup_names[] = {"expert", "rank", "node"};

    fprintf(f, "plan %s ranks=%d ranks_per_node=%d experts=%d num_sms=%d layers=%d\n", plan->policy,
            plan->ranks, plan->ranks_per_node, plan->experts, plan->num_sms, plan->num_layers);
    for (int i = 0; i < plan->num_streams; i++)
        fprintf(f, "stream %s priority=%d\n", plan->streams[i].name, plan->streams[i].priority);
    for (int i = 0; i < plan->num_batches; i++)
        fprintf(f, "batch %d tokens=%d+%d of %d topk=%d\n", i, plan->batches[i].first_token,
                plan->batches[i].num_tokens, plan->batches[i].routing->tokens,
                plan->batches[i].routing->topk);
    for (int op = 0; op < plan->num_ops; op++)
        print_op(plan, op, f);
    for (int i = 0; i < plan->num_flows; i++) {
        const struct plan_flow *g = &plan->flows[i];

        fprintf(f, "flow %d %s %d->%d experts=%d+%d bytes_per_row=%d per %s\n", i,
                g->dir == FLOW_DISPATCH ? "dispatch" : "combine", g->send_op, g->recv_op,
                g->first_expert, g->num_experts, g->bytes_per_row, dedup_names[g->dedup]);
    }
    return ferror(f) ? ERR_IO : 0;
}

bool plan_period(const struct plan *plan, int *from, int *to)
{
    int end = plan->num_layers - 1, period = plan->period_layers;

    if (period < 1 || period > end)
        return false;
    if (period < end)
        end--;
    *from = end - period;
    *to = end;
    return true;
}

void plan_ops_after(const struct plan *plan, int op, bool *after)
{
    int kernel = plan_op_kernel(plan, op); /* ends no sooner than op, its part */

    for (int i = 0; i <= op; i++)
        after[i] = false;
    for (int i = op + 1; i < plan->num_ops; i++) {
        const struct plan_op *o = &plan->ops[i];
        int before = i - 1;

        while (before >= 0 && plan->ops[before].stream != o->stream)
            before--;
        after[i] = before >= 0 && (before == op || before == kernel || after[before]);
        for (int d = o->first_dep; d < o->first_dep + o->num_deps; d++) {
            int on = plan->deps[d].op;

            if (plan->deps[d].kind == DEP_END)
                after[i] |= on == op || on == kernel || after[on];
            if (plan->deps[d].kind == DEP_PART)
                after[i] |= after[on];
        }
    }
}

static bool same_exchange(const struct plan_op *a, const struct plan_op *b)
{
    return a->buffer == b->buffer && a->layer == b->layer && a->batch == b->batch;
}

/* Begins an exchange: puts rows on their way to the experts. */
static bool is_dispatch(const struct plan_op *o)
{
    return plan_op_sends(o->kind) && plan_op_dir(o->kind) == FLOW_DISPATCH;
}

/* The last combine receive of the exchange that `dispatch` begins, or -1. */
static int exchange_end(const struct plan *plan, int dispatch)
{
    for (int i = plan->num_ops - 1; i > dispatch; i--) {
        const struct plan_op *o = &plan->ops[i];

        if (plan_op_recvs(o->kind) && plan_op_dir(o->kind) == FLOW_COMBINE &&
            same_exchange(o, &plan->ops[dispatch]))
            return i;
    }
    return -1;
}

int plan_buffer_clash(const struct plan *plan, int *op)
{
    bool *after = calloc((size_t)plan->num_ops + 1, sizeof *after);

    *op = -1;
    if (!after)
        return ERR_NOMEM;
    for (int i = 0; i < plan->num_ops && *op < 0; i++) {
        int end = is_dispatch(&plan->ops[i]) ? exchange_end(plan, i) : -1;

        if (end < 0)
            continue;
        plan_ops_after(plan, end, after);
        for (int next = i + 1; next < plan->num_ops && *op < 0; next++)
            if (is_dispatch(&plan->ops[next]) && plan->ops[next].buffer == plan->ops[i].buffer &&
                !same_exchange(&plan->ops[next], &plan->ops[i]) && !after[next])
                *op = next;
    }
    free(after);
    return 0;
}
