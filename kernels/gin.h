/* kernels/gin.h: sends to peers beyond NVLink by NCCL's GPU-initiated networking, for dispatch.cu,
 * combine.cu and comm.cu. UNTESTED: no machine with several hosts has run it. It shares all slot,
 * flag and offset arithmetic with the NVLink path (kernels/slots.h).
 *
 * A send by stores skips peers beyond NVLink; the send here, after it on the same stream, serves
 * only them. The flags launch turns arrived signals into ordinary flags and stands before a
 * receive. Each does nothing and returns 0 where no peer lies beyond NVLink; ERR_UNSUPPORTED with
 * pacing (an emulated network and a real one do not go together), ERR_RANGE, ERR_GPU. */
#ifndef PEOSIM_KERNELS_GIN_H
#define PEOSIM_KERNELS_GIN_H

#include "kernels/comm.h"

/* Does any peer lie beyond NVLink? */
int kernels_gin_wanted(const struct kernels_comm *comm);

int kernels_gin_dispatch(const struct dispatch_args *args, cudaStream_t stream);
int kernels_gin_dispatch_flags(const struct dispatch_args *args, cudaStream_t stream);
int kernels_gin_combine(const struct combine_args *args, cudaStream_t stream);
int kernels_gin_combine_flags(const struct combine_args *args, cudaStream_t stream);

/* kernels_ping_launch for such a peer: ping-pongs first .. first + iters - 1. */
struct ping_args;
int kernels_gin_ping(const struct ping_args *args, unsigned long long first, cudaStream_t stream);

#endif
