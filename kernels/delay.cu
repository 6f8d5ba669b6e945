/* kernels/delay.cu: kernels for tests and microbenchmarks. See delay.h. */
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include "kernels/comm_device.cuh"
#include "kernels/delay.h"

#define PUSH_PIECE   8192 /* bytes that a warp moves at a time */
#define PUSH_BUFFERS 24

static __global__ void delay_kernel(const __grid_constant__ struct delay_args a)
{
    if (threadIdx.x != 0)
        return;
    stamp_begin(a.stamp);
    unsigned long long start_ns = stamp_now_ns();
    delay_spin(&a.delay, a.rank);
    while (stamp_now_ns() - start_ns < a.min_ns) {
    }
    stamp_end(a.stamp);
}

extern "C" int kernels_delay_launch(const struct delay_args *args, cudaStream_t stream)
{
    struct delay_args a = *args;
    if (a.ctas < 1)
        return ERR_RANGE;
    /* Shared memory enough that no SM takes two. */
    return kernels_comm_launch((const void *)delay_kernel, a.ctas, 32, COMM_SMEM_MAX, &a, stream);
}

struct ping_params {
    struct comm_device c;
    struct ping_args a;
    unsigned long long first;
};

/* Waits for ping number n of the peer; 0 on timeout. */
static __device__ int ping_wait(const struct ping_params &p, const struct slots_flag *flag,
                                unsigned long long n)
{
    unsigned long long start_ns = stamp_now_ns();
    int polls = 0;
    while (load_acquire_sys(&flag->word) != n) {
        if ((++polls & 1023) == 0 && wait_expired(&p.c, start_ns)) {
            wait_failed(&p.c, COMM_WAIT_PEER, p.a.peer);
            return 0;
        }
    }
    return 1;
}

static __global__ void ping_kernel(const __grid_constant__ struct ping_params p)
{
    const struct slots *s = &p.c.slots;
    int rank = s->shape.rank, measures = rank < p.a.peer;
    const struct slots_flag *in = (const struct slots_flag *)(p.c.self + slots_ping(s, p.a.peer));
    struct slots_flag *out = (struct slots_flag *)(p.c.peers[p.a.peer] + slots_ping(s, rank));
    struct ping_result best = {1ll << 62, 0.0, 0};
    unsigned long long begin_ns = 0;
    for (int i = 0; i < p.a.iters; i++) {
        unsigned long long n = p.first + (unsigned long long)i;
        if (!measures) {
            if (!ping_wait(p, in, n))
                return;
            *(volatile unsigned long long *)&out->time_ns = stamp_now_ns();
            store_release_sys(&out->word, n);
            continue;
        }
        if (i == p.a.iters / 10)
            begin_ns = stamp_now_ns();
        unsigned long long sent_ns = stamp_now_ns();
        store_release_sys(&out->word, n);
        if (!ping_wait(p, in, n))
            return;
        unsigned long long back_ns = stamp_now_ns();
        long long trip_ns = (long long)(back_ns - sent_ns);
        if (trip_ns < best.min_ns) {
            best.min_ns = trip_ns;
            best.offset_ns = (long long)(in->time_ns - sent_ns) - trip_ns / 2;
        }
    }
    if (!measures)
        return;
    best.mean_ns = (double)(stamp_now_ns() - begin_ns) / (p.a.iters - p.a.iters / 10);
    *p.a.result = best;
}

int kernels_ping_start(const struct comm_device *c, const struct ping_args *args,
                       unsigned long long first, cudaStream_t stream)
{
    struct ping_params p = {*c, *args, first};
    return kernels_comm_launch((const void *)ping_kernel, 1, 1, 0, &p, stream);
}

struct push_params {
    struct comm_device c;
    struct push_args a;
    int n;                       /* targets */
    int target[SLOTS_MAX_RANKS]; /* beginning after this rank, so that not all push to one */
    int buffers;
};

/* One warp moves a piece, by stores or through a buffer of its own. */
static __device__ __forceinline__ void push_piece(unsigned char *to, const unsigned char *from,
                                                  unsigned int bytes, unsigned char *buffer,
                                                  unsigned long long *barrier, unsigned int *phase)
{
    if (buffer == NULL) {
        copy_words((int4 *)to, (const int4 *)from, (int)bytes / 16);
    } else if (threadIdx.x % 32 == 0) {
        bulk_wait_read<0>();
        bulk_load(buffer, from, bytes, barrier);
        mbarrier_wait(barrier, *phase);
        bulk_store(to, buffer, bytes);
        bulk_commit();
        *phase ^= 1;
    }
}

static __global__ void __launch_bounds__(1024, 1)
    push_kernel(const __grid_constant__ struct push_params p)
{
    extern __shared__ __align__(128) unsigned char smem[];
    __shared__ unsigned long long barriers[PUSH_BUFFERS];
    if (threadIdx.x == 0)
        stamp_begin(p.a.stamp);
    if (threadIdx.x < PUSH_BUFFERS)
        mbarrier_init(&barriers[threadIdx.x]);
    __syncthreads();
    int bulk = p.a.copy == KERNELS_COPY_BULK, warp = threadIdx.x / 32;
    int warps = bulk ? p.buffers : (int)blockDim.x / 32;
    unsigned int phase = 0;
    long long pieces = (long long)((p.a.bytes + PUSH_PIECE - 1) / PUSH_PIECE) * p.n;
    size_t landing = slots_push(&p.c.slots) + (size_t)p.c.slots.shape.rank * p.a.bytes;
    if (warp < warps) {
        for (long long i = blockIdx.x + (long long)warp * gridDim.x; i < pieces;
             i += (long long)warps * gridDim.x) {
            size_t at = (size_t)(i / p.n) * PUSH_PIECE;
            size_t left = p.a.bytes - at;
            unsigned char *to = p.c.peers[p.target[i % p.n]] + landing + at;
            push_piece(to, (const unsigned char *)p.a.from + at,
                       (unsigned int)(left < PUSH_PIECE ? left : PUSH_PIECE),
                       bulk ? smem + warp * PUSH_PIECE : NULL, &barriers[warp % PUSH_BUFFERS],
                       &phase);
        }
        if (bulk)
            bulk_wait_all();
    }
    fence_sys();
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(p.a.stamp);
}

extern "C" int kernels_push_launch(const struct push_args *args, cudaStream_t stream)
{
    struct push_params p;
    p.c = kernels_comm_device(args->comm, 0);
    p.a = *args;
    p.n = 0;
    const struct slots_shape *shape = &p.c.slots.shape;
    if (args->ctas < 1 || args->bytes % 16 != 0 ||
        slots_push(&p.c.slots) + (size_t)shape->ranks * args->bytes > p.c.slots.total_bytes)
        return ERR_RANGE;
    for (int i = 0; i < shape->ranks; i++) {
        int r = (shape->rank + 1 + i) % shape->ranks;
        int wanted = args->targets == 0 ? r != shape->rank : (int)(args->targets >> r & 1);
        if (wanted && p.c.peers[r] != NULL)
            p.target[p.n++] = r;
    }
    p.buffers = PUSH_BUFFERS;
    if (p.n == 0)
        return ERR_RANGE;
    return kernels_comm_launch((const void *)push_kernel, args->ctas, 1024,
                               PUSH_BUFFERS * PUSH_PIECE, &p, stream);
}

static __global__ void __launch_bounds__(1024, 1)
    hbm_copy_kernel(const __grid_constant__ struct hbm_copy_args a)
{
    if (threadIdx.x == 0)
        stamp_begin(a.stamp);
    long long pieces = (long long)((a.bytes + PUSH_PIECE - 1) / PUSH_PIECE);
    for (long long i = blockIdx.x + (long long)(threadIdx.x / 32) * gridDim.x; i < pieces;
         i += (long long)(blockDim.x / 32) * gridDim.x) {
        size_t at = (size_t)i * PUSH_PIECE, left = a.bytes - at;
        copy_words((int4 *)((char *)a.to + at), (const int4 *)((const char *)a.from + at),
                   (int)((left < PUSH_PIECE ? left : PUSH_PIECE) / 16));
    }
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(a.stamp);
}

extern "C" int kernels_hbm_copy_launch(const struct hbm_copy_args *args, cudaStream_t stream)
{
    struct hbm_copy_args a = *args;
    if (a.ctas < 1 || a.bytes % 16 != 0)
        return ERR_RANGE;
    return kernels_comm_launch((const void *)hbm_copy_kernel, a.ctas, 1024, COMM_BULK_SMEM, &a,
                               stream);
}

struct standin_params {
    struct slots slots;
    struct standin_args a;
};

static __device__ void standin_row(const struct standin_params &p, int local, int row)
{
    const struct slots *s = &p.slots;
    size_t at = (size_t)local * (size_t)s->rows_max + (size_t)row;
    int hidden = s->shape.hidden, groups = hidden / SLOTS_CHANNELS;
    float factor = p.a.factors[local];
    __nv_bfloat16 *y = (__nv_bfloat16 *)p.a.y_packed + at * (size_t)hidden;
    for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
        float v;
        if (s->shape.fp8) {
            size_t scale = (size_t)local * (size_t)s->rows_max * (size_t)groups +
                           (size_t)(row * p.a.scale_row + i / SLOTS_CHANNELS * p.a.scale_group);
            v = (float)((const __nv_fp8_e4m3 *)p.a.packed_x)[at * (size_t)hidden + i] *
                p.a.packed_scales[scale];
        } else {
            v = __bfloat162float(((const __nv_bfloat16 *)p.a.packed_x)[at * (size_t)hidden + i]);
        }
        y[i] = __float2bfloat16_rn(factor * v);
    }
}

static __global__ void __launch_bounds__(1024, 1)
    standin_kernel(const __grid_constant__ struct standin_params p)
{
    if (threadIdx.x == 0)
        stamp_begin(p.a.stamp);
    int unit = 0;
    for (int local = p.a.local_first; local < p.a.local_first + p.a.locals; local++) {
        int rows = p.a.rows[local];
        for (int b = 0; b * p.a.block_m < rows; b++, unit++) {
            if (unit % (int)gridDim.x != (int)blockIdx.x)
                continue;
            for (int row = b * p.a.block_m; row < rows && row < (b + 1) * p.a.block_m; row++)
                standin_row(p, local, row);
            bulk_fence();
            __syncthreads();
            if (threadIdx.x == 0 && p.a.units != NULL) {
                __threadfence();
                atomicAdd(&p.a.units[local * p.a.units_per_expert + b],
                          (unsigned int)p.a.tiles_per_unit);
            }
        }
    }
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(p.a.stamp);
}

extern "C" int kernels_standin_launch(const struct standin_args *args, cudaStream_t stream)
{
    struct standin_params p = {*kernels_comm_slots(args->comm), *args};
    if (args->ctas < 1 || args->block_m < 1)
        return ERR_RANGE;
    return kernels_comm_launch((const void *)standin_kernel, args->ctas, 1024, 0, &p, stream);
}
