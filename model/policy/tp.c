/* `tp`: tensor-parallel experts, and experts spread without an all-to-all. Every rank gets the
 * tokens of all ranks, computes its columns of its experts for them, and a collective adds up.
 * moe_tp ranks share an expert, each with inter / moe_tp columns; there are ranks / moe_tp groups
 * of experts (EP by all-reduce). With tensor-parallel attention, all ranks have all tokens behind
 * it: two all-reduces a layer, or each as a reduce-scatter and an all-gather; with data-parallel
 * attention an all-gather in front of the experts and a reduce-scatter behind. */
#include <stdlib.h>

#include "base/err.h"
#include "model/policy/layer.h"

enum { TP_MOE, TP_ATTENTION, TP_COLLECTIVE, TP_EXPERTS, TP_TOKENS }; /* slots of its own knobs */
enum { TP_FEW_ROWS = 64 };
enum { ATTENTION_SPLIT, ATTENTION_AS_SET };
enum { COLLECTIVE_ALL_REDUCE, COLLECTIVE_SCATTER };
enum { EXPERTS_GROUPED, EXPERTS_ENGINE };

static const struct opt tp_knobs[] = {
    KNOB_OWN_INT(TP_MOE, "moe_tp", 0, 1024, "0", "ranks that share an expert; 0 = all"),
    KNOB_OWN_ENUM(TP_ATTENTION, "tp_attention", "split|as_set", "split",
                  "attention over all ranks' heads, or as attention.tp says"),
    KNOB_OWN_ENUM(TP_COLLECTIVE, "tp_collective", "all_reduce|reduce_scatter", "all_reduce",
                  "what adds up: one all-reduce, or a reduce-scatter and an all-gather"),
    KNOB_OWN_ENUM(TP_EXPERTS, "tp_experts", "grouped|engine", "grouped",
                  "grouped GEMMs, or the engine's fused expert layer (attention.engine: whose)"),
    KNOB_OWN_INT(TP_TOKENS, "tp_tokens", 0, 1048576, "0",
                 "tokens of all ranks together; 0 = ranks times batch, and never more"),
    KNOB_END,
};

/* moe_tp is searched over the powers of two that fit. */
static const struct knob_search tp_search[] = {
    {.key = "moe_tp", .values = KNOB_LIST, .list = {1, 2, 4, 8, 16, 32}},
    {.key = "tp_collective", .values = KNOB_LIST, .list = {0}, .unordered = true},
    KNOB_SEARCH_END,
};

static int group_of(const struct layer_spec *spec, const struct knobs *k)
{
    return k->own[TP_MOE] ? k->own[TP_MOE] : spec->ranks;
}

static int tp_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size)
{
    const struct moe_model *m = spec->model;
    int g = group_of(spec, k);

    if (spec->ranks % g)
        return layer_infeasible(why, size, "moe_tp %d does not divide %d ranks", g, spec->ranks);
    if (m->inter % g)
        return layer_infeasible(why, size, "moe_tp %d does not divide the experts' width %d", g,
                                m->inter);
    if (m->experts % (spec->ranks / g))
        return layer_infeasible(why, size,
                                "%d experts are not divisible by the %d groups of moe_tp %d: a "
                                "larger moe_tp",
                                m->experts, spec->ranks / g, g);
    if (k->own[TP_EXPERTS] == EXPERTS_ENGINE && m->matrices == 2)
        return layer_infeasible(why, size,
                                "tp_experts engine: its experts have no gate, and engines' fused "
                                "layers were measured with one");
    if (spec->attention && k->own[TP_ATTENTION] == ATTENTION_AS_SET && spec->attention_tp > 1 &&
        spec->ranks % spec->attention_tp)
        return layer_infeasible(why, size, "attention.tp %d does not divide %d ranks",
                                spec->attention_tp, spec->ranks);
    return 0;
}

/* Is token t of a rank beyond those that there are? They fill the ranks evenly. */
static bool surplus(int ranks, int rank, int t, int tokens)
{
    return tokens > 0 && t * ranks + rank >= tokens;
}

/* The routing as the ranks see it: an expert of group p is an expert of each of its g ranks. */
static int routing_spread(const struct plan_routing *from, int g, int tokens,
                          struct plan_routing **out)
{
    size_t rows = (size_t)from->ranks * (size_t)from->tokens * (size_t)from->topk, n = 0;
    int local = from->experts / (from->ranks / g);
    struct plan_routing *r = calloc(1, sizeof *r);

    *out = r;
    if (!r)
        return ERR_NOMEM;
    *r = (struct plan_routing){.ranks = from->ranks,
                               .tokens = from->tokens,
                               .topk = from->topk * g,
                               .experts = from->experts * g};
    r->expert = malloc(rows * (size_t)g * sizeof *r->expert);
    if (!r->expert)
        return ERR_NOMEM;
    for (size_t i = 0; i < rows; i++) {
        int at = (int)(i / (size_t)from->topk), e = from->expert[i];

        if (surplus(from->ranks, at / from->tokens, at % from->tokens, tokens))
            e = -1;

        for (int j = 0; j < g; j++)
            r->expert[n++] = e < 0 ? -1 : (e / local * g + j) * local + e % local;
    }
    return 0;
}

struct tp {
    struct layer_builder b;
    int stream, sms, comm, ranks;
    int rows;      /* tokens that a rank has while it computes shared experts and gates */
    int64_t bytes; /* of all ranks' tokens */
    bool engine;   /* its fused expert layer */
    bool scatter;  /* a reduce-scatter where tokens are added up, an all-gather before they are
                      needed */
};

static int collective(struct tp *t, enum plan_op_kind kind)
{
    return layer_collective_over(&t->b, kind, t->stream, t->comm, t->bytes, t->ranks, -1);
}

/* Shared experts: split over the ranks where each has all tokens, else whole on its own. */
static void tp_shared(struct tp *t, int width, enum moe_part part)
{
    const struct moe_model *m = t->b.spec->model;
    int own = t->scatter ? width : (width + t->ranks - 1) / t->ranks;
    int up = (m->matrices == 2 ? 1 : 2) * own;

    if (!width)
        return;
    layer_dense_op(&t->b, OP_MLP_UP, part, t->stream, t->sms, (int[3]){t->rows, up, m->hidden}, -1);
    layer_dense_op(&t->b, OP_MLP_ACT, part, t->stream, t->sms, (int[3]){t->rows, own, 0}, -1);
    layer_dense_op(&t->b, OP_MLP_DOWN, part, t->stream, t->sms, (int[3]){t->rows, m->hidden, own},
                   -1);
}

static void tp_gate(struct tp *t)
{
    const struct layer_spec *spec = t->b.spec;
    const struct moe_model *m = spec->model;
    int op =
        layer_dense_op(&t->b, OP_ROUTER, MOE_HEAD, t->stream, t->sms,
                       (int[3]){t->rows, spec->router_experts + m->zero_experts, m->hidden}, -1);

    if (op >= 0)
        t->b.plan->ops[op].dtype = DTYPE_BF16;
    if (m->expert_hidden != m->hidden)
        layer_dense_op(&t->b, OP_MLP_UP, MOE_HEAD, t->stream, t->sms,
                       (int[3]){t->rows, m->expert_hidden, m->hidden}, -1);
}

/* Sums the rows of a token's experts on this rank: an element-wise kernel that reads them all. */
static void tp_sum(struct tp *t, double rows)
{
    int op = layer_dense_op(&t->b, OP_MLP_ACT, MOE_HEAD, t->stream, t->sms,
                            (int[3]){(int)rows + 1, t->b.spec->model->expert_hidden / 3, 0}, -1);

    if (op >= 0)
        t->b.plan->ops[op].dtype = DTYPE_BF16;
}

static void tp_layer(struct tp *t, double expert_rows)
{
    struct layer_builder *b = &t->b;
    const struct layer_round whole = {0, 1};
    const struct layer_spec *spec = b->spec;
    /* Engines' fused kernels take small tiles where experts have few rows, as masked kernels do;
     * contiguous ones fill each expert up to a tile. */
    double mean = expert_rows * t->ranks / spec->model->experts;
    enum plan_gemm gemm = mean < TP_FEW_ROWS ? GEMM_MASKED : GEMM_CONTIGUOUS;
    struct layer_ffn f = {t->sms, t->sms, t->sms, gemm, gemm, 0, 0};
    bool split = spec->attention_tp == t->ranks && t->ranks > 1;

    if (spec->attention) {
        layer_attention(b, t->stream, t->sms, -1);
        if (split)
            collective(t, t->scatter ? OP_REDUCE_SCATTER : OP_ALL_REDUCE);
        else if (spec->attention_tp > 1)
            layer_collective(b, OP_REDUCE_SCATTER, t->stream, t->comm, layer_tp_bytes(b), -1);
    }
    tp_gate(t);
    if (!t->engine)
        tp_shared(t, spec->model->shared_inter, MOE_SHARED);
    tp_shared(t, spec->model->beside_inter, MOE_DENSE);
    if (t->scatter && t->ranks > 1)
        collective(t, OP_ALL_GATHER);
    if (t->engine) {
        layer_experts(b, t->stream, t->sms, spec->tokens * t->ranks,
                      (spec->model->shared_inter + t->ranks - 1) / t->ranks, -1);
    } else {
        layer_ffn(b, whole, t->stream, &f, -1, -1);
        tp_sum(t, expert_rows);
    }
    if (t->ranks > 1)
        collective(t, t->scatter ? OP_REDUCE_SCATTER : OP_ALL_REDUCE);
    if (spec->model->expert_hidden != spec->model->hidden)
        layer_dense_op(b, OP_MLP_DOWN, MOE_HEAD, t->stream, t->sms,
                       (int[3]){t->rows, spec->model->hidden, spec->model->expert_hidden}, -1);
    if (t->scatter && spec->attention && spec->attention_tp > 1)
        layer_collective(b, OP_ALL_GATHER, t->stream, t->comm, layer_tp_bytes(b), -1);
}

/* What works on all ranks' tokens works on those that there are. */
static void tokens_set(struct plan *plan, int all, int tokens)
{
    for (int i = 0; i < plan->num_ops && tokens > 0 && tokens < all; i++) {
        struct plan_op *op = &plan->ops[i];

        if (op->rows == all)
            op->rows = tokens;
        op->coll_bytes = op->coll_bytes * tokens / all;
    }
}

static int tp_build(const struct layer_spec *spec, const struct knobs *k, struct plan **out)
{
    int g = group_of(spec, k), err;
    struct moe_model wide = *spec->model;
    struct layer_spec mine = *spec;
    struct plan_routing *spread = NULL;
    struct tp t = {.ranks = spec->ranks};

    *out = NULL;
    if (!wide.expert_hidden)
        wide.expert_hidden = wide.hidden;
    if (!mine.router_experts)
        mine.router_experts = wide.experts;
    wide.experts *= g;
    wide.inter /= g;
    mine.model = &wide;
    mine.comm = COMM_NCCL;
    if (k->own[TP_ATTENTION] == ATTENTION_SPLIT)
        mine.attention_tp = spec->ranks;
    err = routing_spread(spec->routing, g, k->own[TP_TOKENS], &spread);
    if (err)
        goto out;
    mine.routing = spread;
    layer_begin(&t.b, &policy_tp, &mine, k, false);
    t.stream = layer_stream(&t.b, "main", 0);
    t.sms = t.b.sms_all;
    t.comm = layer_comm_all(&t.b);
    t.scatter = k->own[TP_COLLECTIVE] == COLLECTIVE_SCATTER || mine.attention_tp != spec->ranks;
    t.engine = k->own[TP_EXPERTS] == EXPERTS_ENGINE;
    t.rows = spec->tokens * (t.scatter ? 1 : spec->ranks);
    t.bytes = (int64_t)spec->tokens * spec->ranks * wide.expert_hidden * 2;
    for (t.b.layer = 0; t.b.layer < spec->layers; t.b.layer++)
        tp_layer(&t, (double)spec->tokens * g * spec->model->topk);
    err = layer_finish(&t.b, out);
    if (!err)
        tokens_set(*out, spec->tokens * spec->ranks, k->own[TP_TOKENS]);
out:
    if (!err) { /* the plan borrows its routing, so it keeps this one */
        (*out)->own_routing = spread;
        return 0;
    }
    if (spread)
        free(spread->expert);
    free(spread);
    return err;
}

static void tp_settings(const struct knobs *k, const struct policy_place *place, FILE *f)
{
    (void)place;
    fprintf(f, "SGLang: --tp-size RANKS --ep-size RANKS/%d, no --moe-a2a-backend\n",
            k->own[TP_MOE] ? k->own[TP_MOE] : 1);
    fprintf(f, "vLLM: --tensor-parallel-size RANKS%s\n",
            k->own[TP_MOE] ? " --enable-expert-parallel" : "");
}

const struct policy policy_tp = {
    .name = "tp",
    .summary = "tensor-parallel experts (alone or with EP), all-reduce instead of an all-to-all",
    .knobs = tp_knobs,
    .search = tp_search,
    .settings = tp_settings,
    .check = tp_check,
    .build = tp_build,
    .own_kernels = true,
};
