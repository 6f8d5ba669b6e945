/* The element-wise kernels around attention: norm, quantisation, rotary embedding with the write
 * into the cache. Each moves every byte once, in 16-byte words. */
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/bf16x8.cuh"
#include "kernels/attention.h"
#include "kernels/quant.h"
#include "kernels/stamp.h"
extern "C" {
#include "base/err.h"
#include "base/log.h"
}

namespace
{

constexpr int THREADS = 1024;
constexpr int LANE_CHANNELS = 8; /* of one 16-byte word */
constexpr int NORM_WORDS = 2;    /* a thread's, of one row */

/* The sum over all threads, in every thread. */
__device__ float block_sum(float value, float *part)
{
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        value += __shfl_xor_sync(~0u, value, distance);
    __syncthreads(); /* part may still be read from the row before */
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = value;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++)
        sum += part[i];
    return sum;
}

/* A CTA per row, the row in registers between its sum and its product. */
__global__ void __launch_bounds__(THREADS, 1)
    norm_kernel(const __grid_constant__ attention_norm_args p)
{
    __shared__ float part[THREADS / 32];
    const int words = p.width / LANE_CHANNELS;
    const uint4 *weight = static_cast<const uint4 *>(p.weight);
    if (threadIdx.x == 0)
        stamp_begin(p.stamp);
    for (int row = blockIdx.x; row < p.rows; row += gridDim.x) {
        const size_t line = (size_t)row * words;
        float v[NORM_WORDS][8], sum = 0.0f;
#pragma unroll
        for (int i = 0; i < NORM_WORDS; i++) {
            const int at = threadIdx.x + i * THREADS;
            if (at >= words)
                break;
            bf16x8_unpack(static_cast<const uint4 *>(p.x)[line + at], v[i]);
            if (p.residual != NULL) {
                float other[8];
                bf16x8_unpack(static_cast<const uint4 *>(p.residual)[line + at], other);
#pragma unroll
                for (int j = 0; j < 8; j++)
                    v[i][j] += other[j];
                static_cast<uint4 *>(p.residual_out)[line + at] = bf16x8_pack(v[i]);
            }
#pragma unroll
            for (int j = 0; j < 8; j++)
                sum += v[i][j] * v[i][j];
        }
        const float factor = rsqrtf(block_sum(sum, part) / p.width + ATTENTION_NORM_EPSILON);
#pragma unroll
        for (int i = 0; i < NORM_WORDS; i++) {
            const int at = threadIdx.x + i * THREADS;
            if (at >= words)
                break;
            float by[8];
            bf16x8_unpack(weight[at], by);
#pragma unroll
            for (int j = 0; j < 8; j++)
                v[i][j] *= factor * by[j];
            static_cast<uint4 *>(p.out)[line + at] = bf16x8_pack(v[i]);
        }
    }
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(p.stamp);
}

/* A half warp per group of 128 channels. */
__global__ void __launch_bounds__(THREADS, 1)
    quant_kernel(const __grid_constant__ attention_quant_args p)
{
    const int groups = p.width / QUANT_GROUP, halves = THREADS / 16 * gridDim.x;
    const long long units = (long long)p.rows * groups;
    if (threadIdx.x == 0)
        stamp_begin(p.stamp);
    /* Both halves of a warp go round as often: the shuffles want all lanes. */
    for (long long first = (threadIdx.x / 32 * (long long)gridDim.x + blockIdx.x) * 2;
         first < units; first += halves) {
        const long long unit = first + threadIdx.x % 32 / 16;
        const int lane = threadIdx.x % 16;
        float v[8] = {};
        if (unit < units)
            bf16x8_unpack(static_cast<const uint4 *>(p.in)[unit * 16 + lane], v);
        const float amax = quant_amax16(v);
        if (unit >= units)
            continue;
        static_cast<uint2 *>(p.out)[unit * 16 + lane] = quant_pack8(v, quant_factor(amax));
        if (lane == 0)
            p.scale[unit % groups * p.rows + unit / groups] = quant_scale(amax);
    }
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(p.stamp);
}

/* Eight channels of the first half of a rotated stretch, and their partners. */
__device__ void rotate(const __nv_bfloat16 *from, __nv_bfloat16 *to, const float *rotary, int half)
{
    float a[8], b[8];
    bf16x8_unpack(*reinterpret_cast<const uint4 *>(from), a);
    bf16x8_unpack(*reinterpret_cast<const uint4 *>(from + half), b);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float c = rotary[2 * i], s = rotary[2 * i + 1], x = a[i];
        a[i] = x * c - b[i] * s;
        b[i] = b[i] * c + x * s;
    }
    *reinterpret_cast<uint4 *>(to) = bf16x8_pack(a);
    *reinterpret_cast<uint4 *>(to + half) = bf16x8_pack(b);
}

/* Work items of one token: rotations of every head's query, then of every KV head's key, then words
 * of the cache rows that are copied. */
struct append_items {
    int turns, queries, keys, copies; /* turns: items of one rotated stretch */
};

__device__ __forceinline__ append_items items_of(const attention_append_args &p)
{
    const int turns = p.rope / 16;
    return {turns, p.shape.heads * turns, p.shape.kv_heads * turns,
            p.shape.kv_heads * ((p.shape.kv_width - p.rope) / 8)};
}

__device__ void append_query(const attention_append_args &p, int token, int item, int turns)
{
    const attention_shape &s = p.shape;
    const int head = item / turns, turn = item % turns, t = token % s.q_tokens;
    const int group = s.heads / s.kv_heads;
    const size_t row =
        ((size_t)(token / s.q_tokens) * s.kv_heads + head / group) * s.q_tokens * group +
        (size_t)t * group + head % group;
    rotate(static_cast<const __nv_bfloat16 *>(p.q_new) + ((size_t)token * s.heads + head) * p.rope +
               turn * 8,
           static_cast<__nv_bfloat16 *>(p.q) + row * s.qk_dim + p.q_first + turn * 8,
           p.rotary + (size_t)t * p.rope + turn * 16, p.rope / 2);
}

__device__ void append_cache(const attention_append_args &p, int token, int item,
                             const append_items &n)
{
    const attention_shape &s = p.shape;
    const int per_head = item < n.keys ? n.turns : (s.kv_width - p.rope) / 8;
    const int at = item < n.keys ? item : item - n.keys, t = token % s.q_tokens;
    const int head = at / per_head, word = at % per_head;
    const size_t from = ((size_t)token * s.kv_heads + head) * s.kv_width;
    const size_t to = (((size_t)(token / s.q_tokens) * s.kv_heads + head) *
                           ((s.context_len + s.q_tokens + 7) / 8 * 8) +
                       s.context_len + t) *
                      s.kv_width;
    const __nv_bfloat16 *kv_new = static_cast<const __nv_bfloat16 *>(p.kv_new) + from;
    __nv_bfloat16 *kv = static_cast<__nv_bfloat16 *>(p.kv) + to;
    if (item < n.keys) {
        rotate(kv_new + p.k_first + word * 8, kv + p.k_first + word * 8,
               p.rotary + (size_t)t * p.rope + word * 16, p.rope / 2);
    } else {
        const int channel = word * 8 < p.k_first ? word * 8 : word * 8 + p.rope;
        *reinterpret_cast<uint4 *>(kv + channel) =
            *reinterpret_cast<const uint4 *>(kv_new + channel);
    }
}

__global__ void __launch_bounds__(THREADS, 1)
    append_kernel(const __grid_constant__ attention_append_args p)
{
    const append_items n = items_of(p);
    const int per_token = n.queries + n.keys + n.copies;
    const long long items = (long long)p.shape.requests * p.shape.q_tokens * per_token;
    if (threadIdx.x == 0)
        stamp_begin(p.stamp);
    for (long long i = (long long)threadIdx.x * gridDim.x + blockIdx.x; i < items;
         i += (long long)THREADS * gridDim.x) {
        const int token = (int)(i / per_token), item = (int)(i % per_token);
        if (item < n.queries)
            append_query(p, token, item, n.turns);
        else
            append_cache(p, token, item - n.queries, n);
    }
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(p.stamp);
}

bool misaligned(const void *a, const void *b, const void *c)
{
    return a == NULL || b == NULL || c == NULL ||
           ((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) % 16 != 0;
}

int refuse(const char *kernel, const char *problem)
{
    log_error("attention %s: %s", kernel, problem);
    return ERR_RANGE;
}

int launched(const char *kernel)
{
    const cudaError_t status = cudaGetLastError();
    if (status == cudaSuccess)
        return 0;
    log_error("attention %s: launch: %s", kernel, cudaGetErrorString(status));
    return ERR_GPU;
}

} // namespace

int kernels_attention_norm_launch(const struct attention_norm_args *a, cudaStream_t stream)
{
    if (a->ctas < 1 || a->rows < 1 || a->width < 8 || a->width % 8 != 0 ||
        a->width > NORM_WORDS * THREADS * LANE_CHANNELS)
        return refuse("norm", "width must be a multiple of 8 up to 16384, ctas and rows positive");
    if (misaligned(a->x, a->weight, a->out) ||
        (a->residual != NULL && misaligned(a->residual, a->residual_out, a->out)))
        return refuse("norm", "a pointer is missing or not 16-byte aligned");
    norm_kernel<<<a->ctas, THREADS, 0, stream>>>(*a);
    return launched("norm");
}

int kernels_attention_quant_launch(const struct attention_quant_args *a, cudaStream_t stream)
{
    if (a->ctas < 1 || a->rows < 1 || a->width < QUANT_GROUP || a->width % QUANT_GROUP != 0)
        return refuse("quantise", "width must be a multiple of 128, ctas and rows positive");
    if (misaligned(a->in, a->out, a->scale))
        return refuse("quantise", "a pointer is missing or not 16-byte aligned");
    quant_kernel<<<a->ctas, THREADS, 0, stream>>>(*a);
    return launched("quantise");
}

int kernels_attention_append_launch(const struct attention_append_args *a, cudaStream_t stream)
{
    const struct attention_shape *s = &a->shape;
    if (a->ctas < 1 || s->requests < 1 || a->rope < 16 || a->rope % 16 != 0 ||
        (a->q_first | a->k_first) % 8 != 0 || a->q_first + a->rope > s->qk_dim ||
        a->k_first + a->rope > s->kv_width)
        return refuse("append", "the rotated channels must be a multiple of 16 inside a row");
    if (misaligned(a->q_new, a->kv_new, a->rotary) || misaligned(a->q, a->kv, a->q))
        return refuse("append", "a pointer is missing or not 16-byte aligned");
    append_kernel<<<a->ctas, THREADS, 0, stream>>>(*a);
    return launched("append");
}
