#include "study/op_basis.h"

#include <stdio.h>
#include <string.h>

#include "model/law/cost_range.h"

static void op_add(struct op_basis *out, const struct coverage_costs *costs,
                   const struct hw_profile *profile, const struct plan *plan, int op)
{
    enum plan_op_kind kind = plan->ops[op].kind;
    enum coverage_basis basis = coverage_costs_basis(costs, plan, 0, op);
    char *why = out->why[0] ? NULL : out->why;

    if (!out->seen[kind] || basis > out->basis[kind])
        out->basis[kind] = basis;
    out->seen[kind] = true;
    out->outside[kind] |= cost_range_outside(profile, plan, op, why, sizeof out->why);
}

int op_basis_add(struct op_basis *out, struct evaluator *e, const struct config *config,
                 size_t scenario, const struct policy *policy, const struct knobs *knobs)
{
    struct coverage_costs costs = {0};
    struct plan *plan = NULL;
    struct scenario s;
    int rc = config_scenario(config, scenario, &s);

    if (rc != 0)
        return rc;
    rc = evaluate_plan(e, &s, policy, knobs, &plan);
    if (rc == 0)
        rc = coverage_costs_open(evaluate_profile(e), &costs);
    if (rc == 0)
        snprintf(out->profile, sizeof out->profile, "%s", evaluate_profile(e)->name);
    for (int op = 0; rc == 0 && op < plan->num_ops; op++)
        op_add(out, &costs, evaluate_profile(e), plan, op);
    coverage_costs_close(&costs);
    plan_free(plan);
    scenario_free(&s);
    return rc;
}

int op_basis_of_grid(const struct grid *g, struct op_basis *out)
{
    size_t last = config_num_scenarios(g->config) - 1;
    struct evaluator *e = NULL;
    int rc = evaluator_open(&e);

    memset(out, 0, sizeof *out);
    for (size_t i = 0; rc == 0 && i <= (last > 0); i++) {
        const struct grid_point *rows[GRID_ROWS_MAX];
        int n = grid_rows(g, i ? last : 0, rows);

        for (int j = 0; j < n && rc == 0; j++)
            rc = op_basis_add(out, e, g->config, rows[j]->scenario, rows[j]->policy,
                              &rows[j]->knobs);
    }
    evaluator_close(e);
    return rc;
}

void op_basis_names(const struct op_basis *b, enum coverage_basis basis, bool outside, char *buf,
                    size_t size)
{
    size_t at = 0;

    buf[0] = '\0';
    for (int k = 0; k < OP_KIND_COUNT && at + 1 < size; k++)
        if (b->seen[k] && b->basis[k] == basis && b->outside[k] == outside)
            at += (size_t)snprintf(buf + at, size - at, "%s%s", at ? ", " : "",
                                   plan_op_kind_name((enum plan_op_kind)k));
}
