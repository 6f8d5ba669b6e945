/* model/routing.h: which experts each token chooses. Fills plan/plan.h's routing table. */
#ifndef PEOSIM_MODEL_ROUTING_H
#define PEOSIM_MODEL_ROUTING_H

#include "plan/plan.h"

enum routing_kind {
    ROUTING_BALANCED,  /* no chance in it: every expert the same number of rows, every rank pair
                          alike (+-1), rank r the picture of rank 0 turned by r; with groups, each
                          token stays in topk_group of them, and groups and experts take turns */
    ROUTING_UNIFORM,   /* every expert equally likely, without replacement */
    ROUTING_LOGNORMAL, /* expert popularity exp(sigma*N(0,1)) */
    ROUTING_ZIPF,      /* popularity 1/rank^s, experts in random order */
    /* Recorded (docs/inputs.md). Choices: CSV layer,rank,token,e0..ek, or an array [..][tokens][k]
     * in .npy or JSON (-1 = masked; ranks and tokens beyond those asked for are left out). Counts:
     * CSV layer,expert,count or SGLang's layer_id,expert_id,count (a folder of them is summed), or
     * an array [..][experts]: then the table's totals follow the counts exactly (to rounding, at
     * most one row per token and expert) and who goes where is drawn. Groups and rank_skew are not
     * applied. */
    ROUTING_FILE
};

struct routing_spec {
    enum routing_kind kind;
    double sigma;     /* log-normal */
    double exponent;  /* zipf */
    double rank_skew; /* 0 = every rank draws from the same popularity; else log-normal per rank */
    const char *path; /* ROUTING_FILE */
    int layer;        /* which layer of the file; -1 = the first found */
    unsigned long seed;
    unsigned long draw;      /* another draw of tokens from the same popularity: another step */
    int n_group, topk_group; /* group-limited gating: choose topk_group of n_group groups first */
};

#define ROUTING_MAX_ENTRIES (1 << 28)

/* A table for ranks x tokens x topk; the same spec gives the same bytes (GSL's mt19937, sampling
 * without replacement by popularity; with groups, topk_group of them are drawn by their summed
 * popularity first). Popularity depends on the seed only, not on the batch. ERR_CONFIG (topk >
 * reachable experts, experts not divisible by n_group), ERR_NOTFOUND/ERR_PARSE/ERR_DATA for files
 * (too few tokens or ranks in the file is ERR_DATA with what was found), ERR_RANGE (table too big),
 * ERR_NOMEM. The caller frees with routing_free. */
int routing_make(const struct routing_spec *spec, int ranks, int tokens, int experts, int topk,
                 struct plan_routing **out);
/* As slices have it: of `gpus`, which divides the ranks, rank s sends the tokens of rank s % gpus
 * to experts s / gpus * gpus ranks further on, so that each rank has the rows of its GPU. */
void routing_fold(struct plan_routing *r, int gpus);
void routing_free(struct plan_routing *r); /* accepts NULL */

/* Renames experts by a placement: rows of expert e go to the physical experts
 * replica[replica_first[e] .. replica_first[e+1]-1] in turn (replica_first has experts + 1 entries;
 * a permutation has one each). In place; r->experts becomes physical_experts. ERR_CONFIG (an expert
 * without a place, a place out of range or used twice), ERR_NOMEM; the table is then unchanged. */
int routing_place(struct plan_routing *r, const int *replica_first, const int *replica,
                  int physical_experts);

struct routing_stats {
    double max_over_mean_expert; /* heaviest expert / mean */
    double max_over_mean_rank;   /* heaviest rank's rows / mean */
    int experts_without_rows;
};
void routing_stats_of(const struct plan_routing *r, int ranks, struct routing_stats *out);

#endif
