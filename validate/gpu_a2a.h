/* validate/gpu_a2a.h: dispatch and combine as library all-to-alls between a pack and an unpack
 * kernel, as `eps` has them. The host knows the routing, so counts need no exchange. Inside back
 * end 2 only. */
#ifndef PEOSIM_VALIDATE_GPU_A2A_H
#define PEOSIM_VALIDATE_GPU_A2A_H

#include "validate/gpu_session.h"

struct a2a_round {
    int send_rows, recv_rows, first_row; /* first_row: of the rounds before, in send order */
    int *token, *packed;                 /* device: what is sent; where what is received goes */
    size_t send_count[GPU_MAX_RANKS], recv_count[GPU_MAX_RANKS]; /* rows to and from each rank */
};

struct gpu_a2a {
    int rounds, tokens;
    struct a2a_round *round;
    void *send, *recv, *back; /* back: BF16 rows returned, in send order over all rounds */
    int *position;            /* device [tokens][topk]: a choice's row in back, -1: none */
};

/* Lists and buffers for a plan's rounds; opens communicators of the SM counts its ops ask for.
 * Also sets the row counts of the packed tensor. Collective. ERR_UNSUPPORTED in slice mode. */
int gpu_a2a_open(struct gpu_a2a **out, struct gpu_session *s, const struct plan *plan);
void gpu_a2a_close(struct gpu_a2a *a); /* accepts NULL */

int gpu_a2a_dispatch(struct gpu_a2a *a, struct gpu_session *s, const struct plan_op *op,
                     cudaStream_t stream, struct kernel_stamp *stamp);
/* The last round's also sums what came back in all of them. */
int gpu_a2a_combine(struct gpu_a2a *a, struct gpu_session *s, const struct plan_op *op,
                    cudaStream_t stream, struct kernel_stamp *stamp);

#endif
