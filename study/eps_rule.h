/* study/eps_rule.h: the EPS-MoE paper's own rule for the number of groups (arXiv 2410.12247), from
 * simulated kernel times, as a cross-check of the PN that simulation chose.
 *
 * The paper weighs what pipelining hides, C*(1 - 1/PN), against what smaller kernels lose,
 * k*PN + b; the best is PN* = sqrt(C/k). It calls a PN worthwhile where PN*S(m/PN)/S(m) <= 1 + e0
 * (communication) and PN*G(m/PN, E/PN)/G(m, E) <= 1 + e1 (GEMMs), e0 = 0.32 and e1 = 0.03. */
#ifndef PEOSIM_STUDY_EPS_RULE_H
#define PEOSIM_STUDY_EPS_RULE_H

#include "study/grid.h"

#define EPS_RULE_E0 0.32
#define EPS_RULE_E1 0.03

struct eps_rule {
    int batch, simulated_pn;       /* the scenario, and what simulation chose (eps_rules_of) */
    double comm_us;                /* C: the all-to-alls at PN = 1, without waiting for peers */
    double k_us;                   /* what one more group costs the GEMMs and all-to-alls */
    double best_pn;                /* sqrt(C/k); INFINITY where groups cost nothing */
    double comm_ratio, gemm_ratio; /* at the PN asked about, against PN = 1 */
    bool worthwhile;
};

/* k: knobs with PN and GEMM kinds resolved. 0 or an error code (logged where detected). */
int eps_rule_of(struct evaluator *e, const struct scenario *s, const struct knobs *k,
                struct eps_rule *out);
/* The rule beside the best point of eps in each scenario of a grid; *n = 0 where it has no eps. The
 * caller frees *out, also after an error. */
int eps_rules_of(const struct grid *g, struct eps_rule **out, size_t *n);

#endif
