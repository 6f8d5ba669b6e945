/* serve/estimate.h: mean TTFT and TPOT of a deployment under a closed loop of as many clients as
 * its concurrency says, in the steady state: closed forms over looked-up steps. serve/simulate.h
 * has the distributions. */
#ifndef PEOSIM_SERVE_ESTIMATE_H
#define PEOSIM_SERVE_ESTIMATE_H

#include "serve/engine.h"

/* What the closed forms need of a deployment, whatever the engine's parameters. */
struct serve_load {
    struct step_parts decode; /* a step of all requests of an instance in mid-answer */
    struct step_parts prompt; /* one prompt alone */
    struct step_parts packed; /* one prompt's share of a step filled with them */
    int layers;
    double requests, osl;
    double prompt_group; /* prompts that data-parallel attention takes at once */
    double in_flight;    /* requests per prefill instance */
    bool disagg, drafts;
};

/* Step tables of pools met so far: deployments that share a pool share its table. */
struct serve_tables;
int serve_tables_open(struct serve_tables **out); /* ERR_NOMEM */
void serve_tables_close(struct serve_tables *t);  /* accepts NULL */
size_t serve_tables_passes(const struct serve_tables *t);
/* The table of one of d's pools; d must outlive the tables. prompt_len: d's isl. */
int serve_tables_pool(struct serve_tables *t, const struct serve_deployment *d,
                      const struct serve_pool *pool, struct step_model **out);

/* ERR_INFEASIBLE with a sentence in why; others are logged. */
int serve_load_of(struct serve_tables *t, const struct serve_deployment *d, bool drafts,
                  struct serve_load *out, char *why, size_t size);

double serve_tpot_ms(const double *v, const struct serve_load *l);
double serve_ttft_ms(const double *v, const struct serve_load *l);

#endif
