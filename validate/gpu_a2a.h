/* validate/gpu_a2a.h: dispatch and combine as library all-to-alls between kernels that gather and
 * scatter rows. The host knows the routing, so counts need no exchange. Inside back end 2 only.
 *
 * comm: nccl (`eps`): one message per token and chosen expert; the ops a2a_dispatch and a2a_combine
 * are pack, all-to-all, unpack and gather, all-to-all, sum.
 * comm: normal: one copy per token and rank, which carries the token's choices; dispatch is pack
 * and all-to-all, permute spreads the copies to the rows of each expert, unpermute weighs and sums
 * them to one row per copy, combine is all-to-all and sum. These are stand-ins for DeepEP's normal
 * kernels, which this program does not have: the same copies, NCCL's CTAs instead of theirs, and
 * no notify kernel. What goes back carries no weights (4 bytes a choice in the plan's count).
 *
 * Slice mode: a rank sends what it would send to all of the larger group, to the GPUs that stand
 * for it: virtual rank v is GPU v % GPUs, as in kernels/slots.h. */
#ifndef PEOSIM_VALIDATE_GPU_A2A_H
#define PEOSIM_VALIDATE_GPU_A2A_H

#include "validate/gpu_session.h"

struct a2a_round {
    int send_rows, recv_rows, first_row; /* first_row: of the rounds before, in send order */
    int *token;                          /* device: the token of each message sent */
    int *packed;    /* device: where each message received goes; NULL in normal mode */
    int2 *scale_at; /* device: where its scales go; NULL: row-major */
    size_t send_count[GPU_MAX_RANKS], recv_count[GPU_MAX_RANKS]; /* messages to and from each GPU */
};

/* One slice of the batch. */
struct a2a_part {
    bool copies; /* normal mode */
    int tokens, first_token;
    int rounds;
    struct a2a_round *round;
    void *send, *recv, *back; /* back: BF16 rows returned, in send order over all rounds */
    int width;                /* rows that may come back for a token */
    int *position;            /* device [tokens][width]: those rows in back, -1: none */
    /* Normal mode, device: */
    int rows;                   /* of this rank's experts */
    int *row_copy, *row_packed; /* [rows]: which copy received, and where it goes */
    int *copy_rows;             /* [copies][topk]: the rows of a copy, -1: not of this rank */
};

struct gpu_a2a {
    struct a2a_part part[2];
};

/* Is it an op of this file? */
bool gpu_a2a_is(const struct plan_op *op);

/* Rows of a local expert on this GPU: those of one rank, or in slice mode of all that it stands
 * for, from the tokens of the GPUs there are. */
int gpu_a2a_rows(const struct plan *plan, const struct gpu_session *s, int batch, int local);

/* Lists and buffers for a plan's ops; opens communicators of the SM counts they ask for. Also sets
 * the row counts of the packed tensors. scale_rows [batches][El]: > 0: this expert's FP8 scales lie
 * as [hidden / 128][scale_rows], else row-major; NULL: all row-major. Collective. */
int gpu_a2a_open(struct gpu_a2a **out, struct gpu_session *s, const struct plan *plan,
                 const int *scale_rows);
void gpu_a2a_close(struct gpu_a2a *a); /* accepts NULL */
/* Fills what messages pass through with NaN. */
int gpu_a2a_poison(struct gpu_a2a *a, const struct gpu_session *s, cudaStream_t stream);

/* The last round's a2a_combine also sums what came back in all of them. */
int gpu_a2a_launch(struct gpu_a2a *a, struct gpu_session *s, const struct plan_op *op,
                   cudaStream_t stream, struct kernel_stamp *stamp);

#endif
