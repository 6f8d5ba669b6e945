/* kernels/dedup.h: the exchange without duplicates. A token's row goes once to each rank that has
 * one of its experts, which copies it to all of them; back comes one row per token and rank, the
 * sum there of what its experts gave. A token with top-k of 8 on 2 ranks is 2 rows each way, not 8.
 *
 * Arguments, buffers, parities and what is promised: as kernels/comm.h has them for fused kernels
 * of one round, but the handle's shape has `dedup`, a dispatch also takes topk_weights, round is 0
 * and rounds 1, copy, units and hot_rows mean nothing, and num_sms is the number of CTAs. A sum is
 * rounded to BF16 once per rank and once at the end: not the same bits as combine's. The combine
 * needs what the dispatch of its parity left, y_packed, `tokens`, topk_idx and y; packed rows may
 * be in another order. Ranks must be in reach of NVLink. */
#ifndef PEOSIM_KERNELS_DEDUP_H
#define PEOSIM_KERNELS_DEDUP_H

#include "kernels/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Each returns 0, ERR_RANGE or ERR_GPU. Capturable. */
int kernels_dedup_dispatch_launch(const struct dispatch_args *args, cudaStream_t stream);
int kernels_dedup_combine_launch(const struct combine_args *args, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
