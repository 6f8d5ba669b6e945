/* `eps`, the EPS-MoE expert pipeline (arXiv 2410.12247), prefill: local experts in PN groups; the
 * all-to-alls of one group run beside the GEMMs of another on their own stream and SMs. */
#include "base/err.h"
#include "model/policy/layer.h"

#define EPS_MAX_GROUPS 128

static const struct opt eps_knobs[] = {
    KNOB_INT(pipeline_num, 0, EPS_MAX_GROUPS, "0",
             "PN: groups of local experts; 0 = the best divisor, by simulation"),
    KNOB_INT(num_sms, 1, 1024, "16", "SMs of the all-to-alls"),
    KNOB_ENUM(gate_up_gemm, "auto|group|dense", "auto", "GroupGemm or DenseGemm for gate and up"),
    KNOB_ENUM(down_gemm, "auto|group|dense", "auto", "GroupGemm or DenseGemm for down"),
    KNOB_SHARED,
    KNOB_END,
};

static const struct knob_search eps_search[] = {
    {.key = "pipeline_num",
     .values = KNOB_DIVISORS,
     .from = 1,
     .to = EPS_MAX_GROUPS,
     .auto_word = "0"},
    {.key = "num_sms", .from = 4, .step = 4},
    {.key = "down_gemm",
     .from = GEMM_KIND_GROUP,
     .to = GEMM_KIND_DENSE,
     .step = 1,
     .auto_word = "auto"},
    {.key = "gate_up_gemm",
     .from = GEMM_KIND_GROUP,
     .to = GEMM_KIND_DENSE,
     .step = 1,
     .auto_word = "auto"},
    KNOB_SEARCH_END,
};

static int eps_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size)
{
    int err = layer_check(spec, k, why, size), local = spec->model->experts / spec->ranks;

    if (err)
        return err;
    if (plan_comm_traits(spec->comm)->kernels != COMM_KERNELS_A2A)
        return layer_infeasible(why, size,
                                "eps runs on library all-to-alls (comm: nccl or nccl_rank)");
    if (k->pipeline_num && local % k->pipeline_num)
        return layer_infeasible(why, size, "%d local experts are not divisible by pipeline_num %d",
                                local, k->pipeline_num);
    if (k->num_sms >= spec->num_sms)
        return layer_infeasible(why, size, "num_sms %d leaves no SM of %d to the GEMMs", k->num_sms,
                                spec->num_sms);
    return 0;
}

/* `auto` is resolved by the caller, who simulates; a plan built all the same takes GroupGemm. */
static enum plan_gemm gemm_of(int kind)
{
    return kind == GEMM_KIND_DENSE ? GEMM_DENSE : GEMM_CONTIGUOUS;
}

/* K: D0 D1 C0 D2 C1 ...; X: G[j] after D[j]. Returns the op on K that the next layer must wait for,
 * or -1 when the layer ends on the main stream. */
static int eps_layer(struct layer_builder *b, int main_stream, int compute, int comm, int after)
{
    const struct knobs *k = b->knobs;
    int PN = k->pipeline_num ? k->pipeline_num : 1, sms = b->sms_all - k->num_sms,
        gemm[EPS_MAX_GROUPS], sent = -1;
    struct layer_ffn f = {sms, sms, sms, gemm_of(k->gate_up_gemm), gemm_of(k->down_gemm), 0, 0};
    int head = layer_head(b, main_stream, b->sms_all, after), last = -1;

    sent = layer_a2a_dispatch(b, (struct layer_round){0, PN}, comm, k->num_sms, head);
    for (int j = 0; j < PN; j++) {
        int next = -1;

        if (j + 1 < PN)
            next = layer_a2a_dispatch(b, (struct layer_round){j + 1, PN}, comm, k->num_sms, -1);
        gemm[j] = layer_ffn(b, (struct layer_round){j, PN}, compute, &f, sent, -1);
        last = layer_a2a_combine(b, (struct layer_round){j, PN}, comm, k->num_sms, gemm[j]);
        sent = next;
    }
    if (b->spec->model->expert_hidden && b->spec->model->expert_hidden != b->spec->model->hidden) {
        layer_latent_up(b, main_stream, b->sms_all, last);
        last = -1;
    }
    if (b->knobs->shared_expert == SHARED_AFTER_COMBINE && layer_has_shared(b->spec)) {
        layer_shared(b, main_stream, b->sms_all, last);
        last = -1;
    }
    if (b->spec->attention && b->spec->attention_tp > 1) {
        layer_collective(b, OP_ALL_GATHER, main_stream, layer_comm_all(b), layer_tp_bytes(b), last);
        last = -1;
    }
    return last;
}

static int eps_build(const struct layer_spec *spec, const struct knobs *k, struct plan **out)
{
    struct layer_builder b;
    int main_stream, compute, comm, last = -1;

    layer_begin(&b, &policy_eps, spec, k, false);
    main_stream = layer_stream(&b, "main", 0);
    compute = layer_stream(&b, "compute", 0);
    comm = layer_stream(&b, "comm", -1);
    for (b.layer = 0; b.layer < spec->layers; b.layer++) {
        b.buffer = b.layer % 2;
        last = eps_layer(&b, main_stream, compute, comm, last);
    }
    return layer_finish(&b, out);
}

static void eps_headline(const struct knobs *k, char *buf, size_t size)
{
    snprintf(buf, size, ", PN %d, %d SMs", k->pipeline_num, k->num_sms);
}

static void eps_settings(const struct knobs *k, const struct policy_place *place, FILE *f)
{
    (void)k;
    (void)place;
    fprintf(f, "no public engine has EPS-MoE's pipeline (arXiv 2410.12247)\n");
}

const struct policy policy_eps = {
    .name = "eps",
    .summary = "EPS-MoE: expert groups pipelined, all-to-all beside GroupGemm or DenseGemm",
    .knobs = eps_knobs,
    .auto_comm = 1 + COMM_NCCL,
    .rounds_knob = "pipeline_num",
    .sms_knob = "num_sms",
    .search = eps_search,
    .headline = eps_headline,
    .settings = eps_settings,
    .check = eps_check,
    .build = eps_build,
};
