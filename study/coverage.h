/* study/coverage.h: how much of a layer's op time a profile has measurements for. */
#ifndef PEOSIM_STUDY_COVERAGE_H
#define PEOSIM_STUDY_COVERAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "hw/profile.h"
#include "plan/cost.h"
#include "plan/plan.h"

/* Where the law of an op has its figures from. */
enum coverage_basis { COVERAGE_MEASURED, COVERAGE_TRANSFERRED, COVERAGE_ASSUMED, COVERAGE_BASES };
const char *coverage_basis_name(enum coverage_basis basis);

/* Two costs of the same profile: by `own` what was not measured on this GPU is assumed, by `any`
 * only what was measured on none. */
struct coverage_costs {
    struct cost own, any;
};
int coverage_costs_open(const struct hw_profile *p, struct coverage_costs *b); /* ERR_NOMEM */
void coverage_costs_close(struct coverage_costs *b);                           /* accepts zeroes */
enum coverage_basis coverage_costs_basis(const struct coverage_costs *b, const struct plan *plan,
                                         int rank, int op);

/* Times are of the slowest rank's ops, ns. */
struct coverage_row {
    int ranks, nodes, phase;       /* PHASE_OF_DECODE or PHASE_OF_PREFILL (study/config.h) */
    const char *exchange;          /* "low latency", "normal" or "one-sided" */
    double ns[COVERAGE_BASES];     /* of the whole layer with attention */
    double moe_ns[COVERAGE_BASES]; /* from dispatch to combine */
    double kind_ns[OP_KIND_COUNT][COVERAGE_BASES];
};

struct coverage {
    struct coverage_row *rows;
    size_t num;
};

/* A layer of DeepSeek-V3 in FP8 without overlap: 128 tokens a rank in decode over 4,096 in the
 * cache, 4,096 in prefill; from the ranks of one host up to EP64. Exchanges inside an NVLink domain
 * of several hosts are one-sided ones where the profile has them. The caller frees. */
int coverage_of(const struct hw_profile *profile, struct coverage **out);
void coverage_free(struct coverage *c); /* accepts NULL */

/* Share of the row's time with that basis, 0..1; moe: of the MoE part. */
double coverage_share(const struct coverage_row *r, enum coverage_basis basis, bool moe);
/* The op kind with the most time that was not measured, and that time's share; -1: there is none.
 * skip: bit set of kinds already named. */
int coverage_gap(const struct coverage_row *r, unsigned long long skip, double *share);
/* Which measurement of this project's microbenchmarks or of a public collector would close it. */
const char *coverage_closed_by(enum plan_op_kind kind, int nodes);

#endif
