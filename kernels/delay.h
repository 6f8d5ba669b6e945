/* kernels/delay.h: kernels for tests and microbenchmarks: delays, clocks, flags, pushes, copies,
 * and a stand-in for the experts. All launchers are capturable unless they say otherwise and return
 * 0, ERR_RANGE or ERR_GPU. */
#ifndef PEOSIM_KERNELS_DELAY_H
#define PEOSIM_KERNELS_DELAY_H

#include <stddef.h>
#include <cuda_runtime_api.h>
#include "kernels/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Holds `ctas` CTAs for a pseudo-random time up to delay.max_ns each (min_ns at least). */
struct delay_args {
    int ctas;
    int rank;
    unsigned int min_ns;
    struct kernels_delay delay;
    struct kernel_stamp *stamp;
};
int kernels_delay_launch(const struct delay_args *args, cudaStream_t stream);

/* Collective over this rank and `peer` alone: `iters` flag round trips. The lower rank measures.
 * Not capturable: each launch counts on from the last. */
struct ping_result {
    long long min_ns; /* shortest round trip */
    double mean_ns;
    long long offset_ns; /* peer's clock minus mine at the shortest; error at most min_ns / 2 */
};
struct ping_args {
    struct kernels_comm *comm;
    int peer;
    int iters;
    struct ping_result *result; /* device; written by the lower rank */
};
int kernels_ping_launch(const struct ping_args *args, cudaStream_t stream);

/* Pushes `bytes` (a multiple of 16) to the scratch of every other rank of `targets`, with `ctas`
 * CTAs. No flags: the kernel ends when the bytes are out. */
struct push_args {
    struct kernels_comm *comm;
    int ctas;
    enum kernels_copy copy;
    size_t bytes;               /* to each target; ranks * bytes <= scratch_bytes */
    unsigned long long targets; /* bit r: rank r; 0: all but this one */
    const void *from;           /* bytes, 16-byte aligned; every target gets the same */
    struct kernel_stamp *stamp;
};
int kernels_push_launch(const struct push_args *args, cudaStream_t stream);

/* Where a push from rank `from` lands in this rank's scratch, for checking. */
const void *kernels_push_landing(const struct kernels_comm *comm, int from, size_t bytes);

/* Copies bytes (a multiple of 16) within this GPU's memory with `ctas` CTAs. */
struct hbm_copy_args {
    int ctas;
    void *to;
    const void *from;
    size_t bytes;
    struct kernel_stamp *stamp;
};
int kernels_hbm_copy_launch(const struct hbm_copy_args *args, cudaStream_t stream);

/* In place of the experts: y_packed[l][r] = BF16(factors[l] * the packed row), for the rows that
 * are there, in blocks of block_m, adding tiles_per_unit to each finished unit (units may be NULL;
 * the layout is that of combine_args). */
struct standin_args {
    const struct kernels_comm *comm;
    int ctas;
    int local_first, locals; /* of the round */
    const void *packed_x;
    const float *packed_scales;
    long long scale_row, scale_group;
    const int *rows;
    const float *factors; /* [El] device */
    void *y_packed;
    unsigned int *units;
    int units_per_expert, block_m, tiles_per_unit;
    struct kernel_stamp *stamp;
};
int kernels_standin_launch(const struct standin_args *args, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
