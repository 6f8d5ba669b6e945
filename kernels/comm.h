/* kernels/comm.h: the expert-parallel exchange between the GPUs of one host, over NCCL's symmetric
 * memory. One process per GPU; every function marked "collective" is called by all of them in the
 * same order. Kernels are launched on a stream the caller owns; launchers neither allocate nor
 * synchronise, so that they can be captured into CUDA graphs.
 *
 * An exchange (one layer of one batch) uses one parity, 0 or 1, i.e. one of two buffer sets:
 *   dispatch send of every round, dispatch receive of every round, combine send of every round,
 *   one combine receive.
 * On each GPU the exchanges of one parity follow one another: the first dispatch send of the next
 * one comes after the combine receive of the last. Two parities may be in flight at once. No
 * barrier is needed for that, whatever the ranks' speed:
 * - A rank that sends exchange n+1 has done its combine receive of n, so every expert of every rank
 *   has sent its combine flags of n, which it did after receiving all of its dispatch messages of
 *   n. So no dispatch slot is overwritten before it was read.
 * - A rank that combine-sends round i of n+1 has had the counts of round i of n+1 from every rank
 *   (zero counts are sent too), and each rank sent them after its combine receive of n. So no
 *   combine slot is overwritten before it was read.
 * - Each flag belongs to one channel (local expert, virtual source), whose two ends count their
 *   messages; by the above a channel holds at most one unread flag. So flags never need clearing,
 *   captured graphs can be replayed, and the number of rounds may change between exchanges.
 * A benchmark that only dispatches (or only combines) must alternate the parities: then a rank
 * begins n+2 after it has received n+1 from all ranks, which sent it after finishing n. */
#ifndef PEOSIM_KERNELS_COMM_H
#define PEOSIM_KERNELS_COMM_H

#include <stddef.h>
#include <cuda_runtime_api.h>
#include "kernels/slots.h"
#include "kernels/stamp.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KERNELS_COMM_ID_BYTES 128

/* How rows travel. AUTO is what measured best: bulk copies for a dispatch, stores for the rest. */
enum kernels_copy {
    KERNELS_COPY_AUTO = 0,
    KERNELS_COPY_STORES, /* 16-byte stores, several in flight per thread */
    KERNELS_COPY_BULK    /* bulk copies from shared memory */
};

struct kernels_comm;

struct kernels_comm_config {
    struct slots_shape shape;
    size_t scratch_bytes; /* for kernels_push_launch: bytes per peer x ranks */
    long long timeout_ns; /* deadline of every wait on the device; 0: 10 s */
    double host_wait_s;   /* deadline of every wait of the host for the other ranks; 0: 60 s. Where
                             it passes, the process says what it waited for and ends (base/watch.h):
                             a thread inside a library's collective cannot be called back */
    int experimental_gin; /* let ranks lie beyond NVLink and send to them by NCCL's GPU-initiated
                             networking (untested); changes nothing where none does */
};

/* A rank that has CUDA makes the id; the others get it by whatever means. */
int kernels_comm_id(unsigned char id[KERNELS_COMM_ID_BYTES]);

/* Collective. Uses the current device. Returns ERR_UNSUPPORTED when the loaded NCCL is not the
 * version this was compiled with, the GPU is not sm_90, or ranks lie beyond NVLink and GIN was not
 * asked for or NCCL has none here. */
int kernels_comm_open(struct kernels_comm **out, const struct kernels_comm_config *config,
                      const unsigned char id[KERNELS_COMM_ID_BYTES]);
/* Collective, unless a wait of this handle has failed: then it ends without the others. NULL is
 * fine. */
void kernels_comm_close(struct kernels_comm *comm);

const struct slots *kernels_comm_slots(const struct kernels_comm *comm);

/* Reads the device's status word after the caller has synchronised: 0, ERR_TIMEOUT when a wait
 * passed its deadline (logged once with what it waited for), ERR_GPU. After a timeout the handle
 * is only good for closing. */
int kernels_comm_status(struct kernels_comm *comm);

/* Collective: all ranks' work on `stream` so far is done before any rank's work after it. */
int kernels_comm_barrier(struct kernels_comm *comm, cudaStream_t stream);

/* For checks: fills messages, combine rows and staged tokens of this GPU's window with 0xff, which
 * reads as NaN. Flags and counters stay. Only between barriers: no exchange may be under way. */
int kernels_comm_poison(struct kernels_comm *comm, cudaStream_t stream);

/* Collective, synchronous: every rank gets every rank's `bytes` bytes at all[rank * bytes]. Host
 * memory. For results and clocks, not for speed. */
int kernels_comm_gather(struct kernels_comm *comm, const void *mine, void *all, size_t bytes);

/* Collective, synchronous: offset_ns[r] = globaltimer of rank r minus that of rank 0, and
 * round_trip_ns[r] the shortest round trip seen (half of it bounds the error). [ranks] each. */
int kernels_comm_clocks(struct kernels_comm *comm, long long *offset_ns, long long *round_trip_ns);

/* Collective, synchronous: makes a second communicator whose collectives use exactly `ctas` CTAs.
 * The 8 asked for last stay; asking again for one of them is free. No all-to-all may be under way,
 * and graphs that hold one that goes must have been destroyed: NCCL waits for that. */
int kernels_comm_alltoall_open(struct kernels_comm *comm, int ctas);

/* All-to-all on NCCL with `ctas` CTAs (opened above): bytes send_bytes[r] from send +
 * send_offsets[r] to rank r, recv_bytes[r] from r to recv + recv_offsets[r]. Host arrays of
 * [ranks], read before returning. Capturable. */
struct alltoall_args {
    struct kernels_comm *comm;
    int ctas;
    const void *send;
    void *recv;
    const size_t *send_bytes;
    const size_t *send_offsets;
    const size_t *recv_bytes;
    const size_t *recv_offsets;
};
int kernels_alltoall_launch(const struct alltoall_args *args, cudaStream_t stream);

/* Paced mode, for emulating a slower network. A flag from another GPU carries the time at which its
 * messages would have left a NIC of `bytes_per_ns` (they queue behind earlier ones of this GPU),
 * and the reader holds it back until that time + latency_ns. Off when bytes_per_ns is 0. */
struct kernels_pacing {
    double bytes_per_ns;
    long long latency_ns;
    const long long *clock_offset_ns; /* device, [ranks], from kernels_comm_clocks; NULL: zeros */
};

/* Random spins before a kernel's sends, for tests. */
struct kernels_delay {
    unsigned int max_ns; /* 0: none */
    unsigned int seed;
};

/* Where rows of the packed tensor came from: the channel's source and the slot to answer to. */
struct kernels_row_source {
    int token;
    short k;
    short vsrc;
};

/* Dispatch: T tokens of x go to the experts that topk_idx names. Round r of `rounds` handles local
 * experts [r * El / rounds, (r + 1) * El / rounds) of EVERY rank. Round 0's send casts all tokens
 * (FP8: scale = max|x| / 448 per 128 channels, at least 1e-4 / 448), later rounds send what it
 * left.
 * The receive packs the rows of local expert l to packed_x[l][row], row < rows[l], in no
 * particular order except that the rows of one source are contiguous (`segments`). Its buffers
 * belong to the caller: El = experts_local, V = vranks, M = V * max_tokens rows per expert. */
struct dispatch_args {
    struct kernels_comm *comm;
    int parity;
    int round, rounds;         /* rounds divides El */
    int num_sms;               /* the grid follows from it, kernels_comm_grid */
    enum kernels_copy copy;    /* of the send */
    int tokens;                /* T, 0..max_tokens */
    const void *x;             /* BF16 [T][H], 16-byte aligned; only round 0 reads it */
    const void *topk_idx;      /* [T][k] expert ids, -1: none; no id twice in a token */
    int topk_idx_bytes;        /* 4 or 8: its integer type */
    const float *topk_weights; /* [T][k]; kernels/dedup.h only, whose receivers weigh */
    /* receive only */
    void *packed_x;                     /* e4m3 or BF16 [El][M][H], 16-byte aligned */
    float *packed_scales;               /* FP8: scale of channel group g of row r of expert l at
                                           l * M * (H/128) + r * scale_row + g * scale_group */
    long long scale_row, scale_group;   /* elements; row-major [El][M][H/128]: H/128 and 1 */
    struct kernels_row_source *sources; /* [El][M] */
    int *rows;                          /* [El] */
    int2 *segments;                     /* [El][V]: x first row, y rows, of each virtual source */
    int hot_rows; /* messages expected in the fullest channel of the round (an expert's, from one
                     source): from KERNELS_SPREAD_FROM on all CTAs of the receive share the full
                     ones, at the price of a look at each other. Affects speed only; 0: few */
    struct kernels_pacing pacing;
    struct kernels_delay delay;
    struct kernel_stamp *stamp; /* device or NULL; wait: what a CTA's slowest warp group waited */
};

enum { KERNELS_SPREAD_FROM = 64 };

/* Each returns 0, ERR_RANGE, ERR_INFEASIBLE (grid) or ERR_GPU. Peers in reach of NVLink are sent to
 * by stores, others by GIN in kernels of its own behind these (kernels/gin.h); fused kernels are
 * then two. */
int kernels_dispatch_send_launch(const struct dispatch_args *args, cudaStream_t stream);
int kernels_dispatch_recv_launch(const struct dispatch_args *args, cudaStream_t stream);
int kernels_dispatch_fused_launch(const struct dispatch_args *args, cudaStream_t stream);

/* Combine: the rows of y_packed go back to the tokens they came from, and there
 * y[t] = sum over k, in index order, of topk_weights[t][k] * row, in float, rounded to BF16 once.
 * The receive waits for all experts of all ranks. */
struct combine_args {
    struct kernels_comm *comm;
    int parity;
    int round, rounds; /* of the send; the receive always covers all experts */
    int num_sms;
    enum kernels_copy copy;
    /* send: what the dispatch receive left, and the expert outputs */
    const void *y_packed; /* BF16 [El][M][H], 16-byte aligned */
    const struct kernels_row_source *sources;
    const int *rows;
    const int2 *segments;
    /* send for SBO: waits for tiles, unit by unit. units NULL: no waiting. The grid is num_sms CTAs
     * of 32 warps. unit b of expert l covers rows [b * block_m, (b + 1) * block_m) and is ready
     * when units[l * units_per_expert + b] >= tiles_per_unit; the kernel zeroes the counters of its
     * round when it is done with them. */
    unsigned int *units;
    int units_per_expert, block_m, tiles_per_unit;
    /* receive */
    int tokens;
    const void *topk_idx;
    int topk_idx_bytes;
    const float *topk_weights; /* [T][k] */
    void *y;                   /* BF16 [T][H], 16-byte aligned */
    struct kernels_pacing pacing;
    struct kernels_delay delay;
    struct kernel_stamp *stamp;
};

int kernels_combine_send_launch(const struct combine_args *args, cudaStream_t stream);
int kernels_combine_recv_launch(const struct combine_args *args, cudaStream_t stream);
int kernels_combine_fused_launch(const struct combine_args *args, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
