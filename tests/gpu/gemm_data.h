/* tests/gpu/gemm_data.h: random operands and device buffers for the GEMM test and benchmark. A
 * failure here ends the program: both are small and have nothing to save. */
#ifndef PEOSIM_TESTS_GPU_GEMM_DATA_H
#define PEOSIM_TESTS_GPU_GEMM_DATA_H

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ref_gemm.h"

static inline void data_die(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

static inline void data_cuda(const char *file, int line, cudaError_t status)
{
    if (status != cudaSuccess)
        data_die(file, line, cudaGetErrorString(status));
}

#define CUDA(call)   data_cuda(__FILE__, __LINE__, call)
#define LAUNCH(call) data_launch(__FILE__, __LINE__, call)

static inline void data_launch(const char *file, int line, int err)
{
    if (err != 0)
        data_die(file, line, "a launcher failed");
}

/* True when there is a Hopper GPU; says why not otherwise. */
static inline int data_gpu_present(const char *program)
{
    struct cudaDeviceProp prop;
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        printf("%s: skipped: no GPU\n", program);
        return 0;
    }
    CUDA(cudaGetDeviceProperties(&prop, 0));
    if (prop.major != 9) {
        printf("%s: skipped: needs a Hopper GPU, this is %s\n", program, prop.name);
        return 0;
    }
    return 1;
}

static inline int data_sm_count(void)
{
    int sms;
    CUDA(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0));
    return sms;
}

static inline uint64_t data_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline double data_uniform(uint64_t *state)
{
    return (double)(data_random(state) >> 11) * 0x1p-53;
}

static inline double data_normal(uint64_t *state)
{
    const double u = 1 - data_uniform(state);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * data_uniform(state));
}

/* Normal values; e4m3 ones as a quantised group has them, with a deviation of a third of the
 * maximum. Drawn from a table of 64 Ki values: the draw is what costs time. */
static inline void data_fill(enum gemm_dtype dtype, void *data, size_t count, uint64_t *state)
{
    static uint16_t table[65536];
    for (int i = 0; i < 65536; i++)
        table[i] = dtype == GEMM_FP8 ? ref_e4m3_bits(data_normal(state) * 448 / 3.5)
                                     : ref_bf16_bits(data_normal(state));
    for (size_t i = 0; i < count; i += 4) {
        const uint64_t draw = data_random(state);
        for (size_t j = 0; j < 4 && i + j < count; j++) {
            const uint16_t value = table[draw >> 16 * j & 0xffff];
            if (dtype == GEMM_FP8)
                ((uint8_t *)data)[i + j] = (uint8_t)value;
            else
                ((uint16_t *)data)[i + j] = value;
        }
    }
}

static inline void data_fill_scales(float *scale, size_t count, uint64_t *state)
{
    for (size_t i = 0; i < count; i++)
        scale[i] = (float)exp2(-9 + 4 * data_uniform(state));
}

static inline void *data_host(size_t bytes)
{
    void *p = malloc(bytes);
    if (p == NULL)
        data_die(__FILE__, __LINE__, "out of memory");
    return p;
}

static inline void *data_device(size_t bytes)
{
    void *p;
    CUDA(cudaMalloc(&p, bytes));
    return p;
}

static inline void *data_upload(const void *host, size_t bytes)
{
    void *p = data_device(bytes);
    CUDA(cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice));
    return p;
}

#endif
