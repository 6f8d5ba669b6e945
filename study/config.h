/* study/config.h: a configuration file: one scenario and the policies to try on it. A list where a
 * value is expected means every combination; the grid goes through scenario keys in the order of
 * the file (the last one fastest), then policies in order, then their knobs. */
#ifndef PEOSIM_STUDY_CONFIG_H
#define PEOSIM_STUDY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/opt.h"
#include "model/policy/policy.h"

enum { PHASE_OF_DECODE, PHASE_OF_PREFILL };
/* The key `comm`: auto, or a library of plan/comm_kinds.h. */
enum {
    COMM_CHOICE_AUTO,
#define COMM_CHOICE_ENUM(name, ...) COMM_CHOICE_##name,
    PLAN_COMM_KINDS(COMM_CHOICE_ENUM)
#undef COMM_CHOICE_ENUM
};
enum { ATTENTION_AUTO, ATTENTION_ON, ATTENTION_OFF };
enum { SKEW_NORMAL, SKEW_EXPONENTIAL, SKEW_UNIFORM };

/* One value for every key of a configuration except the policies. */
enum { KV_AUTO, KV_BF16, KV_FP8 };                      /* attention.kv_dtype */
enum { GEMM_TYPE_AUTO, GEMM_TYPE_BF16, GEMM_TYPE_FP8 }; /* gemm_dtype, expert_dtype; more follow */

struct scenario {
    char *model, *ignore_key;
    int batch, phase, layer;
    /* cluster */
    char *profile;
    int nodes, gpus_per_node, nvlink_domain, fabric;
    int nodes_per_leaf;
    double nic_Gbitps, nics_per_gpu, nvlink_GBps, oversubscription, spine_latency_us;
    /* kernels */
    int comm, max_dispatch_tokens, normal_num_sms;
    int dispatch_dtype, combine_dtype, gemm_dtype, expert_dtype;
    /* attention */
    int attention, context_len, prompt_len, cached_len, tokens_per_request, attention_tp, kv_dtype;
    int attn_engine; /* enum plan_attn_engine */
    /* routing */
    int routing;
    double sigma, exponent, rank_skew;
    char *routing_file;
    int routing_layer;
    /* where experts live */
    int placement, redundant_experts;
    int seed, draw;
    /* launch, skew */
    bool eager;
    int skew_kind;
    double skew_us, jitter;
    /* simulation */
    int fidelity;
    double tolerance;
    const struct program *program; /* of the config, of the entry `plan`; NULL = none */
};

/* A key and the values it takes. */
struct axis {
    const struct opt *opt;
    char **values;
    int num_values;
    int line;
};

struct config_policy {
    const struct policy *policy;
    struct axis *axes;
    int num_axes;
    int line;
};

struct config {
    char *path;
    char *name;    /* the file's name without folder and ending */
    char hash[65]; /* SHA-256 of the file and the --set words */
    struct axis *axes;
    int num_axes;
    struct config_policy *policies;
    int num_policies;
    struct program *program; /* config_use_plan; NULL = none */
};

extern const struct opt scenario_options[];

/* sets: "key=value" words of the command line ("key=v1,v2" is a list), applied over the file. A key
 * is a scenario key, a policy's knob ("peo.num_rounds"), or a knob's name alone (every policy that
 * has it), or `policies` (keep only these). Errors name file and line: ERR_CONFIG, ERR_RANGE,
 * ERR_PARSE, ERR_NOTFOUND, ERR_USAGE. */
int config_read(const char *path, const char *const *sets, size_t num_sets, struct config **out);
void config_free(struct config *c); /* accepts NULL */
/* One more entry behind the policies: the schedule of a plan file (model/policy/program.h). Errors
 * as program_read. */
int config_use_plan(struct config *c, const char *path);

size_t config_num_scenarios(const struct config *c);
size_t config_num_points_per_scenario(const struct config *c);
size_t config_num_points(const struct config *c);
/* Fills a scenario (strings owned by it: scenario_free). ERR_NOMEM. */
int config_scenario(const struct config *c, size_t index, struct scenario *out);
void scenario_free(struct scenario *s);
/* Every key and value, "key=value" joined by blanks; equal texts mean equal scenarios. ERR_RANGE
 * when buf is too small. */
int scenario_text(const struct scenario *s, char *buf, size_t size);
/* The policy and knobs of point j of any scenario; *entry is its index in policies. */
void config_knobs(const struct config *c, size_t j, const struct policy **policy, struct knobs *k,
                  int *entry);
/* The axis of a scenario key, or NULL when the file does not set it. */
const struct axis *config_axis(const struct config *c, const char *key);
/* Logs that there is no such policy, and the nearest that there is. Returns ERR_CONFIG. */
int config_policy_unknown(const char *name, const char *file, int line);
/* Has the scenario any policy of that name? */
bool config_has_policy(const struct config *c, const char *name);

#endif
