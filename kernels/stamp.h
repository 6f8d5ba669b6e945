/* kernels/stamp.h: what a kernel records about its own run. Every launcher takes a pointer to one
 * of these in device memory, or NULL for no stamp. Plain C sees the record; CUDA also sees the
 * device functions. */
#ifndef PEOSIM_KERNELS_STAMP_H
#define PEOSIM_KERNELS_STAMP_H

#include <string.h>

/* Times are %globaltimer of the GPU that ran the kernel, in ns. */
struct kernel_stamp {
    unsigned long long start_ns;    /* the first CTA started */
    unsigned long long end_ns;      /* the last CTA ended */
    unsigned long long wait_ns;     /* time spent waiting for data, summed over CTAs */
    unsigned long long wait_max_ns; /* the same, of the CTA that waited longest */
    unsigned int ctas;              /* CTAs that ended */
    unsigned int sm_mask[8];        /* bit s % 32 of word s / 32: SM s ran a CTA */
};

/* The state a stamp must have before its kernel starts (start_ns is a running minimum). The caller
 * copies it to the device; several launches may share one stamp, which then spans them all. */
static inline void stamp_reset(struct kernel_stamp *stamp)
{
    memset(stamp, 0, sizeof(*stamp));
    stamp->start_ns = ~0ull;
}

/* The number of distinct SMs in a stamp that was copied back to the host. */
static inline unsigned int stamp_sm_count(const struct kernel_stamp *stamp)
{
    unsigned int count = 0;
    for (int word = 0; word < 8; word++) {
        for (unsigned int bits = stamp->sm_mask[word]; bits != 0; bits &= bits - 1)
            count++;
    }
    return count;
}

#ifdef __CUDACC__
static __device__ __forceinline__ unsigned long long stamp_now_ns(void)
{
    unsigned long long now_ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now_ns)::"memory");
    return now_ns;
}

/* The three below are called by ONE thread of each CTA, and do nothing when stamp is NULL.
 * stamp_begin: first thing in the kernel. */
static __device__ __forceinline__ void stamp_begin(struct kernel_stamp *stamp)
{
    if (stamp == NULL)
        return;
    atomicMin(&stamp->start_ns, stamp_now_ns());
    unsigned int sm;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    if (sm < 256)
        atomicOr(&stamp->sm_mask[sm / 32], 1u << (sm % 32));
}

/* stamp_wait: at most once per CTA, with the ns this CTA spent waiting for data. */
static __device__ __forceinline__ void stamp_wait(struct kernel_stamp *stamp,
                                                  unsigned long long wait_ns)
{
    if (stamp == NULL)
        return;
    atomicAdd(&stamp->wait_ns, wait_ns);
    atomicMax(&stamp->wait_max_ns, wait_ns);
}

/* stamp_end: last thing in the kernel, after the CTA's stores (behind a __syncthreads). */
static __device__ __forceinline__ void stamp_end(struct kernel_stamp *stamp)
{
    if (stamp == NULL)
        return;
    atomicMax(&stamp->end_ns, stamp_now_ns());
    atomicAdd(&stamp->ctas, 1u);
}
#endif

#endif
