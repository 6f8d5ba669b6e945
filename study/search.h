/* study/search.h: the best knobs of a policy in one scenario. A grid of up to SEARCH_WHOLE_GRID
 * points is simulated in full. A larger one is searched with far fewer simulations: knobs that have
 * no order (the method, GEMM kinds) are tried one after another; over those that have one (rounds,
 * SMs) a pattern search goes downhill from the middle of the range with steps that halve: times
 * fall and rise again along each of these knobs, up to the steps of wave quantisation, which the
 * last rounds with step one and along the diagonals are for. The choice with the fastest middle is
 * searched first; the others are also tried where its best point stands, and dropped when they are
 * far off.
 *
 * A knob's allowed values are those of its list (or its one value) in the configuration; where
 * there is none, a range that makes sense for the policy. Results do not depend on threads. */
#ifndef PEOSIM_STUDY_SEARCH_H
#define PEOSIM_STUDY_SEARCH_H

#include "study/bound.h"
#include "study/config.h"
#include "study/evaluate.h"

enum { SEARCH_MAX_DIMS = 12, SEARCH_MAX_VALUES = 64, SEARCH_WHOLE_GRID = 500 };

struct search_dim {
    const struct opt *opt;
    bool ordered;
    int num_values;
    int value[SEARCH_MAX_VALUES]; /* ascending where ordered */
};

/* What knobs an entry of `policies` may take in a scenario. */
struct search_space {
    const struct policy *policy;
    struct search_dim dim[SEARCH_MAX_DIMS];
    int num_dims;
};

/* Over which values of an ordered knob the time stays within 2% of the best. */
struct search_flat {
    const struct opt *opt;
    int best, low, high;       /* values */
    int range_low, range_high; /* allowed */
};

struct search_result {
    bool found; /* false: no knobs can run */
    struct knobs knobs;
    struct evaluation ev;
    struct bound bound; /* recommend: of any schedule of its kernels */
    struct search_flat flat[SEARCH_MAX_DIMS];
    int num_flat;
    size_t simulations;
    bool near;                /* recommend: as good as the best, as far as could be told */
    bool whole;               /* all of them were tried */
    double grid;              /* points of the full grid over the same values */
    struct search_memo *memo; /* what was simulated, for search_flats; search_result_free */
    size_t num_memo, cap_memo;
};

/* ERR_RANGE (logged) when a list is longer than SEARCH_MAX_VALUES. */
int search_space_of(struct evaluator *e, const struct config *c, const struct scenario *s,
                    int entry, struct search_space *out);
/* Is its grid simulated in full, whatever other policies save? */
bool search_space_is_whole(const struct search_space *space);
/* to_beat_us: what another policy saves per layer; a policy that is far from it wherever it was
 * tried first is not followed (0 = follow). */
int search_run(struct evaluator *e, const struct scenario *s, const struct search_space *space,
               double to_beat_us, struct search_result *out);
/* Fills flat, from the point found on. Where it meets a faster point, that one is the result. */
int search_flats(struct evaluator *e, const struct scenario *s, const struct search_space *space,
                 struct search_result *out);
void search_result_free(struct search_result *r);

/* Microseconds that a result saves per layer against `none` with the same ops: how policies
 * measured with and without attention are compared. */
double search_saved_us(const struct search_result *r);

#endif
