/* model/policy/shared.h: the shared expert as one more routed expert (SGLang pull 20089): every
 * rank holds it, and a token's goes to the rank that has the fewest rows so far. */
#ifndef PEOSIM_MODEL_POLICY_SHARED_H
#define PEOSIM_MODEL_POLICY_SHARED_H

#include "model/policy/policy.h"

/* A layer whose shared expert is routed; spec.model and spec.routing point into it. */
struct shared_routed {
    struct layer_spec spec;
    struct moe_model model;
    struct plan_routing *routing; /* the caller's, who hands it to the plan or frees it */
};

/* Shared experts of a layer that are as wide as a routed one; 0: it cannot be routed. */
int shared_routed_num(const struct moe_model *m);
/* 0 or ERR_NOMEM. */
int shared_routed_open(const struct layer_spec *spec, struct shared_routed *out);
void shared_routed_free(struct plan_routing *routing); /* accepts NULL */

#endif
