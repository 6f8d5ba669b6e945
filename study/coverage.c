#include "study/coverage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/law/cost.h"
#include "model/law/nvl.h"
#include "model/moe.h"
#include "study/evaluate.h"

#define MODEL          "deepseek-v3"
#define DECODE_TOKENS  128
#define PREFILL_TOKENS 4096
#define MOST_RANKS     64
#define ONE_SIDED_MOST 32 /* ranks that the one-sided exchange was measured up to */

const char *coverage_basis_name(enum coverage_basis basis)
{
    static const char *const names[] = {"measured", "transferred", "assumed"};

    return (unsigned)basis < COVERAGE_BASES ? names[basis] : "?";
}

static void own_everything(struct hw_profile *p)
{
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        if (p->f[i].origin == HW_TRANSFERRED)
            p->f[i].origin = HW_MEASURED;
    for (int i = 0; i < p->num_tables; i++)
        if (p->tables[i].origin == HW_TRANSFERRED)
            p->tables[i].origin = HW_MEASURED;
}

int coverage_costs_open(const struct hw_profile *p, struct coverage_costs *b)
{
    struct hw_profile *copy = NULL;
    int rc = hw_profile_copy(p, &copy);

    memset(b, 0, sizeof *b);
    if (rc == 0)
        own_everything(copy);
    if (rc == 0)
        rc = cost_open(p, &b->own);
    if (rc == 0)
        rc = cost_open(copy, &b->any);
    hw_profile_free(copy);
    return rc;
}

void coverage_costs_close(struct coverage_costs *b)
{
    cost_close(&b->own);
    cost_close(&b->any);
}

enum coverage_basis coverage_costs_basis(const struct coverage_costs *b, const struct plan *plan,
                                         int rank, int op)
{
    struct cost_work w;

    b->own.work(b->own.self, plan, rank, op, &w);
    if (!w.assumed)
        return COVERAGE_MEASURED;
    b->any.work(b->any.self, plan, rank, op, &w);
    return w.assumed ? COVERAGE_ASSUMED : COVERAGE_TRANSFERRED;
}

static bool in_moe_part(enum plan_op_kind kind)
{
    enum plan_part part = plan_op_traits(kind)->part;

    return part == PLAN_PART_DISPATCH || part == PLAN_PART_EXPERTS || part == PLAN_PART_COMBINE;
}

static void row_add(struct coverage_row *r, enum plan_op_kind kind, double ns,
                    enum coverage_basis basis)
{
    r->ns[basis] += ns;
    r->kind_ns[kind][basis] += ns;
    if (in_moe_part(kind))
        r->moe_ns[basis] += ns;
}

static bool is_exchange(enum plan_op_kind kind)
{
    return plan_op_kind_class(kind) == OP_CLASS_COMM;
}

static void add_spans(const struct coverage_costs *b, const struct plan *plan,
                      const struct trace *trace, int rank, bool with_exchange,
                      struct coverage_row *r)
{
    for (size_t i = 0; i < trace->num_spans; i++) {
        const struct trace_span *s = &trace->spans[i];

        if (s->rank == rank && (with_exchange || !is_exchange(plan->ops[s->op].kind)))
            row_add(r, plan->ops[s->op].kind, s->end_ns - s->start_ns,
                    coverage_costs_basis(b, plan, rank, s->op));
    }
}

/* Its start and its rate make most of an exchange's time; preparing one has no rate. */
static enum coverage_basis nvl_basis(const struct hw_profile *p, enum law_nvl_op op)
{
    static const int fields[] = {HW_NVL_1S_DISP_FIXED_US, HW_NVL_1S_DISP_EFF};
    enum coverage_basis basis = COVERAGE_MEASURED;

    for (size_t i = 0; i < (op == LAW_NVL_2S_PREPARE ? 1 : 2); i++) {
        enum hw_origin origin = p->f[law_nvl_field(op, fields[i])].origin;

        if (!hw_origin_is_own(origin))
            basis = origin == HW_TRANSFERRED && basis != COVERAGE_ASSUMED ? COVERAGE_TRANSFERRED
                                                                          : COVERAGE_ASSUMED;
    }
    return basis;
}

static void add_nvl(const struct hw_profile *p, const struct moe_model *m, enum law_nvl_op op,
                    enum plan_op_kind kind, int tokens, struct coverage_row *r)
{
    struct law_nvl in = {.op = op, .sms = 1, .ranks = r->ranks, .tokens = tokens};
    double v[HW_FIELD_COUNT];
    struct cost_work w;

    for (int i = 0; i < HW_FIELD_COUNT; i++)
        v[i] = p->f[i].value;
    in.peer_rows = tokens * fmin(m->topk, r->ranks) * (1 - 1.0 / r->ranks);
    in.row_bytes = op == LAW_NVL_2S_PREPARE ? 0
                   : kind == OP_DISPATCH    ? m->hidden * (1 + 1 / 32.0)
                                            : 2.0 * m->hidden;
    law_nvl_work(v, &in, &w);
    row_add(r, kind, w.head.fixed_ns + w.issue_ns, nvl_basis(p, op));
}

static int add_exchange(const struct hw_profile *p, int tokens, struct coverage_row *r)
{
    bool one_sided = r->ranks <= ONE_SIDED_MOST;
    struct moe_model *m = NULL;
    int rc = moe_model_read(MODEL, &m);

    if (rc != 0)
        return rc;
    r->exchange = one_sided ? "one-sided" : "two-sided";
    if (!one_sided)
        add_nvl(p, m, LAW_NVL_2S_PREPARE, OP_DISPATCH, tokens, r);
    add_nvl(p, m, one_sided ? LAW_NVL_1S_DISPATCH : LAW_NVL_2S_DISPATCH, OP_DISPATCH, tokens, r);
    add_nvl(p, m, one_sided ? LAW_NVL_1S_COMBINE : LAW_NVL_2S_COMBINE, OP_COMBINE, tokens, r);
    moe_model_free(m);
    return 0;
}

/* An NVLink domain of several hosts exchanges inside it, where such an exchange was measured. */
static bool has_domain(const struct hw_profile *p, const struct coverage_row *r)
{
    return r->nodes > 1 && p->f[HW_NVL_1S_DISP_EFF].origin == HW_FITTED;
}

static int scenario_of(const struct hw_profile *p, const struct coverage_row *r, struct scenario *s)
{
    int rc;

    memset(s, 0, sizeof *s);
    rc = opt_set_defaults(scenario_options, s);
    s->phase = r->phase;
    s->batch = r->phase == PHASE_OF_DECODE ? DECODE_TOKENS : PREFILL_TOKENS;
    s->gpus_per_node = r->ranks / r->nodes;
    s->nodes = r->nodes;
    s->nvlink_domain = has_domain(p, r) ? r->ranks : 0;
    s->comm = r->phase == PHASE_OF_DECODE ? COMM_CHOICE_LOW_LATENCY : COMM_CHOICE_NORMAL;
    s->attention = ATTENTION_ON;
    return rc;
}

static int row_fill(struct evaluator *e, const struct coverage_costs *b, const struct hw_profile *p,
                    struct coverage_row *r)
{
    const struct policy *policy = policy_find("none");
    struct evaluation ev;
    struct trace *trace = NULL;
    struct plan *plan = NULL;
    struct scenario s;
    struct knobs k;
    int rc = scenario_of(p, r, &s);

    knobs_default(policy, &k);
    r->exchange = r->phase == PHASE_OF_DECODE ? "low latency" : "normal";
    if (rc == 0)
        rc = evaluate_point(e, &s, policy, &k, -1, &ev, &trace, &plan);
    if (rc == 0)
        add_spans(b, plan, trace, ev.metrics.slowest_rank, !has_domain(p, r), r);
    if (rc == 0 && has_domain(p, r))
        rc = add_exchange(p, s.batch, r);
    trace_free(trace);
    plan_free(plan);
    scenario_free(&s);
    return rc;
}

static size_t list_rows(const struct hw_profile *p, struct coverage_row *rows)
{
    int host = (int)hw_value(p, HW_NET_HOST_GPUS);
    size_t n = 0;

    for (int phase = PHASE_OF_DECODE; phase <= PHASE_OF_PREFILL; phase++)
        for (int ranks = host; ranks <= MOST_RANKS; ranks *= 2)
            rows[n++] =
                (struct coverage_row){.ranks = ranks, .nodes = ranks / host, .phase = phase};
    return n;
}

int coverage_of(const struct hw_profile *profile, struct coverage **out)
{
    struct coverage *c = calloc(1, sizeof *c);
    struct evaluator *e = NULL;
    struct coverage_costs b = {0};
    int rc = c ? 0 : ERR_NOMEM;

    if (rc == 0 && !(c->rows = calloc(2 * MOST_RANKS, sizeof *c->rows)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = evaluator_open(&e);
    if (rc == 0)
        rc = coverage_costs_open(profile, &b);
    if (rc == 0) {
        evaluator_use_profile(e, profile);
        c->num = list_rows(profile, c->rows);
    }
    for (size_t i = 0; rc == 0 && i < c->num; i++)
        rc = row_fill(e, &b, profile, &c->rows[i]);
    coverage_costs_close(&b);
    evaluator_close(e);
    if (rc != 0) {
        coverage_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void coverage_free(struct coverage *c)
{
    if (c)
        free(c->rows);
    free(c);
}

double coverage_share(const struct coverage_row *r, enum coverage_basis basis, bool moe)
{
    const double *ns = moe ? r->moe_ns : r->ns;
    double all = 0;

    for (int i = 0; i < COVERAGE_BASES; i++)
        all += ns[i];
    return all > 0 ? ns[basis] / all : 0;
}

int coverage_gap(const struct coverage_row *r, unsigned long long skip, double *share)
{
    double most = 0, all = 0;
    int kind = -1;

    for (int i = 0; i < COVERAGE_BASES; i++)
        all += r->ns[i];
    for (int k = 0; k < OP_KIND_COUNT; k++) {
        double open = r->kind_ns[k][COVERAGE_TRANSFERRED] + r->kind_ns[k][COVERAGE_ASSUMED];

        if (!(skip >> k & 1) && open > most) {
            most = open;
            kind = k;
        }
    }
    *share = all > 0 ? most / all : 0;
    return kind;
}

const char *coverage_closed_by(enum plan_op_kind kind, int nodes)
{
    if (is_exchange(kind))
        return nodes > 1 ? "DeepEP's test_low_latency.py and test_internode.py over these nodes"
                         : "DeepEP's test_low_latency.py and test_intranode.py on one node";
    if (plan_op_is_expert_gemm(kind))
        return "DeepGEMM's masked and contiguous grouped GEMMs";
    switch (kind) {
    case OP_ATTN_CORE:
        return "the engine's attention kernel by batch and cache length";
    case OP_ATTN_PROJ:
    case OP_ATTN_OUT:
    case OP_MLP_UP:
    case OP_MLP_DOWN:
    case OP_LM_HEAD:
        return "dense GEMMs by m, n, k and dtype; norms and rotary embedding of a layer";
    case OP_ROUTER:
        return "the gate GEMM and top-k kernel by tokens (`peosim microbench`, kind router)";
    case OP_EXPERTS:
        return "the engine's fused expert layer by tokens, width and experts";
    case OP_ACT_QUANT:
    case OP_MLP_ACT:
        return "SiLU*mul with quantisation by rows (`peosim microbench`, kind act_quant)";
    case OP_PERMUTE:
    case OP_UNPERMUTE:
        return "copies through HBM by rows (`peosim microbench`, kind hbm_copy)";
    default:
        return "nccl-tests of this collective";
    }
}
