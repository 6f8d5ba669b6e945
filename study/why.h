/* study/why.h: one point taken apart: its critical path, the slack of its ops, and what it would be
 * in worlds that differ in one thing. */
#ifndef PEOSIM_STUDY_WHY_H
#define PEOSIM_STUDY_WHY_H

#include "study/grid.h"
#include "study/terms.h"

enum { WHY_PARTS = PART_COUNT + 1, WHY_MAX_FIXES = 16 }; /* the last part: launch gaps */

struct why_part {
    double us[WHY_PARTS], all_us; /* per layer */
};

struct why_kind { /* what ops of one kind are of the critical path */
    enum plan_op_kind kind;
    struct why_part part;
};

struct why_op { /* an op of the slowest rank, in order of start; times within the trace */
    char label[64], stream[16];
    double start_us, end_us;
    double path_us; /* on the critical path, on whatever rank */
    double slack_us, least_slack_us;
};

struct why_fix {
    const char *name;
    struct whatif what;
    bool possible;
    double layer_us, none_us, gain_pct, saves_us; /* saves: against the world as it is */
};

struct why {
    struct grid_point point; /* with its evaluation and bound */
    struct why_part total;
    struct why_kind kind[OP_KIND_COUNT]; /* the largest first */
    int num_kinds;
    struct why_op *op;
    int num_ops;
    struct why_fix fix[WHY_MAX_FIXES]; /* what saves most first */
    int num_fixes;
    bool has_terms; /* of a layer by itself: a policy measured over several has no such steps */
    struct terms terms;
};

const char *why_part_name(int part);
/* The point asked about: the only one, or the best that a search finds. ERR_INFEASIBLE, logged. */
int why_find(const struct config *c, int jobs, struct grid_point *out);
/* The point's scenario, policy and knobs are read. ERR_INFEASIBLE (logged) where it cannot run. */
int why_run(const struct config *c, const struct grid_point *point, int jobs, struct why **out);
void why_free(struct why *w); /* accepts NULL */

#endif
