/* study/recommend.h: the best policy of every scenario of a configuration, found by search, with
 * what is known about how sure and how sharp it is. */
#ifndef PEOSIM_STUDY_RECOMMEND_H
#define PEOSIM_STUDY_RECOMMEND_H

#include "study/search.h"

#define RECOMMEND_NEAR 0.01

struct recommend_pick {
    size_t scenario;
    struct search_result *entry; /* [config->num_policies]; `none` is not searched */
    int best;                    /* entry that saves most, also where that is less than nothing;
                                    -1 = no policy can run */
    bool exact; /* whether to overlap, or which policy wins, hung on less than RECOMMEND_NEAR of
                   the baseline: best, its rivals and their baselines were simulated exactly */
    /* 90% of the gain over drawn profiles (study/draws.h), and the gain itself. */
    bool has_interval;
    double gain_low_pct, gain_high_pct;
};

/* Where overlap begins or ceases to pay as the batch grows; the rest of the scenario is that of
 * `scenario`, the last one before the change. */
struct recommend_turn {
    size_t scenario;
    bool pays_above; /* pays from `batch` on; else up to below it */
    int batch;
    int low_batch, high_batch; /* the listed ones that it lies between */
};

struct recommend {
    const struct config *config;
    struct recommend_pick *pick; /* one per scenario */
    size_t num_picks;
    struct recommend_turn *turn;
    size_t num_turns;
    size_t simulations; /* of the search, without the draws */
    double grid;        /* points of the full grid over the same values */
    bool partly;        /* some grid was too large to simulate in full */
    int draws;
};

/* draws: profiles per interval, 0 = none. ERR_CONFIG (logged) where `policies` has only `none`. */
int recommend_run(const struct config *c, int jobs, int draws, struct recommend **out);
void recommend_free(struct recommend *r); /* accepts NULL */

/* The scenario whose winner gains most, NULL where no policy can run. */
const struct recommend_pick *recommend_best(const struct recommend *r);
/* Is overlap worth enabling in this scenario? */
bool recommend_pays(const struct recommend_pick *p);

#endif
