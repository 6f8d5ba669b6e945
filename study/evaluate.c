#include "study/evaluate.h"
#include "study/law_error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>

#include "base/err.h"
#include "base/log.h"
#include "model/law/v2.h"
#include "model/law/cost.h"
#include "model/placement.h"
#include "model/routing.h"

/* Layers of a plan where a policy spans layers: the first fill the pipeline, the last are measured.
 */
#define SPAN_LAYERS 4
#define SPAN_PERIOD 2
/* A point's plan gets layers enough for two periods to compare, and twice as many as long as these
 * differ by more than STEADY_WITHIN. */
#define STEADY_LAYERS 6
#define STEADY_MOST   24
#define STEADY_WITHIN 2e-3
/* Layers of a plan whose policy does not span layers: what starts the ranks apart fills the first,
 * the second is measured. Eight differ by less than 0.4% from two. */
#define WHOLE_LAYERS 2
/* Room for a scenario as text. */
#define KEY_SIZE 4096
/* A link that is never the limit. */
#define NO_LIMIT_GBPS 1e6

struct evaluator {
    bool hushed; /* another process says what is skipped */
    bool unsteady_said;
    bool whole_layers;
    int span_layers; /* of the plans that are made now; 0: SPAN_LAYERS */
    struct moe_model *model;
    struct moe_model view;   /* the model as if all layers were of the kind asked for */
    struct moe_model placed; /* the same with redundant experts counted */
    int kind;                /* of layer; -1 = those of most MoE layers */
    char *model_name;
    struct hw_profile *profile; /* as read, with the scenario's overrides applied in cost */
    char *profile_name;
    const struct hw_profile *borrowed;
    struct hw_profile *changed; /* as a counterfactual or the scenario has it; NULL = as it is */
    double changed_sms, changed_nvlink_GBps; /* the factor and the rate it was made for */
    struct whatif what;
    struct sim_emulation emulation;
    int fold; /* GPUs that ranks are folded onto; 0: none */

    struct plan_routing *routing;
    struct routing_stats routing_stats;
    char routing_key[1024];

    struct cost cost; /* of the profile in use */
    char cost_key[512];

    double *start_ns;

    /* The baseline of the last scenario, with and without spanning layers. */
    char none_key[2][KEY_SIZE];
    double none_us[2];
};

int evaluator_open(struct evaluator **out)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return ERR_NOMEM;
    (*out)->kind = -1;
    return 0;
}

void evaluator_whole_layers(struct evaluator *e)
{
    e->whole_layers = true;
}

void evaluator_use_layer(struct evaluator *e, int kind)
{
    e->kind = kind;
}

static void baseline_forget(struct evaluator *e)
{
    e->none_key[0][0] = e->none_key[1][0] = '\0';
}

static void cost_forget(struct evaluator *e)
{
    if (e->cost_key[0])
        cost_close(&e->cost);
    e->cost_key[0] = '\0';
}

void evaluator_close(struct evaluator *e)
{
    if (!e)
        return;
    moe_model_free(e->model);
    hw_profile_free(e->profile);
    hw_profile_free(e->changed);
    routing_free(e->routing);
    cost_forget(e);
    free(e->model_name);
    free(e->profile_name);
    free(e->start_ns);
    free(e);
}

static void changed_forget(struct evaluator *e)
{
    if (e->changed)
        cost_forget(e);
    hw_profile_free(e->changed);
    e->changed = NULL;
}

void evaluator_use_profile(struct evaluator *e, const struct hw_profile *profile)
{
    changed_forget(e);
    e->borrowed = profile;
    cost_forget(e);
    baseline_forget(e);
}

void evaluator_what_if(struct evaluator *e, const struct whatif *what)
{
    e->what = what ? *what : (struct whatif){0};
    changed_forget(e);
    baseline_forget(e);
}

void evaluator_emulate(struct evaluator *e, const struct sim_emulation *emulation)
{
    e->emulation = emulation ? *emulation : (struct sim_emulation){0};
    baseline_forget(e);
}

void evaluator_fold(struct evaluator *e, int gpus)
{
    e->fold = gpus;
    baseline_forget(e);
}

const struct hw_profile *evaluate_profile(const struct evaluator *e)
{
    return e->changed ? e->changed : e->borrowed ? e->borrowed : e->profile;
}

/* More SMs of the same kind: the tensor cores grow with them, HBM and links do not. */
static void sms_scale(struct hw_profile *p, double factor)
{
    static const enum hw_field_id fields[] = {HW_GPU_NUM_SMS, HW_GPU_BF16_TFLOPS,
                                              HW_GPU_FP8_TFLOPS};

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        p->f[fields[i]].value *= factor;
}

/* The profile that the cost laws read. What kernels push to their peers is bound by NVLink, so they
 * must see another NVLink too. */
static int profile_change(struct evaluator *e, const struct scenario *s)
{
    double sms = e->what.sm_factor > 0 ? e->what.sm_factor : 1;
    double nvlink = e->what.infinite_nvlink ? NO_LIMIT_GBPS : s->nvlink_GBps;
    int err;

    if (e->changed && e->changed_sms == sms && e->changed_nvlink_GBps == nvlink)
        return 0;
    changed_forget(e);
    if (sms == 1 && !(nvlink > 0))
        return 0;
    err = hw_profile_copy(evaluate_profile(e), &e->changed);
    if (err)
        return err;
    e->changed_sms = sms;
    e->changed_nvlink_GBps = nvlink;
    sms_scale(e->changed, sms);
    if (nvlink > 0)
        e->changed->f[HW_NET_NVLINK_GBPS].value = nvlink;
    return 0;
}

static int name_keep(char **kept, const char *name)
{
    free(*kept);
    *kept = strdup(name);
    return *kept ? 0 : ERR_NOMEM;
}

/* What the user asked to be let through stands beside every result. */
static void ignored_say(const struct evaluator *e, const struct moe_model *m)
{
    const char *at = m->notes;

    while (!e->hushed && at && *at) {
        size_t n = strcspn(at, "\n");
        const char *told = strstr(at, "is ignored, as asked");

        if (told && told < at + n)
            log_warn("%s: %.*s", m->name, (int)n, at);
        at += n + (at[n] == '\n');
    }
}

int evaluator_use_model(struct evaluator *e, const char *name, struct moe_model *model)
{
    moe_model_free(e->model);
    e->model = model;
    return name_keep(&e->model_name, name);
}

static int model_load(struct evaluator *e, const char *name, const char *ignore)
{
    struct moe_model *m;
    int err;

    if (e->model_name && !strcmp(e->model_name, name))
        return 0;
    err = moe_model_read_but(name, ignore, &m);
    if (err)
        return err;
    ignored_say(e, m);
    moe_model_free(e->model);
    e->model = m;
    return name_keep(&e->model_name, name);
}

int evaluate_model(struct evaluator *e, const struct scenario *s, const struct moe_model **out)
{
    int err = model_load(e, s->model, s->ignore_key);

    *out = err ? NULL : e->model;
    return err;
}

static int profile_load(struct evaluator *e, const char *name)
{
    struct hw_profile *p;
    int err;

    if (e->borrowed || (e->profile_name && !strcmp(e->profile_name, name)))
        return 0;
    err = hw_profile_read(name, &p);
    if (err)
        return err;
    hw_profile_free(e->profile);
    changed_forget(e);
    e->profile = p;
    cost_forget(e);
    return name_keep(&e->profile_name, name);
}

static int cost_load(struct evaluator *e, const struct scenario *s)
{
    char key[512];
    int err;

    snprintf(key, sizeof key, "%s %p %.17g %.17g", s->profile, (const void *)e->borrowed,
             e->changed ? e->changed_sms : 1, e->changed ? e->changed_nvlink_GBps : 0);
    if (!strcmp(key, e->cost_key))
        return 0;
    cost_forget(e);
    err = cost_open(evaluate_profile(e), &e->cost);
    if (!err)
        memcpy(e->cost_key, key, sizeof key);
    return err;
}

static int ranks_of(const struct scenario *s)
{
    return s->nodes * s->gpus_per_node;
}

#define MAX_RANKS 8192 /* plans hold a number for each pair */

/* Ranks that reach each other over NVLink: what laws and plans call a node. */
static int near_ranks(const struct scenario *s)
{
    if (s->nvlink_domain == 0)
        return s->gpus_per_node;
    return s->nvlink_domain < ranks_of(s) ? s->nvlink_domain : ranks_of(s);
}

/* Tokens of the past per rank that placements are made from: some hundred rows an expert. */
#define HISTORY_TOKENS 4096
#define HISTORY_RANKS  4

/* Renames the experts of a table as the scenario places them. The loads are those of another step
 * with the same popularity: a placement does not know the step it will serve. */
static int routing_move(const struct scenario *s, const struct moe_model *m,
                        const struct routing_spec *spec, struct plan_routing *r)
{
    const struct placement_spec where = {.kind = (enum placement_kind)s->placement,
                                         .experts = m->experts,
                                         .redundant = s->redundant_experts,
                                         .ranks = ranks_of(s),
                                         .ranks_per_node = s->gpus_per_node,
                                         .n_group = m->n_group};
    struct routing_spec past_spec = *spec;
    struct plan_routing *past = NULL;
    struct placement *p = NULL;
    double *loads = calloc((size_t)m->experts, sizeof *loads);
    bool recorded = spec->kind == ROUTING_FILE;
    int err = loads ? 0 : ERR_NOMEM;

    past_spec.draw += 1000003;
    if (!err && !recorded)
        err = routing_make(&past_spec, HISTORY_RANKS, HISTORY_TOKENS, m->experts, m->topk, &past);
    if (!err) {
        placement_loads(recorded ? r : past, loads);
        err = placement_make(&where, loads, &p);
    }
    if (!err)
        err = routing_place(r, p->replica_first, p->replica, p->physical);
    placement_free(p);
    routing_free(past);
    free(loads);
    return err;
}

/* Choices beyond the experts that compute: sent nowhere. */
static void zero_experts_mask(struct plan_routing *r, int experts)
{
    size_t n = (size_t)r->ranks * (size_t)r->tokens * (size_t)r->topk;

    if (r->experts == experts)
        return;
    for (size_t i = 0; i < n; i++)
        if (r->expert[i] >= experts)
            r->expert[i] = -1;
    r->experts = experts;
}

static int routing_load(struct evaluator *e, const struct scenario *s)
{
    const struct moe_model *m = &e->view;
    bool balanced;
    int experts;
    struct routing_spec spec = {
        .kind = e->what.perfect_routing ? ROUTING_BALANCED : (enum routing_kind)s->routing,
        .sigma = s->sigma,
        .exponent = s->exponent,
        .rank_skew = s->rank_skew,
        .path = s->routing_file,
        .layer = s->routing_layer,
        .seed = (unsigned long)s->seed,
        .draw = (unsigned long)s->draw,
        .n_group = m->n_group,
        .topk_group = m->topk_group,
    };
    char key[1024];
    struct plan_routing *r;
    int err;

    /* Perfect balance is over the experts' places, whatever lives there. */
    balanced = spec.kind == ROUTING_BALANCED;
    experts = m->experts + (balanced ? s->redundant_experts : 0);
    if (m->zero_experts) /* all are chosen among; those without weights are masked below */
        spec.n_group = spec.topk_group = 1;
    snprintf(key, sizeof key,
             "%d %.17g %.17g %.17g %s %d %lu %lu %d %d | %d %d %d %d %d | %d %d %d", spec.kind,
             spec.sigma, spec.exponent, spec.rank_skew, spec.path ? spec.path : "", spec.layer,
             spec.seed, spec.draw, spec.n_group, spec.topk_group, ranks_of(s), s->gpus_per_node,
             s->batch, experts + m->zero_experts, m->topk, s->placement, s->redundant_experts,
             e->fold);
    if (e->routing && !strcmp(key, e->routing_key))
        return 0;
    err = routing_make(&spec, ranks_of(s), s->batch, experts + m->zero_experts, m->topk, &r);
    if (!err)
        zero_experts_mask(r, experts);
    if (!err && !balanced && (s->placement || s->redundant_experts))
        err = routing_move(s, m, &spec, r);
    if (!err && e->fold > 0 && e->fold < r->ranks && r->ranks % e->fold == 0)
        routing_fold(r, e->fold);
    if (err) {
        routing_free(r);
        return err;
    }
    routing_free(e->routing);
    e->routing = r;
    routing_stats_of(r, ranks_of(s), &e->routing_stats);
    memcpy(e->routing_key, key, sizeof key);
    return 0;
}

/* DeepEP's low-latency kernels are compiled for these hidden sizes and for so many choices. */
static const int low_latency_hidden[] = {2048, 2560, 3072, 4096, 5120, 6144, 7168, 8192};
enum { LOW_LATENCY_TOPK = 11 };

/* The smallest hidden size that the kernels have and `hidden` can be padded to; 0: none. */
static int low_latency_padded(int hidden)
{
    for (size_t i = 0; i < sizeof low_latency_hidden / sizeof *low_latency_hidden; i++)
        if (low_latency_hidden[i] >= hidden)
            return low_latency_hidden[i];
    return 0;
}

static bool low_latency_takes(const struct moe_model *m)
{
    return low_latency_padded(m->expert_hidden) == m->expert_hidden && m->topk <= LOW_LATENCY_TOPK;
}

/* auto: low-latency kernels where the batch fits their buffers and they take the model. */
static enum plan_comm comm_of(const struct evaluator *e, const struct scenario *s)
{
    bool own = hw_value(evaluate_profile(e), HW_LL_KERNEL_RULE) > 0.5;

    if (s->comm != COMM_CHOICE_AUTO)
        return (enum plan_comm)(s->comm - 1);
    return s->phase == PHASE_OF_DECODE && s->batch <= s->max_dispatch_tokens &&
                   (own || low_latency_takes(&e->view))
               ? COMM_LOW_LATENCY
               : COMM_NORMAL;
}

/* DeepEP V2 sets its own SM count, by the links of the cluster. */
static int v2_num_sms(const struct evaluator *e, const struct layer_spec *spec)
{
    const struct hw_profile *p = evaluate_profile(e);
    int node = spec->ranks < spec->ranks_per_node ? spec->ranks : spec->ranks_per_node;
    struct law_v2_sms in = {.device_sms = spec->num_sms,
                            .nvlink_GBps = 0.9 * hw_value(p, HW_NET_NVLINK_GBPS),
                            .rdma_GBps = hw_value(p, HW_NET_NIC_GBITPS) / 8 *
                                         hw_value(p, HW_NET_NICS_PER_GPU),
                            .scaleout_ranks = spec->ranks / node,
                            .scaleup_ranks = node,
                            .experts = spec->model->experts,
                            .topk = spec->model->topk,
                            .direct = spec->comm == COMM_DEEPEP_V2_DIRECT};

    return law_v2_num_sms(&in);
}

static int num_sms_of(const struct evaluator *e)
{
    return (int)hw_value(evaluate_profile(e), HW_GPU_NUM_SMS);
}

static bool with_attention(const struct evaluator *e, const struct scenario *s,
                           const struct policy *p)
{
    return s->attention == ATTENTION_ON ||
           (s->attention == ATTENTION_AUTO && (p->spans_layers || e->whole_layers));
}

static bool whole(const struct evaluator *e, const struct scenario *s)
{
    return e->whole_layers && s->attention != ATTENTION_OFF;
}

static int plan_layers(const struct evaluator *e, const struct scenario *s, const struct policy *p)
{
    if (!p->spans_layers)
        return whole(e, s) ? WHOLE_LAYERS : 1;
    return e->span_layers ? e->span_layers : SPAN_LAYERS;
}

/* A context matters only where attention is simulated. */
static int context_check(const struct moe_model *m, const struct scenario *s)
{
    bool decode = s->phase == PHASE_OF_DECODE;
    int context = decode ? s->context_len : s->cached_len + s->prompt_len;

    if (!m->max_context || context <= m->max_context)
        return 0;
    log_error("%s is %d, but the context of %s ends at %d tokens (%s)",
              decode ? "attention.context_len" : "attention.cached_len + prompt_len", context,
              m->name, m->max_context, m->path);
    return ERR_CONFIG;
}

double evaluate_kv_bytes(const struct scenario *s, const struct moe_model *m)
{
    if (s->kv_dtype == KV_AUTO && m->kv_bytes_per_element > 0)
        return m->kv_bytes_per_element;
    return s->kv_dtype == KV_FP8 ? 1 : 2;
}

static enum plan_dtype gemm_type(int choice)
{
    static const enum plan_dtype types[] = {DTYPE_FP8,   DTYPE_BF16, DTYPE_FP8,  DTYPE_NVFP4,
                                            DTYPE_MXFP4, DTYPE_W4A8, DTYPE_W4A16};

    return types[choice];
}

/* A type that the scenario states holds for all parts; of experts alone, for them alone. What is
 * said so is put into the model too, whose bytes memory counts. */
static void types_fill(const struct scenario *s, struct moe_model *m, struct layer_spec *out)
{
    out->gemm_dtype = gemm_type(s->gemm_dtype);
    out->typed = (m->quantised && s->gemm_dtype == GEMM_TYPE_AUTO) || s->expert_dtype;
    for (int p = 0; p < MOE_HEAD; p++)
        if (!m->quantised || s->gemm_dtype != GEMM_TYPE_AUTO)
            m->part[p] = (struct moe_weights){out->gemm_dtype, moe_dtype_bytes(out->gemm_dtype)};
    if (s->expert_dtype) {
        enum plan_dtype type = gemm_type(s->expert_dtype);

        m->part[MOE_EXPERTS] = (struct moe_weights){type, moe_dtype_bytes(type)};
    }
    for (int p = 0; p < MOE_PARTS; p++)
        out->part_dtype[p] = m->part[p].dtype;
}

/* All of a spec that needs no routing. */
static int spec_fill(struct evaluator *e, const struct scenario *s, const struct policy *p,
                     struct layer_spec *out)
{
    int err = model_load(e, s->model, s->ignore_key);

    if (!err && with_attention(e, s, p))
        err = context_check(e->model, s);
    if (!err)
        err = profile_load(e, s->profile);
    if (!err)
        err = profile_change(e, s);
    if (err)
        return err;
    e->view = e->kind < 0 ? *e->model : moe_model_of_layer(e->model, e->kind);
    e->placed = e->view;
    e->placed.experts += s->redundant_experts;
    *out = (struct layer_spec){
        .model = &e->placed,
        .router_experts = e->view.experts,
        .ranks = ranks_of(s),
        .ranks_per_node = near_ranks(s),
        .num_sms = num_sms_of(e),
        .arch = (int)hw_value(evaluate_profile(e), HW_GPU_ARCH),
        .tokens = s->batch,
        .decode = s->phase == PHASE_OF_DECODE,
        .comm = p->own_comm ? (enum plan_comm)(p->own_comm - 1) : comm_of(e, s),
        .dispatch_dtype = s->dispatch_dtype ? DTYPE_FP8 : DTYPE_BF16,
        .combine_dtype = (enum plan_dtype)s->combine_dtype,
        .max_dispatch_tokens = s->max_dispatch_tokens,
        .normal_num_sms = s->normal_num_sms,
        .attention = with_attention(e, s, p),
        .context_len = s->phase == PHASE_OF_DECODE ? s->context_len : s->cached_len,
        .q_tokens = s->phase == PHASE_OF_DECODE ? s->tokens_per_request : s->prompt_len,
        .attention_tp = s->attention_tp,
        .kv_bytes_per_element = evaluate_kv_bytes(s, e->model),
        .attn_engine = (enum plan_attn_engine)s->attn_engine,
        .layers = plan_layers(e, s, p),
        .program = s->program,
        .period_layers = p->spans_layers ? SPAN_PERIOD : 1,
    };
    if (whole(e, s) && e->view.attn.kind == ATTN_NONE) /* Nemotron's layers of experts */
        out->attention = false;
    types_fill(s, &e->placed, out);
    if (out->comm == COMM_DEEPEP_V2 || out->comm == COMM_DEEPEP_V2_DIRECT)
        out->normal_num_sms = v2_num_sms(e, out);
    return 0;
}

int evaluate_shape(struct evaluator *e, const struct scenario *s, const struct policy *p,
                   struct layer_spec *out)
{
    return spec_fill(e, s, p, out);
}

int evaluate_spec(struct evaluator *e, const struct scenario *s, const struct policy *p,
                  struct layer_spec *out)
{
    int err = spec_fill(e, s, p, out);

    if (!err)
        err = routing_load(e, s);
    if (!err)
        out->routing = e->routing;
    return err;
}

/* Scenario keys that do not fit together. */
static int scenario_check_keys(const struct scenario *s, char *why, size_t size)
{
    int domain = s->nvlink_domain, node = s->gpus_per_node;

    if (ranks_of(s) > MAX_RANKS)
        snprintf(why, size,
                 "%d ranks (cluster.nodes times cluster.gpus_per_node): at most %d are simulated",
                 ranks_of(s), MAX_RANKS);
    else if (s->fabric == SIM_FABRIC_FLAT && s->oversubscription > 1)
        snprintf(why, size,
                 "cluster.oversubscription %g needs leaves: cluster.fabric fat_tree or "
                 "rail",
                 s->oversubscription);
    else if (domain && domain % node && node % domain)
        snprintf(why, size, "cluster.nvlink_domain %d does not fit nodes of %d GPUs", domain, node);
    else if (s->routing == ROUTING_FILE && !*s->routing_file)
        snprintf(why, size, "routing.kind file needs routing.file");
    else if (s->routing != ROUTING_FILE && *s->routing_file)
        snprintf(why, size, "routing.file is given but routing.kind is not file");
    else
        return 0;
    return ERR_INFEASIBLE;
}

/* Kernels that were not written for this GPU. */
static int arch_check(const struct evaluator *e, const struct policy *p, char *why, size_t size)
{
    const struct hw_profile *profile = evaluate_profile(e);
    int arch = (int)hw_value(profile, HW_GPU_ARCH);

    if (policy_on_arch(p, arch))
        return 0;
    snprintf(why, size, "cluster.profile: %s has no kernels for sm_%d", p->name, arch);
    return ERR_INFEASIBLE;
}

/* What DeepEP's kernels refuse; the validator's own take any. */
static int kernels_check(const struct evaluator *e, const struct layer_spec *spec, char *why,
                         size_t size)
{
    const struct moe_model *m = spec->model;
    int padded = low_latency_padded(m->expert_hidden);

    if (hw_value(evaluate_profile(e), HW_LL_KERNEL_RULE) > 0.5)
        return 0;
    if (spec->comm == COMM_NORMAL && spec->normal_num_sms % 2) {
        snprintf(why, size,
                 "DeepEP's normal kernels take an even number of SMs, and normal_num_sms is %d: "
                 "%d or %d",
                 spec->normal_num_sms, spec->normal_num_sms - 1, spec->normal_num_sms + 1);
        return ERR_INFEASIBLE;
    }
    if (plan_comm_traits(spec->comm)->buffers != COMM_BUFFERS_BOUND || low_latency_takes(m))
        return 0;
    if (m->topk > LOW_LATENCY_TOPK)
        snprintf(why, size,
                 "DeepEP's low-latency kernels take top-%d at most, and %s has top-%d: comm "
                 "normal or nccl instead",
                 LOW_LATENCY_TOPK, m->name, m->topk);
    else if (padded)
        snprintf(why, size,
                 "DeepEP's low-latency kernels have no hidden size %d: pad it to %d in the "
                 "model's file, or comm normal or nccl",
                 m->expert_hidden, padded);
    else
        snprintf(why, size,
                 "DeepEP's low-latency kernels have no hidden size %d: comm normal or nccl instead",
                 m->expert_hidden);
    return ERR_INFEASIBLE;
}

/* A gain is over `none`, which must run on the same ranks. */
static int baseline_check(struct evaluator *e, const struct scenario *s, const struct policy *p,
                          char *why, size_t size)
{
    struct layer_spec spec;
    char none_why[160] = "";
    struct knobs none;
    int err;

    if (p == &policy_none)
        return 0;
    err = spec_fill(e, s, &policy_none, &spec);
    knobs_default(&policy_none, &none);
    if (!err)
        err = policy_none.check(&spec, &none, none_why, sizeof none_why);
    if (err == ERR_INFEASIBLE)
        snprintf(why, size, "none, which gains are held against, cannot run: %s", none_why);
    return err;
}

int evaluate_check(struct evaluator *e, const struct scenario *s, const struct policy *p,
                   const struct knobs *k, char *why, size_t size)
{
    struct layer_spec spec;
    int err = spec_fill(e, s, p, &spec);

    if (!err)
        err = scenario_check_keys(s, why, size);
    if (!err)
        err = arch_check(e, p, why, size);
    if (!err)
        err = kernels_check(e, &spec, why, size);
    if (!err)
        err = p->check(&spec, k, why, size);
    return err ? err : baseline_check(e, s, p, why, size);
}

int evaluate_settle(struct evaluator *e, const struct scenario *s, const struct policy *p,
                    struct knobs *k)
{
    struct layer_spec spec;
    int err = p->settle ? spec_fill(e, s, p, &spec) : 0;

    if (!err && p->settle)
        p->settle(&spec, k);
    return err;
}

int evaluate_plan(struct evaluator *e, const struct scenario *s, const struct policy *p,
                  const struct knobs *k, struct plan **out)
{
    struct layer_spec spec;
    int err = evaluate_spec(e, s, p, &spec);

    if (!err)
        err = p->build(&spec, k, out);
    /* Kernels of an emulation store to all peers, as if these were of one node. */
    if (!err && e->emulation.gpus > 0)
        (*out)->ranks_per_node = (*out)->ranks;
    return err;
}

/* Start times of the ranks, the earliest at 0. */
static int starts_draw(struct evaluator *e, const struct scenario *s)
{
    int W = ranks_of(s);
    double *start = realloc(e->start_ns, (size_t)W * sizeof *start), least = INFINITY;
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);

    if (start)
        e->start_ns = start;
    if (!start || !rng) {
        gsl_rng_free(rng);
        return ERR_NOMEM;
    }
    gsl_rng_set(rng, (unsigned long)s->seed + 7919 + 31ul * (unsigned long)s->draw);
    for (int i = 0; i < W; i++) {
        double scale = e->what.no_skew ? 0 : s->skew_us * 1e3;

        start[i] = s->skew_kind == SKEW_NORMAL        ? gsl_ran_gaussian(rng, scale)
                   : s->skew_kind == SKEW_EXPONENTIAL ? gsl_ran_exponential(rng, scale)
                                                      : scale * gsl_rng_uniform(rng);
        least = fmin(least, start[i]);
    }
    for (int i = 0; i < W; i++)
        start[i] -= least;
    gsl_rng_free(rng);
    return 0;
}

/* The counterfactual costs: what the profile says, changed in one respect. */
struct changed_cost {
    struct cost base;
    struct whatif what;
    const struct hw_profile *profile;
};

static void changed_work(void *self, const struct plan *plan, int rank, int op,
                         struct cost_work *out)
{
    struct changed_cost *c = self;

    c->base.work(c->base.self, plan, rank, op, out);
    law_error_apply(c->profile, &plan->ops[op], out);
    if (c->what.zero_sm_comm && plan_op_kind_class(plan->ops[op].kind) != OP_CLASS_COMPUTE) {
        out->grid = 1;
        out->push_GBps = INFINITY;
        out->cap_GBps = 0;
    }
}

static double changed_interference(void *self, const struct plan *plan, int rank, int op, int other)
{
    struct changed_cost *c = self;

    if (c->what.no_interference || c->what.zero_sm_comm)
        return 1;
    return c->base.interference(c->base.self, plan, rank, op, other);
}

static double changed_placement(void *self, const struct plan *plan, int rank, int op, int other)
{
    struct changed_cost *c = self;

    if (c->what.no_interference || c->what.zero_sm_comm)
        return 1;
    return c->base.placement(c->base.self, plan, rank, op, other);
}

static struct cost cost_of(struct evaluator *e, struct changed_cost *changed)
{
    struct cost cost = e->cost;

    *changed = (struct changed_cost){e->cost, e->what, evaluate_profile(e)};
    cost.self = changed;
    cost.work = changed_work;
    cost.interference = changed_interference;
    cost.placement = changed_placement;
    if (e->what.no_launch_gap)
        cost.graph_gap_ns = cost.cross_stream_ns = cost.eager_launch_ns = 0;
    return cost;
}

/* Mean over ranks and layers: bytes sent against what the links carry in a layer's time. */
static void links_use(const struct plan *plan, const struct sim_topology_cfg *topo,
                      const struct sim_stats *stats, struct evaluation *out)
{
    double ns = out->metrics.layer_ns * plan->num_layers * plan->ranks;
    double nic_GBps = topo->nic_GBps * topo->nics_per_node / topo->per_node;

    out->nvlink_util = topo->nvlink_GBps > 0 ? stats->nvlink_bytes / (topo->nvlink_GBps * ns) : 0;
    out->nic_util = stats->nic_bytes / (nic_GBps * ns);
}

static double share_of_assumed(const struct cost *cost, const struct plan *plan,
                               const struct trace *trace, int rank)
{
    double all = 0, assumed = 0;

    for (size_t i = 0; i < trace->num_spans; i++) {
        const struct trace_span *span = &trace->spans[i];
        struct cost_work w;

        if (span->rank != rank)
            continue;
        cost->work(cost->self, plan, rank, span->op, &w);
        all += span->end_ns - span->start_ns;
        if (w.assumed)
            assumed += span->end_ns - span->start_ns;
    }
    return all > 0 ? assumed / all : 0;
}

/* The scenario's network: the profile's rates unless the scenario says otherwise. */
static void topology_of(const struct evaluator *e, const struct scenario *s,
                        struct sim_topology_cfg *out)
{
    const struct hw_profile *p = evaluate_profile(e);
    double nics = s->nics_per_gpu > 0 ? s->nics_per_gpu : hw_value(p, HW_NET_NICS_PER_GPU);
    double nic =
        cost_nic_GBps(p) / hw_value(p, HW_NET_NICS_PER_GPU) * hw_value(p, HW_NET_FABRIC_DERATE);

    if (s->nic_Gbitps > 0)
        nic *= s->nic_Gbitps / hw_value(p, HW_NET_NIC_GBITPS);
    *out = (struct sim_topology_cfg){
        .endpoints = (uint32_t)ranks_of(s),
        .per_node = (uint32_t)s->gpus_per_node,
        .per_domain = (uint32_t)s->nvlink_domain,
        .nvlink_GBps = cost_nvlink_GBps(p),
        .nvlink_latency_ns = hw_value(p, HW_NET_NVLINK_LAT_US) * 1e3,
        .nics_per_node = (uint32_t)fmax(1, floor(nics * s->gpus_per_node + 0.5)),
        .nic_GBps = e->what.infinite_nic ? NO_LIMIT_GBPS : nic,
        .nic_latency_ns = hw_value(p, HW_NET_NIC_LAT_US) * 1e3,
        .fabric = (enum sim_fabric)s->fabric,
        .nodes_per_leaf = (uint32_t)s->nodes_per_leaf,
        .oversubscription = s->oversubscription,
        .spine_latency_ns = s->spine_latency_us * 1e3,
    };
    if (e->emulation.gpus > 0)
        out->per_domain = out->endpoints;
}

/* The fast engine knows links between two ports; uplinks of leaves are shared otherwise. */
static enum sim_flow_fidelity fidelity_of(const struct scenario *s)
{
    if (!s->fidelity)
        return SIM_FLOW_EXACT;
    return s->fabric == SIM_FABRIC_FLAT ? SIM_FLOW_FAST : SIM_FLOW_COALESCED;
}

int evaluate_machine(struct evaluator *e, const struct scenario *s, struct cost *cost,
                     struct sim_topology_cfg *topo)
{
    int err = cost_load(e, s);

    if (err)
        return err;
    *cost = e->cost;
    topology_of(e, s, topo);
    return 0;
}

bool evaluate_whole_layers(const struct evaluator *e, const struct scenario *s)
{
    return whole(e, s);
}

int evaluate_simulate(struct evaluator *e, const struct scenario *s, const struct plan *plan,
                      int counter_rank, struct evaluation *out, struct trace **trace_out)
{
    struct changed_cost changed;
    struct cost cost;
    struct sim_topology_cfg topo;
    struct trace *trace = NULL;
    struct trace_sink sink;
    struct sim_stats stats;
    struct sim_options options = {
        .emulation = e->emulation,
        .fidelity = fidelity_of(s),
        .tolerance = s->tolerance,
        .eager = s->eager,
        .jitter_sigma = e->what.no_jitter ? 0 : s->jitter,
        .seed = (unsigned long)s->seed + 104729 + 31ul * (unsigned long)s->draw,
        .counter_rank = counter_rank,
    };
    int err = cost_load(e, s);

    memset(out, 0, sizeof *out);
    if (err)
        return err;
    cost = cost_of(e, &changed);
    topology_of(e, s, &topo);
    err = starts_draw(e, s);
    options.start_ns = e->start_ns;
    if (!err)
        err = trace_new(&trace, "sim", plan->ranks);
    if (!err) {
        sink = trace_collect(trace);
        err = sim_run(plan, &cost, &topo, &options, &sink, &stats);
    }
    if (!err) {
        if (trace_out) /* measures do not depend on the order */
            trace_sort(trace);
        trace->events = stats.events;
        err = trace_measure(trace, plan, &out->metrics);
    }
    if (!err) {
        out->layer_us = out->metrics.layer_ns / 1e3;
        out->events = stats.events;
        out->num_sms = plan->num_sms;
        out->assumed_share = share_of_assumed(&cost, plan, trace, out->metrics.slowest_rank);
        links_use(plan, &topo, &stats, out);
    }
    if (err || !trace_out)
        trace_free(trace);
    else
        *trace_out = trace;
    return err;
}

static double layer_end_ns(const struct trace *trace, const struct plan *plan, int rank, int layer)
{
    double end_ns = 0;

    for (size_t i = 0; i < trace->num_spans; i++)
        if (trace->spans[i].rank == rank && plan->ops[trace->spans[i].op].layer == layer)
            end_ns = fmax(end_ns, trace->spans[i].end_ns);
    return end_ns;
}

/* By how much the period measured differs from the one before it, as a part of it; 0 for plans
 * without periods. */
static double period_change(const struct plan *plan, const struct trace *trace, int rank)
{
    double before, last;
    int from, to;

    if (!plan_period(plan, &from, &to) || 2 * from < to)
        return 0;
    last = layer_end_ns(trace, plan, rank, to) - layer_end_ns(trace, plan, rank, from);
    before = layer_end_ns(trace, plan, rank, from) - layer_end_ns(trace, plan, rank, 2 * from - to);
    return last > 0 ? fabs(before / last - 1) : 0;
}

/* What never settles is measured over its later half: a mean over many periods. */
static int unsteady_measure(const struct trace *trace, struct plan *plan, struct evaluation *out)
{
    int err;

    plan->period_layers = plan->num_layers / 2;
    err = trace_measure(trace, plan, &out->metrics);
    out->layer_us = out->metrics.layer_ns / 1e3;
    return err;
}

static void unsteady_note(struct evaluator *e, const struct plan *plan, double change)
{
    if (!e->hushed && !e->unsteady_said)
        log_note("%s over %d layers is not steady yet: its last two periods differ by "
                 "%.1f%%; its mean over the later half is taken",
                 plan->policy, plan->num_layers, 100 * change);
    e->unsteady_said = true;
}

/* Builds with `build`, and simulates with more and more layers until the period repeats. *plan and
 * *trace are the caller's to free, also after an error; there is a trace where it is wanted, or
 * where periods are compared. */
static int steady_simulate(struct evaluator *e, const struct scenario *s, const struct policy *p,
                           int (*build)(struct evaluator *e, const struct scenario *s,
                                        const struct policy *p, const struct knobs *k,
                                        struct plan **plan),
                           const struct knobs *k, int counter_rank, bool wanted,
                           struct evaluation *out, struct trace **trace, struct plan **plan)
{
    bool traced = wanted || p->spans_layers;
    double change = 1;
    int err = 0;

    for (int layers = STEADY_LAYERS; layers <= STEADY_MOST && change > STEADY_WITHIN && !err;
         layers *= 2) {
        plan_free(*plan);
        trace_free(*trace);
        *plan = NULL;
        *trace = NULL;
        e->span_layers = layers;
        err = build(e, s, p, k, plan);
        e->span_layers = 0;
        if (!err)
            err = evaluate_simulate(e, s, *plan, counter_rank, out, traced ? trace : NULL);
        if (!err)
            change = !*trace ? 0 : period_change(*plan, *trace, out->metrics.slowest_rank);
    }
    if (!err && change > STEADY_WITHIN) {
        unsteady_note(e, *plan, change);
        err = unsteady_measure(*trace, *plan, out);
        out->unsteady = true;
    }
    return err;
}

static int baseline_key(const struct scenario *s, const struct policy *like, int shared_expert,
                        char key[KEY_SIZE])
{
    int at = snprintf(key, KEY_SIZE, "shared=%d comm=%d ", shared_expert, like->own_comm);

    return scenario_text(s, key + at, (size_t)(KEY_SIZE - at));
}

static int baseline_build(struct evaluator *e, const struct scenario *s, const struct policy *p,
                          const struct knobs *k, struct plan **plan)
{
    struct layer_spec spec;
    int err = evaluate_spec(e, s, p, &spec);

    return err ? err : policy_none.build(&spec, k, plan);
}

/* `none` with the same ops: with attention and as a steady period where the policy is so. Where
 * whole layers are compared it is one for all policies, of the scenario's own collectives, for the
 * MoE part too. A point that is this baseline itself brings its time, own_us. */
static int baseline(struct evaluator *e, const struct scenario *s, const struct policy *p,
                    const struct knobs *k, double own_us, double *none_us)
{
    struct knobs none;
    struct evaluation ev = {0};
    struct trace *trace = NULL;
    struct plan *plan = NULL;
    char key[KEY_SIZE];
    bool own = p == &policy_none && !k->split_phases;
    bool one = whole(e, s) || (e->whole_layers && !p->spans_layers);
    const struct policy *like = one ? &policy_none : p;
    int slot = like->spans_layers, err = baseline_key(s, like, k->shared_expert, key);

    if (!err && !own && !strcmp(key, e->none_key[slot])) {
        *none_us = e->none_us[slot];
        return 0;
    }
    knobs_default(&policy_none, &none);
    none.shared_expert = k->shared_expert;
    if (!err && !own)
        err = steady_simulate(e, s, like, baseline_build, &none, -1, false, &ev, &trace, &plan);
    trace_free(trace);
    plan_free(plan);
    if (err)
        return err;
    if (own)
        ev.layer_us = own_us;
    memcpy(e->none_key[slot], key, sizeof key);
    *none_us = e->none_us[slot] = ev.layer_us;
    return 0;
}

int evaluate_point(struct evaluator *e, const struct scenario *s, const struct policy *p,
                   const struct knobs *k, int counter_rank, struct evaluation *out,
                   struct trace **trace, struct plan **plan_out)
{
    struct plan *plan = NULL;
    struct trace *traced = NULL;
    int err;

    memset(out, 0, sizeof *out);
    err = steady_simulate(e, s, p, evaluate_plan, k, counter_rank < -1 ? -1 : counter_rank,
                          trace != NULL, out, &traced, &plan);
    if (!err && counter_rank < -1) {
        trace_free(traced);
        traced = NULL;
        err = evaluate_simulate(e, s, plan, out->metrics.slowest_rank, out, &traced);
    }
    if (!err && p != &policy_none)
        out->layer_us *= hw_value(evaluate_profile(e), HW_ERROR_SCHEDULE);
    if (!err)
        err = baseline(e, s, p, k, out->layer_us, &out->none_us);
    if (!err) {
        out->gain_pct = (out->none_us / out->layer_us - 1) * 100;
        out->max_over_mean_rank = e->routing_stats.max_over_mean_rank;
    }
    if (err || !trace)
        trace_free(traced);
    else
        *trace = traced;
    if (err || !plan_out)
        plan_free(plan);
    else
        *plan_out = plan;
    return err;
}

int evaluate_moe_part(struct evaluator *e, const struct scenario *s, const struct policy *p,
                      const struct knobs *k, struct evaluation *ev)
{
    struct scenario alone = *s;
    struct evaluation moe;
    int err;

    ev->moe_us = ev->moe_gain_pct = 0;
    if (p->spans_layers || s->attention == ATTENTION_OFF)
        return 0;
    alone.attention = ATTENTION_OFF;
    err = evaluate_point(e, &alone, p, k, -1, &moe, NULL, NULL);
    if (!err) {
        ev->moe_us = moe.layer_us;
        ev->moe_gain_pct = moe.gain_pct;
    }
    return err;
}

/* Why points cannot run, each reason once with how many it holds. */
struct skipped {
    char why[200];
    size_t count;
};
enum { SKIPPED_MAX = 16 };

static void skipped_note(struct skipped *list, int *num, const char *why)
{
    int i = 0;

    while (i < *num && strcmp(list[i].why, why))
        i++;
    if (i == *num) {
        if (*num == SKIPPED_MAX)
            i--;
        else
            *num += 1;
        snprintf(list[i].why, sizeof list->why, "%s", *num < SKIPPED_MAX ? why : "other reasons");
    }
    list[i].count++;
}

/* The line of the key that a reason names, else that of the policy. */
static int line_of(const struct config *c, const struct config_policy *p, const char *why)
{
    for (int i = 0; i < p->num_axes; i++)
        if (strstr(why, p->axes[i].opt->key))
            return p->axes[i].line;
    for (int i = 0; i < c->num_axes; i++)
        if (strstr(why, c->axes[i].opt->key))
            return c->axes[i].line;
    return p->line;
}

/* Policies that cannot run anywhere are left out and named; that none but `none` can is an error.
 */
static int entries_left_out(const struct evaluator *e, const struct config *c, const size_t *good,
                            const char (*why)[200])
{
    int first = -1, others = 0;

    for (int i = 0; i < c->num_policies; i++) {
        others += good[i] && c->policies[i].policy != &policy_none;
        if (!good[i] && first < 0)
            first = i;
    }
    if (first >= 0 && !others) {
        log_error_at(c->path, line_of(c, &c->policies[first], why[first]),
                     "policy %s cannot run: %s", c->policies[first].policy->name, why[first]);
        return ERR_INFEASIBLE;
    }
    for (int i = 0; i < c->num_policies && !e->hushed; i++)
        if (!good[i])
            log_note("%s:%d: policy %s is left out, it cannot run: %s", c->path,
                     line_of(c, &c->policies[i], why[i]), c->policies[i].policy->name, why[i]);
    return 0;
}

static int scenario_check(struct evaluator *e, const struct config *c, size_t i,
                          unsigned char *skip, size_t *good, char (*last_why)[200],
                          struct skipped *list, int *num)
{
    size_t per = config_num_points_per_scenario(c);
    struct scenario s;
    int err = config_scenario(c, i, &s);

    if (err)
        return err;
    for (size_t j = 0; j < per && !err; j++) {
        const struct policy *p;
        struct knobs k;
        char why[200] = "";
        int entry;

        config_knobs(c, j, &p, &k, &entry);
        err = evaluate_check(e, &s, p, &k, why, sizeof why);
        if (skip)
            skip[i * per + j] = err == ERR_INFEASIBLE;
        if (err == ERR_INFEASIBLE) {
            skipped_note(list, num, why);
            snprintf(last_why[entry], sizeof *last_why, "%s", why);
            err = 0;
        } else if (!err) {
            good[entry]++;
        }
    }
    if (!err && s.routing == ROUTING_FILE)
        err = routing_load(e, &s);
    scenario_free(&s);
    return err;
}

void evaluate_hush(struct evaluator *e)
{
    e->hushed = true;
}

int evaluate_config(struct evaluator *e, const struct config *c, unsigned char *skip)
{
    size_t *good = calloc((size_t)c->num_policies, sizeof *good);
    char(*why)[200] = calloc((size_t)c->num_policies, sizeof *why);
    struct skipped list[SKIPPED_MAX] = {{.count = 0}};
    int num = 0, err = good && why ? 0 : ERR_NOMEM;

    for (size_t i = 0; i < config_num_scenarios(c) && !err; i++)
        err = scenario_check(e, c, i, skip, good, why, list, &num);
    if (!err)
        err = entries_left_out(e, c, good, (const char(*)[200])why);
    for (int i = 0; i < num && !err && !e->hushed; i++)
        log_note("skipped %zu point%s: %s", list[i].count, list[i].count == 1 ? "" : "s",
                 list[i].why);
    free(good);
    free(why);
    return err;
}
