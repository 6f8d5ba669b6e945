/* study/evaluate.h: config -> plan -> sim -> metrics, for one point at a time. run, sweep,
 * recommend, why and capacity all go through here. An evaluator keeps what points share (model,
 * profile, routing, the baseline); one per thread. */
#ifndef PEOSIM_STUDY_EVALUATE_H
#define PEOSIM_STUDY_EVALUATE_H

#include "study/config.h"
#include "hw/profile.h"
#include "plan/plan.h"
#include "trace/trace.h"
#include "sim/sim.h"

/* Counterfactuals: the same point in a world that differs in one thing (cmd_why). Zeroed: none. */
struct whatif {
    bool no_skew, no_jitter, no_launch_gap, no_interference;
    bool infinite_nic, infinite_nvlink;
    bool zero_sm_comm;    /* communication holds no SMs and does not push: copy engines */
    bool perfect_routing; /* balanced */
    double sm_factor;     /* SMs of the GPU times this; 0 = 1 */
};

struct evaluation {
    double layer_us;
    double none_us;  /* the baseline with the same ops */
    double gain_pct; /* (none / policy - 1) * 100 */
    /* The same of the MoE part alone (evaluate_moe_part); moe_us 0: not simulated, or a policy that
     * has no such part because it moves attention. */
    double moe_us, moe_gain_pct;
    struct trace_metrics metrics;
    double nvlink_util, nic_util; /* mean over ranks: bytes / (capacity * layer time), 0..1 */
    double assumed_share;         /* of the slowest rank's op time: rests on fields without data */
    double max_over_mean_rank;    /* routing imbalance: heaviest rank / mean */
    uint64_t events;
    bool unsteady; /* its period never repeated: layer_us is a mean over many layers */
    int num_sms;   /* N of the GPU */
};

struct evaluator;
int evaluator_open(struct evaluator **out);
void evaluator_close(struct evaluator *e); /* accepts NULL */

/* What `attention.include: auto` means from now on: whole layers with attention for every policy,
 * the steady period of one layer behind another, against `none` measured likewise. That is the
 * basis of all that run, sweep, recommend and why compare. Without this call: the MoE part from a
 * common start, as the validator measures it, and attention where a policy moves it. */
void evaluator_whole_layers(struct evaluator *e);
/* Uses this model where a scenario names `name`; the evaluator owns it from now on, also on
 * failure. ERR_NOMEM. */
int evaluator_use_model(struct evaluator *e, const char *name, struct moe_model *model);
/* Uses this profile instead of reading the one a scenario names (borrowed; NULL = read again):
 * how intervals are drawn (study/draws.h). */
void evaluator_use_profile(struct evaluator *e, const struct hw_profile *profile);
/* Ranks are folded onto so many GPUs, as slices are (kernels/slots.h): each rank's rows become
 * those of the GPU that stands for it. 0, or as many as there are ranks: none is folded. */
void evaluator_fold(struct evaluator *e, int gpus);
/* Predicts an emulation instead of the machine (NULL = the machine): see sim/sim.h. */
void evaluator_emulate(struct evaluator *e, const struct sim_emulation *emulation);
void evaluator_what_if(struct evaluator *e, const struct whatif *what); /* NULL = none */

/* Layers of one kind stand for the model from now on (struct moe_model's layer[]); -1: those of
 * most MoE layers, as at first. */
void evaluator_use_layer(struct evaluator *e, int kind);
/* The model of a scenario, borrowed until the next call with another. */
int evaluate_model(struct evaluator *e, const struct scenario *s, const struct moe_model **out);

/* Bytes of one element of the KV cache: as the scenario says, else the model's file, else BF16. */
double evaluate_kv_bytes(const struct scenario *s, const struct moe_model *m);

/* Can this point run? 0; ERR_INFEASIBLE with a sentence in why; or another (logged) error. */
int evaluate_check(struct evaluator *e, const struct scenario *s, const struct policy *p,
                   const struct knobs *k, char *why, size_t size);
/* Gives knobs that the architecture decides their values (struct policy's settle). */
int evaluate_settle(struct evaluator *e, const struct scenario *s, const struct policy *p,
                    struct knobs *k);
/* The plan of a point that evaluate_check accepts. The caller frees it (plan_free); it borrows the
 * evaluator's routing until the next call with another scenario. */
int evaluate_plan(struct evaluator *e, const struct scenario *s, const struct policy *p,
                  const struct knobs *k, struct plan **out);
/* Simulates. trace and plan may be NULL; else the caller frees them (the plan borrows as above).
 * counter_rank: whose counters the trace gets, -1 = none, -2 = the slowest rank's (simulates
 * twice). */
int evaluate_point(struct evaluator *e, const struct scenario *s, const struct policy *p,
                   const struct knobs *k, int counter_rank, struct evaluation *out,
                   struct trace **trace, struct plan **plan);

/* Simulates the MoE part alone, router to combine, from a common start, into ev's moe_us and
 * moe_gain_pct; 0 where the policy has none or the scenario is that already. */
int evaluate_moe_part(struct evaluator *e, const struct scenario *s, const struct policy *p,
                      const struct knobs *k, struct evaluation *ev);

/* Simulates a plan that evaluate_plan gave, or one changed from it (not the baseline: none_us and
 * gain_pct stay 0). */
int evaluate_simulate(struct evaluator *e, const struct scenario *s, const struct plan *plan,
                      int counter_rank, struct evaluation *out, struct trace **trace);

/* The costs and the network that the scenario last resolved (evaluate_spec, evaluate_shape) is
 * simulated with; the cost is the evaluator's. ERR_NOMEM. */
int evaluate_machine(struct evaluator *e, const struct scenario *s, struct cost *cost,
                     struct sim_topology_cfg *topo);
/* Is its layer measured as a steady period, with attention? */
bool evaluate_whole_layers(const struct evaluator *e, const struct scenario *s);

/* What a scenario resolves to, valid until the next call with another scenario. */
int evaluate_spec(struct evaluator *e, const struct scenario *s, const struct policy *p,
                  struct layer_spec *out);
/* The same without routing, which takes its time to make. */
int evaluate_shape(struct evaluator *e, const struct scenario *s, const struct policy *p,
                   struct layer_spec *out);
const struct hw_profile *evaluate_profile(const struct evaluator *e);

/* Reads what all scenarios of a config name, so that mistakes surface before anything runs, and
 * finds the points that cannot run. skip[num_points] gets 1 for each of these (caller's array, may
 * be NULL) and is logged as a note with the count per reason. An entry of `policies` none of
 * whose points can run is left out, logged as a note with its line; ERR_INFEASIBLE (logged) where
 * nothing but `none` could run. */
int evaluate_config(struct evaluator *e, const struct config *c, unsigned char *skip);
/* No notes on skipped points from now on: of several processes one says them. */
void evaluate_hush(struct evaluator *e);

#endif
