/* study/grid.h: every point of a configuration, evaluated on several threads. The results do not
 * depend on how many. */
#ifndef PEOSIM_STUDY_GRID_H
#define PEOSIM_STUDY_GRID_H

#include "study/bound.h"
#include "study/config.h"
#include "study/evaluate.h"

struct grid_point {
    size_t scenario;
    const struct policy *policy;
    int entry;          /* index in config->policies */
    struct knobs knobs; /* with every `auto` resolved */
    bool skipped;       /* cannot run */
    struct evaluation ev;
    struct bound bound; /* of any schedule of its kernels */
};

struct grid {
    const struct config *config;
    size_t num_points;
    struct grid_point *points; /* in grid order */
    size_t num_left;           /* not evaluated, and so skipped: it was interrupted */
};

/* Threads take chunks of points of one scenario: small enough that a few slow points do not leave
 * threads idle at the end, large enough to simulate the baseline of a scenario seldom. */
#define GRID_CHUNK 8
size_t grid_num_chunks(const struct config *c);
void grid_chunk(const struct config *c, size_t chunk, size_t *first, size_t *count);

/* Who hands out chunks and takes results. take and done are called from one thread at a time. */
struct grid_work {
    const struct config *config;
    void *self;
    bool (*take)(void *self, size_t *chunk, int *err); /* false: none is left */
    bool (*have)(void *self, size_t index);            /* leave this point out; may be NULL */
    int (*done)(void *self, size_t index, const struct grid_point *p); /* also skipped points */
};
/* Evaluates what take hands out on `jobs` threads. The first error ends the rest. */
int grid_work_run(const struct grid_work *work, int jobs);

/* Calls fn for i = 0..n-1 on `jobs` threads, each with an evaluator of its own. The first error
 * ends the rest. */
int grid_each(size_t n, int jobs, int (*fn)(void *self, struct evaluator *e, size_t i), void *self);

/* The same in several rounds, whose threads keep their evaluators in between. Evaluator 0 is also
 * the caller's own between rounds. ERR_NOMEM. */
struct grid_crew;
int grid_crew_open(int jobs, struct grid_crew **out);
void grid_crew_close(struct grid_crew *crew); /* accepts NULL */
int grid_crew_each(struct grid_crew *crew, size_t n,
                   int (*fn)(void *self, struct evaluator *e, size_t i), void *self);
int grid_crew_evaluator(struct grid_crew *crew, int thread, struct evaluator **out);

/* Checks the config (evaluate_config), then evaluates all points. progress: done of all points are
 * ready; called from one thread at a time, may be NULL. The first error ends the rest. interrupt:
 * of base/interrupt.h, or -1; once it comes no more points begin, and those left count as skipped.
 */
int grid_run(const struct config *c, int jobs, int interrupt,
             void (*progress)(void *self, size_t done, size_t all), void *self, struct grid **out);
void grid_free(struct grid *g); /* accepts NULL */

/* The point with the least layer time of one policy in one scenario, or NULL. */
const struct grid_point *grid_best(const struct grid *g, size_t scenario,
                                   const struct policy *policy);
/* The point worth a timeline: the largest gain; where nothing gains, the last one that can run. */
const struct grid_point *grid_point_to_show(const struct grid *g);
/* Tries what `auto` stands for (the policy's search table), keeps the best in *k; then evaluates.
 */
int grid_evaluate(struct evaluator *e, const struct scenario *s, const struct policy *p,
                  struct knobs *k, struct evaluation *out);

/* The number of its method; 0 where the policy has none. */
int grid_point_method(const struct grid_point *p);
/* Name of a policy as a row or a line of a picture: "peo 3" with its method. */
void grid_point_name(const struct grid_point *p, char *buf, size_t size);
/* The rows of a scenario's table: each policy (each PEO method) with its best knobs, in the order
 * of the grid; returns how many. */
enum { GRID_ROWS_MAX = 32 };
int grid_rows(const struct grid *g, size_t scenario, const struct grid_point **rows);

#endif
