/* validate/gpu_replay.h: replays of one plan on this rank's GPU. Inside back end 2 only. */
#ifndef PEOSIM_VALIDATE_GPU_REPLAY_H
#define PEOSIM_VALIDATE_GPU_REPLAY_H

#include "validate/gpu_backend.h"

struct gpu_replay {
    struct gpu_run *r;
    bool stamped;
    int passes;
    cudaGraphExec_t exec; /* NULL: eager */
};

/* Captures `passes` passes, with stamps or without; eager runs have nothing to capture. */
int gpu_replay_open(struct gpu_replay *p, struct gpu_run *r, bool stamped, int passes);
void gpu_replay_close(struct gpu_replay *p);
/* Enqueues all passes behind what is on stream 0. */
int gpu_replay_start(const struct gpu_replay *p);
/* Collective: on memory that nobody has written yet; waits for its end. */
int gpu_replay_poisoned(const struct gpu_replay *p);
/* Time of one layer in the last pass's steady period, on this rank: from the last of the streams to
 * leave the layer before it to the last to leave it. */
int gpu_replay_period_us(const struct gpu_run *r, double *us);

#endif
