/* kernels/rows.h: rows gathered into and scattered out of the buffers of a library all-to-all, and
 * the weighted sum of what came back. The lists are made by the host from the routing table. */
#ifndef PEOSIM_KERNELS_ROWS_H
#define PEOSIM_KERNELS_ROWS_H

#include <cuda_runtime_api.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kernel_stamp;

/* All pointers are device memory, 16-byte aligned; hidden % 512 == 0. A message is hidden e4m3
 * bytes and hidden / 128 float scales (fp8), or hidden BF16 values. One persistent kernel of ctas
 * CTAs; several launches may share a stamp, which then spans them. */
struct rows_args {
    int ctas;
    int hidden, fp8;
    int rows;
    const int *index; /* [rows]; what it names is said below */
    const void *from;
    void *to;
    float *scales;        /* unpack, fp8: [.., hidden / 128], row-major */
    const int2 *scale_at; /* unpack, fp8: [rows]: x where in scales the row's first one goes, y how
                             far apart its scales lie; NULL: row-major */
    const int *source;    /* unpack: [rows], the message to take; NULL: message i */
    /* Copies of normal mode: each message carries its token's choices behind its values, so that
     * the rank it goes to can weigh what it sends back. 0: messages carry none. */
    int choices;               /* per token */
    const int *topk_idx;       /* pack: of the tokens that index names, [..][choices] */
    const float *topk_weights; /* the same */
    const float *weights;      /* sum: [rows][topk]; NULL: all 1 */
    int weights_stride;        /* floats from one row's weights to the next one's; 0: topk */
    int topk;
    struct kernel_stamp *stamp; /* NULL or reset */
};

/* to[i] = the message of BF16 row from[index[i]]; fp8 casts as the dispatch kernels do. */
int kernels_rows_pack_launch(const struct rows_args *args, cudaStream_t stream);
/* Row index[i] of to, and of scales, = message source[i] of from. */
int kernels_rows_unpack_launch(const struct rows_args *args, cudaStream_t stream);
/* to[i] = BF16 row from[index[i]]. */
int kernels_rows_gather_launch(const struct rows_args *args, cudaStream_t stream);
/* to[i] = sum over k, in order, of weights[i][k] * BF16 row from[index[i * topk + k]] (-1: left
 * out), in float, rounded to BF16 once. rows 0: only the stamp. */
int kernels_rows_sum_launch(const struct rows_args *args, cudaStream_t stream);

/* Bytes of a message without and with choices: 8 bytes of expert id and 4 of weight each. */
#define KERNELS_ROWS_MESSAGE(hidden, fp8)                                                          \
    ((fp8) ? (size_t)(hidden) + (size_t)(hidden) / 128 * 4 : 2 * (size_t)(hidden))
#define KERNELS_ROWS_COPY(hidden, fp8, choices)                                                    \
    ((KERNELS_ROWS_MESSAGE(hidden, fp8) + 12 * (size_t)(choices) + 15) / 16 * 16)
/* Where in a message the weights begin: what a sum over received copies is given as weights. */
#define KERNELS_ROWS_WEIGHTS(hidden, fp8, choices)                                                 \
    (KERNELS_ROWS_MESSAGE(hidden, fp8) + 8 * (size_t)(choices))

#ifdef __cplusplus
}
#endif

#endif
