/* model/routing.h: which experts each token chooses. Fills plan/plan.h's routing table. */
#ifndef PEOSIM_MODEL_ROUTING_H
#define PEOSIM_MODEL_ROUTING_H

#include "plan/plan.h"

enum routing_kind {
    ROUTING_BALANCED,  /* every expert the same number of rows, every rank pair alike (+-1) */
    ROUTING_UNIFORM,   /* every expert equally likely, without replacement */
    ROUTING_LOGNORMAL, /* expert popularity exp(sigma*N(0,1)) */
    ROUTING_ZIPF,      /* popularity 1/rank^s, experts in random order */
    ROUTING_FILE /* recorded: CSV layer,rank,token,e0..ek (-1 = masked), or layer,expert,count */
};

struct routing_spec {
    enum routing_kind kind;
    double sigma;     /* log-normal */
    double exponent;  /* zipf */
    double rank_skew; /* 0 = every rank draws from the same popularity; else log-normal per rank */
    const char *path; /* ROUTING_FILE */
    int layer;        /* which layer of the file; -1 = the first found */
    unsigned long seed;
    int n_group, topk_group; /* group-limited gating: choose topk_group of n_group groups first */
};

/* A table for ranks x tokens x topk; the same spec gives the same bytes (GSL's mt19937, sampling
 * without replacement by popularity). ERR_CONFIG (topk > reachable experts, experts not divisible
 * by n_group), ERR_NOTFOUND/ERR_PARSE/ERR_DATA for files (too few tokens or ranks in the file is
 * ERR_DATA with what was found), ERR_NOMEM. The caller frees with routing_free. */
int routing_make(const struct routing_spec *spec, int ranks, int tokens, int experts, int topk,
                 struct plan_routing **out);
void routing_free(struct plan_routing *r); /* accepts NULL */

/* Renames experts by a placement: expert e of the table becomes place[e] (a permutation, or a map
 * to redundant physical experts chosen round robin over replicas). In place; changes r->experts. */
int routing_place(struct plan_routing *r, const int *replica_first, const int *replica,
                  int physical_experts);

struct routing_stats {
    double max_over_mean_expert; /* heaviest expert / mean */
    double max_over_mean_rank;   /* heaviest rank's rows / mean */
    int experts_without_rows;
};
void routing_stats_of(const struct plan_routing *r, int ranks, struct routing_stats *out);

#endif
