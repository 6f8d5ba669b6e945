/* `mega`: one kernel for the whole expert layer (DeepGEMM's MegaMoE, pulls 304, 316, 364, 377).
 *
 * A fused kernel holds all SMs; its parts run on warps of their own, each on a lane: dispatch warps
 * pull rows wave by wave; GEMM warps work through the experts in waves, all gate+up blocks of one
 * (activation and quantisation in their epilogue), then its down blocks, whose epilogue stores rows
 * into their owners' buffers; after the last a barrier, and the same warps add up top-k. A wave's
 * gate+up waits for its rows, its down for its gate+up, a store for its blocks. On Hopper two
 * launches: dispatch with gate+up, then down with combine. */
#include <stdlib.h>

#include "base/err.h"
#include "model/law/mega.h"
#include "model/policy/layer.h"

enum { MEGA_RULES, MEGA_BLOCK_M, MEGA_WAVE, MEGA_PULL_SMS, MEGA_ORDER, MEGA_SHARED, MEGA_LAUNCHES };
enum { ORDER_PHASED, ORDER_INTERLEAVED };
enum { SHARED_AS_SET, SHARED_INSIDE };
enum { HOPPER = 90 };

static const struct opt mega_knobs[] = {
    KNOB_OWN_ENUM(MEGA_RULES, "mega_rules", "304|316|364", "364",
                  "Blackwell: whose block sizes and waves: DeepGEMM's pull 304, 316 or 364"),
    KNOB_OWN_INT(MEGA_BLOCK_M, "mega_block_m", 0, 256, "0", "rows of a block; 0 = by the rules"),
    KNOB_OWN_INT(MEGA_WAVE, "experts_per_wave", 0, 1024, "0",
                 "local experts worked through together; 0 = by the rules"),
    KNOB_OWN_INT(MEGA_PULL_SMS, "pull_num_sms", 0, 1024, "0",
                 "CTAs whose dispatch warps pull; 0 = all"),
    KNOB_OWN_ENUM(
        MEGA_ORDER, "mega_order", "phased|interleaved", "phased",
        "gate+up blocks of a wave, then its down blocks; or the next wave's between them"),
    KNOB_OWN_ENUM(MEGA_SHARED, "mega_shared", "as_set|inside", "as_set",
                  "shared expert as shared_expert says, or inside the kernel"),
    KNOB_OWN_INT(MEGA_LAUNCHES, "mega_launches", 0, 2, "0",
                 "kernels that it is launched as; 0 = 2 on Hopper, 1 on Blackwell"),
    KNOB_SHARED,
    KNOB_END,
};

static const struct knob_search mega_search[] = {
    {.key = "mega_order", .values = KNOB_LIST, .list = {0}, .unordered = true},
    KNOB_SEARCH_END,
};

static const char *const mega_archs[] = {"sm_90", "sm_100", "sm_103", NULL};

static int launches_of(const struct layer_spec *spec, const struct knobs *k)
{
    if (k->own[MEGA_LAUNCHES])
        return k->own[MEGA_LAUNCHES];
    return spec->arch == HOPPER ? 2 : 1;
}

static enum plan_dtype expert_dtype(const struct layer_spec *spec)
{
    return spec->typed ? spec->part_dtype[MOE_EXPERTS] : spec->gemm_dtype;
}

static int check_dtype(const struct layer_spec *spec, char *why, size_t size)
{
    enum plan_dtype dtype = expert_dtype(spec);
    bool hopper = spec->arch == HOPPER;

    if (dtype == DTYPE_BF16 || (hopper ? dtype == DTYPE_FP8 : dtype == DTYPE_MXFP4))
        return 0;
    return layer_infeasible(why, size,
                            hopper ? "mega has kernels for FP8 and BF16 weights on Hopper: "
                                     "gemm_dtype fp8"
                                   : "mega has kernels for MXFP4 weights with FP8 activations, and "
                                     "for BF16, on Blackwell: gemm_dtype mxfp4");
}

static int mega_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size)
{
    struct layer_spec at = *spec;

    if (spec->ranks > spec->ranks_per_node)
        return layer_infeasible(
            why, size,
            "mega stores into its peers' memory: EP %d is more than the %d GPUs "
            "of one NVLink domain",
            spec->ranks, spec->ranks_per_node);
    if (spec->dense)
        return layer_infeasible(why, size, "mega is for layers with experts");
    if (spec->model->matrices == 2)
        return layer_infeasible(why, size, "mega has gated experts only");
    if (k->own[MEGA_PULL_SMS] > spec->num_sms)
        return layer_infeasible(why, size, "pull_num_sms %d is above the GPU's %d SMs",
                                k->own[MEGA_PULL_SMS], spec->num_sms);
    at.comm = COMM_NCCL; /* what is left to check asks for no buffers */
    at.normal_num_sms = 1;
    return check_dtype(spec, why, size) ? ERR_INFEASIBLE : layer_check(&at, k, why, size);
}

struct mega {
    struct layer_builder b;
    int main_stream, pull, mma, store; /* and its lanes */
    int block_m, wave, waves, pull_sms;
    int *pulled, *up, *sent;
};

static struct layer_experts experts_of(const struct mega *m, int w)
{
    int local = m->b.spec->model->experts / m->b.spec->ranks, first = w * m->wave;

    return (struct layer_experts){w, m->waves, first,
                                  local - first < m->wave ? local - first : m->wave};
}

static void pull(struct mega *m, int w)
{
    m->pulled[w] = layer_part_dispatch(&m->b, experts_of(m, w), m->pull, m->pull_sms, m->block_m,
                                       LAW_MEGA_BLOCK_N);
}

static void gemm(struct mega *m, enum plan_op_kind kind, int w, int after)
{
    int op = layer_part_gemm(&m->b, kind, experts_of(m, w), m->mma, m->pulled[w], after);

    if (kind == OP_GEMM_UP)
        m->up[w] = op;
    else
        m->sent[w] = op; /* until its store takes the place */
}

static void store(struct mega *m, int w)
{
    int down = m->sent[w];

    m->sent[w] = layer_part_store(&m->b, experts_of(m, w), m->store, down, m->up[w]);
}

/* The epilogue that stores a block is its CTA's own: no CTA is more than a block ahead of it. */
static int stored_before(const struct mega *m, int w)
{
    return w > 0 ? m->sent[w - 1] : -1;
}

static void down_and_store(struct mega *m, int w)
{
    gemm(m, OP_GEMM_DOWN, w, m->up[w]);
    layer_also_after(&m->b, stored_before(m, w), DEP_END);
    store(m, w);
}

static void shared_inside(struct mega *m)
{
    if (m->b.knobs->own[MEGA_SHARED] == SHARED_INSIDE && layer_has_shared(m->b.spec))
        layer_shared(&m->b, m->mma, m->b.sms_all, -1);
}

/* One launch. Interleaved: the next wave's gate+up before this one's down. */
static void one_kernel(struct mega *m)
{
    bool ahead = m->b.knobs->own[MEGA_ORDER] == ORDER_INTERLEAVED;

    layer_fused(&m->b, m->main_stream, m->b.sms_all, -1);
    for (int w = 0; w < m->waves; w++)
        pull(m, w);
    shared_inside(m);
    for (int w = 0; w < m->waves; w++) {
        gemm(m, OP_GEMM_UP, w, ahead ? stored_before(m, w - 1) : stored_before(m, w));
        if (!ahead)
            down_and_store(m, w);
        else if (w > 0)
            down_and_store(m, w - 1);
    }
    if (ahead)
        down_and_store(m, m->waves - 1);
}

static void two_kernels(struct mega *m)
{
    layer_fused(&m->b, m->main_stream, m->b.sms_all, -1);
    for (int w = 0; w < m->waves; w++)
        pull(m, w);
    shared_inside(m);
    for (int w = 0; w < m->waves; w++)
        gemm(m, OP_GEMM_UP, w, -1);
    layer_fused(&m->b, m->main_stream, m->b.sms_all, -1);
    for (int w = 0; w < m->waves; w++)
        down_and_store(m, w);
}

static void mega_layer(struct mega *m, int launches)
{
    struct knobs k = *m->b.knobs;
    const struct knobs *kept = m->b.knobs;

    if (k.own[MEGA_SHARED] == SHARED_INSIDE)
        k.shared_expert = SHARED_LEFT_OUT; /* of what stands around the kernel */
    m->b.knobs = &k;
    layer_head(&m->b, m->main_stream, m->b.sms_all, -1);
    (launches == 2 ? two_kernels : one_kernel)(m);
    layer_combine_recv(&m->b, m->store, m->b.sms_all, m->sent, m->waves, -1);
    layer_fused_end(&m->b);
    layer_tail(&m->b, m->main_stream, m->b.sms_all);
    m->b.knobs = kept;
}

/* On Hopper there is one set. */
static enum law_mega_rules rules_of(const struct layer_spec *spec, const struct knobs *k)
{
    return spec->arch < LAW_MEGA_BLACKWELL ? LAW_MEGA_SM90
                                           : (enum law_mega_rules)k->own[MEGA_RULES];
}

static void mega_sizes(struct mega *m, const struct layer_spec *spec, const struct knobs *k)
{
    const struct moe_model *model = spec->model;
    struct law_mega in = {.rules = rules_of(spec, k),
                          .local = model->experts / spec->ranks,
                          .topk = spec->routing->topk,
                          .tokens = spec->tokens,
                          .num_sms = spec->num_sms};
    double rows = (double)spec->tokens * spec->ranks * in.topk / model->experts;

    m->block_m = k->own[MEGA_BLOCK_M] ? k->own[MEGA_BLOCK_M] : law_mega_block_m(in.rules, rows);
    m->wave = k->own[MEGA_WAVE]
                  ? k->own[MEGA_WAVE]
                  : law_mega_wave(in.rules, &in, m->block_m, 2 * model->inter / LAW_MEGA_BLOCK_N);
    if (m->wave > in.local)
        m->wave = in.local;
    m->waves = (in.local + m->wave - 1) / m->wave;
    m->pull_sms = k->own[MEGA_PULL_SMS] ? k->own[MEGA_PULL_SMS] : spec->num_sms;
}

static int mega_build(const struct layer_spec *spec, const struct knobs *k, struct plan **out)
{
    struct mega m = {0};
    int rc;

    mega_sizes(&m, spec, k);
    m.pulled = calloc(3 * (size_t)m.waves, sizeof *m.pulled);
    if (!m.pulled)
        return ERR_NOMEM;
    m.up = m.pulled + m.waves;
    m.sent = m.up + m.waves;
    layer_begin(&m.b, &policy_mega, spec, k, false);
    m.main_stream = layer_stream(&m.b, "main", 0);
    m.pull = layer_stream(&m.b, "lane.pull", 0);
    m.mma = layer_stream(&m.b, "lane.mma", 0);
    m.store = layer_stream(&m.b, "lane.store", 0);
    for (m.b.layer = 0; m.b.layer < spec->layers; m.b.layer++) {
        m.b.buffer = m.b.layer % 2;
        mega_layer(&m, launches_of(spec, k));
    }
    rc = layer_finish(&m.b, out);
    free(m.pulled);
    return rc;
}

static void mega_settings(const struct knobs *k, const struct policy_place *place, FILE *f)
{
    (void)k;
    if (place->blackwell)
        fprintf(f, "SGLang (DeepGEMM pull 304, merged): --moe-a2a-backend megamoe\n"
                   "vLLM (merged): --moe-backend deep_gemm_mega_moe\n");
    else
        fprintf(f,
                "SGLang (pull 29016, merged; DeepGEMM pull 383, merged): --moe-a2a-backend megamoe "
                "with SGLANG_OPT_USE_DEEPGEMM_MEGA_MOE=1\n");
}

const struct policy policy_mega = {
    .name = "mega",
    .summary = "one fused kernel: experts in waves, rows pulled and stored beside their GEMMs",
    .knobs = mega_knobs,
    .search = mega_search,
    .own_comm = 1 + COMM_MEGA,
    .archs = mega_archs,
    .settings = mega_settings,
    .check = mega_check,
    .build = mega_build,
    .own_kernels = true,
};
