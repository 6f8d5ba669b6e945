/* serve/deployment.h: how a model is served: engine, pools of GPUs, how each pool is split. */
#ifndef PEOSIM_SERVE_DEPLOYMENT_H
#define PEOSIM_SERVE_DEPLOYMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "calib/e2e.h"

/* Instances of one kind. gpus = tp * dp of each; its experts lie on moe_tp * ep = gpus ranks, where
 * moe_tp ranks share an expert. */
struct serve_pool {
    int workers; /* instances */
    int gpus, tp, dp, moe_tp, ep;
};

enum serve_engine { SERVE_SGLANG, SERVE_VLLM, SERVE_TRTLLM, SERVE_ENGINES };
const char *serve_engine_name(enum serve_engine e);

/* Types as the keys gemm_dtype and expert_dtype have them; AUTO: the model's file. */
struct serve_deployment {
    const char *model;   /* a name in configs/models/ */
    const char *profile; /* a name in hw/profiles/ */
    const char *gemm_dtype, *expert_dtype, *kv_dtype;
    enum serve_engine engine;
    bool disagg;
    struct serve_pool decode, prefill; /* aggregated: the same instances */
    int concurrency;                   /* requests in flight over all workers */
    int isl, osl;
    bool assumed;   /* worker counts that the row does not state */
    char note[160]; /* what was read otherwise than written, and why; "" = nothing */
};

/* A row of measured deployments as one. 0, or ERR_INFEASIBLE with a sentence in why.
 *
 * Read otherwise than written, each with its reason in `note`: an id that contradicts its row is
 * trusted; where the row has no id and moe_tp = ep or tp = attention's dp, the product is counted
 * twice (every such row that has an id contradicts it); heads that tp does not divide, or more than
 * 16 ranks, are read as data-parallel attention with wide EP; worker counts that are not stated are
 * taken as one. */
int serve_deployment_of(const struct e2e_row *row, struct serve_deployment *out, char *why,
                        size_t size);

/* Decode requests of one instance at full concurrency. */
static inline double serve_batch(const struct serve_deployment *d)
{
    return (double)d->concurrency / d->decode.workers;
}

#endif
