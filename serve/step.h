/* serve/step.h: how long one step of an engine's instance takes: decode tokens, prompt chunks, or
 * both. Whole passes are simulated (study/pass.h) on a grid of loads when a step first needs them,
 * and looked up in between: steps of alike shape cost nothing. */
#ifndef PEOSIM_SERVE_STEP_H
#define PEOSIM_SERVE_STEP_H

#include "serve/deployment.h"
#include "study/evaluate.h"

/* Time of a pass by what its parts wait for; the sum is the pass. */
struct step_parts {
    double core_us;    /* attention over the cache: grows with the context */
    double attn_us;    /* projections and norms */
    double experts_us; /* routed and shared experts */
    double gate_us;    /* scores of the experts and the choice among them */
    double comm_us;    /* collectives and exchanges */
    double dense_us;   /* dense layers' FFN, output head, embedding */
    double launch_us;  /* gaps between kernels */
};
double step_parts_sum(const struct step_parts *p);

/* What one step holds, over the whole instance. */
struct step_load {
    double decode;  /* requests that decode a token */
    double context; /* their mean tokens in the cache */
    double prompt;  /* prompt tokens computed in this step */
    double cached;  /* mean tokens of their prompts that are in the cache already */
};

struct step_model;
/* One pool of a deployment; both are borrowed. prompt_len: of one prompt, so that a step of more
 * tokens holds several. ERR_NOMEM. */
int step_model_open(struct evaluator *e, const struct serve_deployment *d,
                    const struct serve_pool *pool, int prompt_len, struct step_model **out);
void step_model_close(struct step_model *m); /* accepts NULL */

/* Kernels of one step, without what the engine adds (serve/engine.h). ERR_INFEASIBLE with a
 * sentence in step_model_why, or another (logged) error. */
int step_model_parts(struct step_model *m, const struct step_load *load, struct step_parts *out);
/* What an instance has room for besides weights and activations. */
struct step_cache {
    double tokens;      /* of all its requests' caches */
    double token_bytes; /* of one of them, over all GPUs that hold a part or a copy of it */
};
int step_model_cache(struct step_model *m, int requests, double reserve_GB, struct step_cache *out);
const char *step_model_why(const struct step_model *m);
int step_model_layers(const struct step_model *m);
size_t step_model_passes(const struct step_model *m); /* simulated so far */

#endif
