/* study/terms.h: what a policy costs and what it hides, in microseconds of a layer against `none`.
 *
 * Three steps, each simulated: the policy's own kernels one after another with every SM (what
 * cutting the layer into pieces costs: every round walks all tokens, has its own fixed latencies,
 * fewer CTAs and smaller GEMM waves); the same with the SM counts that the policy gives them (what
 * sharing the SMs costs); and the policy itself (what running them beside each other hides, less
 * what blocked CTAs and interference take back). */
#ifndef PEOSIM_STUDY_TERMS_H
#define PEOSIM_STUDY_TERMS_H

#include "study/evaluate.h"

/* Where the first step's difference lies. */
enum terms_kind { TERMS_DISPATCH, TERMS_EXPERTS, TERMS_COMBINE, TERMS_OTHER, TERMS_KINDS };

struct terms {
    double none_us, pieces_us, shared_us, layer_us; /* layer times of the three steps and of none */
    double pieces_of_us[TERMS_KINDS]; /* pieces_us - none_us by kind, kernels without waiting */
    double pieces_launch_us;          /* the rest of it: more launches, other waiting */
    double blocked_us; /* inside layer_us, on the critical path: CTAs that found no SM */
};

/* k: resolved knobs of a point that can run. ERR_INFEASIBLE, not logged: one fused kernel has no
 * such steps. */
int terms_of(struct evaluator *e, const struct scenario *s, const struct policy *p,
             const struct knobs *k, struct terms *out);

#endif
