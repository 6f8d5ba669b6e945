/* study/capacity.h: which GPUs, how many, in which pools, serve a traffic within its promises at
 * the least cost. Every candidate's step is simulated (study/pass.h); pools are put together from
 * them.
 */
#ifndef PEOSIM_STUDY_CAPACITY_H
#define PEOSIM_STUDY_CAPACITY_H

#include <stdint.h>

#include "study/capacity_config.h"
#include "study/journal.h"
#include "study/pass.h"

/* One instance: a kind of GPU, an EP size, a batch, a policy. */
struct capacity_point {
    bool decode, skipped, spread; /* spread: at_us is from several routings */
    int gpu, ep, size, policy;    /* size: decode requests, prefill tokens; per GPU. Fewer
                                     tokens than asked for where the KV caches of so many short
                                     rests of prompts would not fit */
    struct knobs knobs;
    char why[200]; /* skipped: the reason */
    struct memory_sum memory;
    double step_us, at_us; /* one routing; at the promised percentile */
    double layer_us, exposed_us, nic_util, assumed_share;
};

/* A decode and a prefill instance, and how many of each. */
struct capacity_plan {
    const struct capacity_point *decode, *prefill;
    bool shared, ok;
    double tpot_ms, ttft_ms;
    double wait_ms, prefill_ms, transfer_ms; /* of the TTFT; the rest is a decode step */
    int64_t decode_instances, prefill_instances, gpus, nodes;
    double usd_per_hour, usd_per_Mtoken;
    double tokens_s_gpu, tokens_s_user; /* output tokens, at the planned utilisation */
    double worst;                       /* largest of time / promised time; above 1: missed */
    const char *miss;                   /* what is missed most, or NULL */
};

struct capacity {
    const struct capacity_config *config;
    struct moe_model *model;
    struct capacity_point *points;
    size_t num_points;
    double nic_GBps[CAPACITY_MAX_LIST]; /* of each kind of GPU */
    struct capacity_plan *plans; /* one per decode point: with its best prefill; best first */
    size_t num_plans;
    size_t num_reused;  /* points taken from the journal */
    size_t num_crowded; /* pairs of points that fit alone but not on the same GPUs */
    char crowded_why[200];
};

/* All points, not yet evaluated. ERR_CONFIG and others, logged. */
int capacity_open(const struct capacity_config *c, struct capacity **out);
void capacity_close(struct capacity *k); /* accepts NULL */

/* Evaluates every point on `jobs` threads, appending to the journal and taking from it what it has
 * (NULL = none), then ranks plans and draws further routings for the best until these stand. */
int capacity_search(struct capacity *k, struct journal *journal, int jobs,
                    void (*progress)(void *self, size_t done, size_t all), void *self);

/* The scenario of a point; its strings belong to the config. */
void capacity_scenario(const struct capacity_config *c, const struct capacity_point *p,
                       struct scenario *out);
int capacity_point_run(const struct capacity_config *c, struct evaluator *e,
                       struct capacity_point *p);
/* What a GPU holds that runs both points: weights once, the KV cache and the buffers of both, the
 * larger activations (their steps take turns). false: more than it has. */
bool capacity_shared_fits(const struct capacity_point *decode, const struct capacity_point *prefill,
                          struct memory_sum *sum);
/* Puts pools together for the config's traffic. */
void capacity_plan_of(const struct capacity *k, const struct capacity_config *c,
                      const struct capacity_point *decode, const struct capacity_point *prefill,
                      bool shared, struct capacity_plan *out);

/* The same pools in a world that differs in one assumption. */
struct capacity_change {
    const char *name;
    bool fits;
    char why[200]; /* when it does not */
    struct capacity_plan plan;
};
enum { CAPACITY_MAX_CHANGES = 20 };
int capacity_sensitivity(struct capacity *k, const struct capacity_plan *winner,
                         struct capacity_change *out, int *num);

/* "h800 EP128 128 tbo" */
void capacity_point_text(const struct capacity_config *c, const struct capacity_point *p, char *buf,
                         size_t size);

#endif
