/* `none`: nothing overlaps; all ops on one stream with all SMs. The baseline of every gain. */
#include "base/err.h"
#include "model/policy/layer.h"
#include "model/policy/shared.h"

enum { NONE_SHARED };
enum { BESIDE_NOTHING, BESIDE_DISPATCH, BESIDE_COMBINE, AS_ROUTED };

static const struct layer_round whole = {0, 1};

static const struct opt none_knobs[] = {
    KNOB_BOOL(split_phases, "false", "dispatch and combine as a send and a receive kernel each"),
    KNOB_SHARED,
    KNOB_OWN_ENUM(NONE_SHARED, "shared_beside", "nothing|dispatch|combine|routed", "nothing",
                  "shared expert beside an exchange instead, or as one more routed expert of the "
                  "least loaded rank"),
    KNOB_END,
};

/* The baseline is as it is set. */
static const struct knob_search none_search[] = {KNOB_SEARCH_END};

static int check_shared(const struct layer_spec *spec, const struct knobs *k, char *why,
                        size_t size)
{
    const struct plan_comm_traits *comm = plan_comm_traits(spec->comm);
    int where = k->own[NONE_SHARED];

    if (where == BESIDE_NOTHING || spec->dense)
        return 0;
    if (!layer_has_shared(spec))
        return layer_infeasible(why, size, "shared_beside: %s has no shared expert",
                                spec->model->name);
    if (where == AS_ROUTED && !shared_routed_num(spec->model))
        return layer_infeasible(why, size,
                                "shared_beside routed: the shared expert of %s is no multiple of a "
                                "routed one",
                                spec->model->name);
    if (where != AS_ROUTED && comm->beside != COMM_BESIDE_HOOK &&
        (comm->sms != COMM_SMS_HELD || spec->normal_num_sms >= spec->num_sms))
        return layer_infeasible(why, size,
                                "shared_beside %s: the kernels of comm %s hold all SMs to their "
                                "end",
                                where == BESIDE_DISPATCH ? "dispatch" : "combine", comm->text);
    return 0;
}

static int none_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size)
{
    if (k->split_phases && spec->comm != COMM_LOW_LATENCY)
        return layer_infeasible(why, size, "split_phases needs the low-latency kernels");
    return check_shared(spec, k, why, size) ? ERR_INFEASIBLE : layer_check(spec, k, why, size);
}

struct none {
    struct layer_builder b;
    int main_stream, shared_stream;
    bool hook;  /* receives apart */
    int where;  /* of the shared expert */
    int shared; /* its last op, if on a stream of its own; the next layer waits for it */
};

/* Beside an exchange that holds some SMs, on the others. */
static void shared_beside(struct none *n, int after)
{
    n->shared = layer_shared(&n->b, n->shared_stream, n->b.sms_all - layer_comm_all(&n->b), after);
}

static void dispatch(struct none *n, int after)
{
    struct layer_builder *b = &n->b;
    int comm = layer_comm_all(b), send;
    bool beside = n->where == BESIDE_DISPATCH;

    if (beside && !n->hook)
        shared_beside(n, after);
    if (!b->knobs->split_phases && !(beside && n->hook)) {
        layer_dispatch(b, n->main_stream, comm, -1);
        return;
    }
    send = layer_dispatch_send(b, whole, n->main_stream, comm, -1);
    if (beside)
        layer_shared(b, n->main_stream, b->sms_all, -1);
    layer_dispatch_recv(b, whole, n->main_stream, comm, send, -1);
}

static void combine(struct none *n, int after)
{
    struct layer_builder *b = &n->b;
    int comm = layer_comm_all(b), send;
    bool beside = n->where == BESIDE_COMBINE;

    if (beside && !n->hook)
        shared_beside(n, after);
    if (!b->knobs->split_phases && !(beside && n->hook)) {
        layer_combine(b, n->main_stream, comm, -1);
        return;
    }
    send = layer_combine_send(b, whole, n->main_stream, comm, -1);
    if (beside)
        layer_shared(b, n->main_stream, b->sms_all, -1);
    layer_combine_recv(b, n->main_stream, comm, &send, 1, -1);
}

static void none_layer(struct none *n)
{
    struct layer_builder *b = &n->b;
    enum plan_gemm gemm = layer_default_gemm(b->spec);
    int N = b->sms_all, last = layer_head(b, n->main_stream, N, n->shared);
    struct layer_ffn ffn = {N, N, N, gemm, gemm, 0, 0};

    dispatch(n, last);
    last = layer_ffn(b, whole, n->main_stream, &ffn, -1, -1);
    combine(n, last);
    layer_tail(b, n->main_stream, N);
}

static void dense_layer(struct layer_builder *b, int main_stream)
{
    if (b->spec->attention)
        layer_attention(b, main_stream, b->sms_all, -1);
    if (b->spec->attention && b->spec->attention_tp > 1)
        layer_collective(
            b, OP_ALL_REDUCE, main_stream, layer_comm_all(b),
            (int64_t)b->spec->tokens * b->spec->attention_tp * b->spec->model->hidden * 2, -1);
    layer_dense_mlp(b, main_stream, b->sms_all, -1);
}

static int build(const struct layer_spec *spec, const struct knobs *k, int where, struct plan **out)
{
    struct none n = {.where = where, .shared = -1};
    struct knobs at = *k;

    if (where != BESIDE_NOTHING)
        at.shared_expert = SHARED_LEFT_OUT; /* of what stands around */
    layer_begin(&n.b, &policy_none, spec, &at, false);
    n.main_stream = layer_stream(&n.b, "main", 0);
    n.hook = plan_comm_traits(spec->comm)->beside == COMM_BESIDE_HOOK;
    if (!n.hook && (where == BESIDE_DISPATCH || where == BESIDE_COMBINE))
        n.shared_stream = layer_stream(&n.b, "shared", 0);
    for (n.b.layer = 0; n.b.layer < spec->layers; n.b.layer++) {
        n.b.buffer = n.b.layer % 2;
        if (spec->dense)
            dense_layer(&n.b, n.main_stream);
        else
            none_layer(&n);
    }
    return layer_finish(&n.b, out);
}

static int none_build(const struct layer_spec *spec, const struct knobs *k, struct plan **out)
{
    struct shared_routed routed;
    int rc;

    if (k->own[NONE_SHARED] != AS_ROUTED || spec->dense)
        return build(spec, k, spec->dense ? BESIDE_NOTHING : k->own[NONE_SHARED], out);
    rc = shared_routed_open(spec, &routed);
    if (rc != 0)
        return rc;
    rc = build(&routed.spec, k, AS_ROUTED, out);
    if (rc == 0)
        (*out)->own_routing = routed.routing;
    else
        shared_routed_free(routed.routing);
    return rc;
}

const struct policy policy_none = {
    .name = "none",
    .summary = "no overlap: dispatch, experts, combine one after another with all SMs",
    .knobs = none_knobs,
    .same_bits = true,
    .search = none_search,
    .check = none_check,
    .build = none_build,
};
