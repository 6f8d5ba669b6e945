/* validate/gpu_data.h: random weights and inputs, and what a layer must give for them, on the CPU.
 *
 * Weights of every expert are windows, at different offsets, of one random buffer that all ranks
 * draw from the same seed. So a rank can compute what experts on other GPUs do without their
 * memory, and uploading is copying; on the device each expert has its own copy, read from HBM as
 * real weights are. */
#ifndef PEOSIM_VALIDATE_GPU_DATA_H
#define PEOSIM_VALIDATE_GPU_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/slots.h"

struct data_weights {
    int hidden, inter;
    bool fp8;
    size_t matrix_bytes; /* of gate+up, the larger one; down has half */
    size_t base_bytes, scale_count;
    unsigned char *base; /* e4m3 or BF16 */
    float *scales;
};

enum data_matrix { DATA_UP, DATA_DOWN };

/* ERR_NOMEM. */
int data_weights_open(struct data_weights *w, int hidden, int inter, bool fp8, uint64_t seed);
void data_weights_close(struct data_weights *w);
/* Where in base, and in scales, the matrix of a weight set begins. A set is gpu * El + local. */
size_t data_weights_offset(const struct data_weights *w, int set, enum data_matrix m);
size_t data_weights_scale_offset(int set, enum data_matrix m);
size_t data_matrix_bytes(const struct data_weights *w, enum data_matrix m);
size_t data_matrix_scales(const struct data_weights *w, enum data_matrix m);

uint64_t data_random(uint64_t *state);
double data_uniform(uint64_t *state);
/* count BF16 values of a normal distribution; with fp8, e4m3 bytes that use the whole range. */
void data_fill(void *to, size_t count, bool fp8, double deviation, uint64_t *state);

/* One rank's tokens and their choices. */
struct data_inputs {
    int tokens, topk;
    uint16_t *x;           /* BF16 [tokens][hidden] */
    const int32_t *expert; /* [tokens][topk], borrowed; -1: none */
    float *weight;         /* [tokens][topk] */
};

/* What the layer must give for `num` tokens of the inputs, on several threads:
 * ref[i * hidden ...] for token[i]. Casts x as the dispatch does, rounds gate and up to BF16 and
 * quantises the activation where the kernels do, all else in double. ERR_NOMEM. */
int data_reference(const struct data_weights *w, const struct slots *slots,
                   const struct data_inputs *in, const int *token, int num, int threads,
                   double *ref);

/* FNV-1a, continued from hash. */
uint64_t data_hash(uint64_t hash, const void *data, size_t bytes);
#define DATA_HASH_START 14695981039346656037ull

#endif
