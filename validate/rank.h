/* validate/rank.h: one process of a team: runs the plans that it is given and sends what it
 * measured to whoever has begun the team. */
#ifndef PEOSIM_VALIDATE_RANK_H
#define PEOSIM_VALIDATE_RANK_H

#include <stdint.h>

#include "validate/gpu.h"

/* What is to be run, in the same order by every rank. */
struct gpu_work {
    size_t num_points;
    const unsigned char *skip;  /* [num_points]: those that are not 0 are left out */
    struct gpu_options options; /* of every point */
    bool experimental_gin;
    /* The point's plan, which the rank frees, and what the point changes of the options. */
    int (*plan)(void *self, size_t index, struct gpu_options *o, struct plan **plan);
    void *self;
};

/* Points that the GPUs cannot run have said why and are left out. Errors of the session. */
int gpu_rank_run(struct gpu_team *team, const struct gpu_work *work);

/* What rank 0 sends, a point at a time; the first one says what the machine is. */
#define GPU_ANSWER_MACHINE SIZE_MAX
struct gpu_answer {
    size_t index; /* of the point, or GPU_ANSWER_MACHINE */
    char versions[256];
    struct gpu_result gpu;
    struct trace *trace; /* NULL: its spans were refused */
};

/* From the bytes that a gpu_receiver takes; the caller frees the trace. ERR_DATA: they are none. */
int gpu_answer_read(const void *data, size_t bytes, int ranks, struct gpu_answer *out);

#endif
