/* study/pass.h: whole decode steps and prefill passes, from simulated layers. Each kind of layer is
 * simulated once for its load, as a few layers in a row; further ones repeat the steady period. */
#ifndef PEOSIM_STUDY_PASS_H
#define PEOSIM_STUDY_PASS_H

#include "study/evaluate.h"
#include "model/memory.h"
#include "trace/log.h"

/* The metrics that pass and capacity print, defined once; both commands show it in --help. */
extern const char pass_metrics_help[];

enum pass_part { PASS_DENSE, PASS_MOE, PASS_MTP, PASS_ENDS, PASS_PARTS };
const char *pass_part_name(enum pass_part part);

struct pass_result {
    double step_us;                /* of the slowest rank; what follows adds up to it */
    double part_us[PASS_PARTS];    /* by section */
    double kind_us[OP_KIND_COUNT]; /* by kind of op along the critical path, with launch_us */
    double cause_us[PART_COUNT];   /* by what limited it along the critical path, with launch_us */
    double launch_us;
    double layer_us;   /* steady period of one MoE layer */
    double extra_us;   /* MoE section besides its layers: filling and draining the overlap */
    double exposed_us; /* communication that nothing hides, all MoE layers */
    double sm_util, nic_util, nvlink_util; /* of the MoE layers */
    double assumed_share, max_over_mean_rank;
    int num_moe; /* MoE layers, drafting ones included */
    uint64_t events;
};

/* A whole pass of one point. s: batch = tokens per rank in the step (decode: requests *
 * tokens_per_request; prefill: tokens of the chunk); attention is always on. all: simulates every
 * MoE layer instead of repeating. ERR_INFEASIBLE is logged. */
int pass_run(struct evaluator *e, const struct scenario *s, const struct policy *p,
             const struct knobs *k, bool all, struct pass_result *out);

/* Knobs left to the program (eps: groups and GEMM kinds) become those of the fastest layer. */
int pass_knobs_resolve(struct evaluator *e, const struct scenario *s, const struct policy *p,
                       struct knobs *k);

/* Percentiles of the step time over steps whose tokens choose experts anew: `draws` layer times,
 * each from other routing, are drawn from for every layer of `PASS_STEPS` steps. */
struct pass_spread {
    double mean_us, p50_us, p90_us, p99_us;
};
int pass_run_spread(struct evaluator *e, const struct scenario *s, const struct policy *p,
                    const struct knobs *k, int draws, struct pass_result *mean,
                    struct pass_spread *spread);
double pass_spread_at(const struct pass_spread *spread, double percentile);

/* Memory of one GPU in this scenario. requests: on this GPU. */
int pass_memory(struct evaluator *e, const struct scenario *s, int requests, double context_len,
                double reserve_GB, struct memory_spec *spec, struct memory_sum *sum);
/* Says once (a warning) that the model and its requests do not fit the GPUs of scenarios whose
 * layers are simulated all the same: layers are studied on fewer GPUs than a model needs. */
int pass_memory_warn(struct evaluator *e, const struct config *c);
int pass_requests(const struct scenario *s); /* of one rank in the step */

/* The timeline of a whole pass on its slowest rank, every layer simulated: one lane per stage
 * (attention, experts, dispatch, combine, ...), one record per stretch of ops of a stage. */
int pass_timeline(struct evaluator *e, const struct scenario *s, const struct policy *p,
                  const struct knobs *k, struct trace_log **out);

#endif
