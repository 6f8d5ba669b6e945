/* kernels/combine.cu: expert outputs back to their tokens. See comm.h for what is promised. A CTA
 * sends a contiguous share of the round's rows, beginning somewhere within it that differs from CTA
 * to CTA and from rank to rank: rows lie by source, and all GPUs would otherwise send to the same
 * one at the same time. */
#include "kernels/bf16x8.cuh"
#include "kernels/comm_device.cuh"
#include "kernels/gin.h"

#define COMBINE_BUFFERS 32

struct combine_params {
    struct comm_device c;
    struct combine_args a;
    struct comm_pacing_device pacing;
    int local_first, locals; /* local experts of the round */
    int stores;
    int buffers; /* warps that relay rows by bulk copies, each with a buffer of its own */
};

struct combine_smem {
    unsigned long long barriers[COMBINE_BUFFERS];
    unsigned long long wait_ns;
    int last;                              /* this CTA was the last to finish */
    int first_row[SLOTS_MAX_EXPERTS + 1];  /* of each local expert, among the round's rows */
    unsigned int mine[SLOTS_MAX_EXPERTS];  /* rows this CTA sent, per channel of the round */
    unsigned int total[SLOTS_MAX_EXPERTS]; /* rows of all CTAs */
    unsigned int sequence[SLOTS_MAX_EXPERTS];
};

#define COMBINE_ROWS_OFFSET ((int)((sizeof(struct combine_smem) + 127) / 128 * 128))

/* The local expert (from the round's first) of the round's row r. */
static __device__ __forceinline__ int row_expert(const struct combine_smem *sm, int locals, int r)
{
    int low = 0, high = locals;
    while (high - low > 1) {
        int mid = (low + high) / 2;
        if (sm->first_row[mid] <= r)
            low = mid;
        else
            high = mid;
    }
    return low;
}

struct combine_row {
    const unsigned char *from;
    unsigned char *to; /* NULL: beyond NVLink */
    int local, row, channel;
};

static __device__ __forceinline__ struct combine_row find_row(const struct combine_params &p,
                                                              const struct combine_smem *sm, int r)
{
    const struct slots *s = &p.c.slots;
    struct combine_row out;
    int local = row_expert(sm, p.locals, r);
    out.row = r - sm->first_row[local];
    out.local = p.local_first + local;
    size_t at = (size_t)out.local * (size_t)s->rows_max + (size_t)out.row;
    struct kernels_row_source source = p.a.sources[at];
    unsigned char *peer = p.c.peers[slots_vsrc_gpu(s, source.vsrc)];
    out.from = (const unsigned char *)p.a.y_packed + at * s->row_bytes;
    out.to = peer ? peer + slots_combine_row(s, p.a.parity, source.token, source.k) : NULL;
    out.channel = local * s->shape.vranks + source.vsrc;
    return out;
}

/* One warp moves a row. */
static __device__ __forceinline__ void send_row(const struct combine_params &p,
                                                struct combine_smem *sm, unsigned char *rows,
                                                const struct combine_row &row, unsigned int *phase)
{
    unsigned int bytes = p.c.slots.row_bytes;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row.to == NULL)
        return;
    if (p.stores) {
        copy_words((int4 *)row.to, (const int4 *)row.from, (int)bytes / 16);
    } else if (lane == 0) {
        unsigned char *buffer = rows + (size_t)warp * bytes;
        bulk_wait_read<0>();
        bulk_load(buffer, row.from, bytes, &sm->barriers[warp]);
        mbarrier_wait(&sm->barriers[warp], *phase);
        bulk_store(row.to, buffer, bytes);
        bulk_commit();
        *phase ^= 1;
    }
    if (lane == 0)
        atomicAdd(&sm->mine[row.channel], 1u);
}

static __device__ void send_share(const struct combine_params &p, struct combine_smem *sm,
                                  unsigned char *rows, int warps)
{
    const struct slots_shape *shape = &p.c.slots.shape;
    int total = sm->first_row[p.locals], cta = blockIdx.x, ctas = gridDim.x;
    int first = (int)((long long)total * cta / ctas);
    int n = (int)((long long)total * (cta + 1) / ctas) - first;
    int turn = (int)(((long long)n * cta / ctas + (long long)n * shape->rank / shape->ranks) %
                     (n > 0 ? n : 1));
    unsigned int phase = 0;
    for (int i = threadIdx.x / 32; i < n; i += warps) {
        int r = i + turn < n ? i + turn : i + turn - n;
        send_row(p, sm, rows, find_row(p, sm, first + r), &phase);
    }
}

/* SBO: rows in order over all CTAs; before the first row of each unit, wait for its tiles. */
static __device__ void send_units(const struct combine_params &p, struct combine_smem *sm,
                                  unsigned char *rows, int warps)
{
    int total = sm->first_row[p.locals], ready = -1;
    unsigned long long waited_ns = 0;
    unsigned int phase = 0;
    for (int r = blockIdx.x + (threadIdx.x / 32) * gridDim.x; r < total; r += warps * gridDim.x) {
        struct combine_row row = find_row(p, sm, r);
        int unit = row.local * p.a.units_per_expert + row.row / p.a.block_m;
        if (unit != ready) {
            unsigned long long start_ns = stamp_now_ns();
            int polls = 0;
            while (load_acquire_gpu(&p.a.units[unit]) < (unsigned int)p.a.tiles_per_unit) {
                if ((++polls & 63) == 0 && wait_expired(&p.c, start_ns)) {
                    wait_failed(&p.c, COMM_WAIT_UNIT, unit);
                    break;
                }
            }
            bulk_fence();
            waited_ns += stamp_now_ns() - start_ns;
            ready = unit;
        }
        send_row(p, sm, rows, row, &phase);
    }
    if (threadIdx.x % 32 == 0)
        atomicMax(&sm->wait_ns, waited_ns);
}

/* By all threads once the CTA's rows are out: the last sender of each channel flags its expert at
 * the source. */
static __device__ void publish_rows(const struct combine_params &p, struct combine_smem *sm,
                                    unsigned long long since_ns)
{
    const struct slots *s = &p.c.slots;
    int vranks = s->shape.vranks;
    for (int i = threadIdx.x; i < p.locals * vranks; i += blockDim.x) {
        int local = p.local_first + i / vranks, vsrc = i % vranks;
        int channel = slots_channel(s, local, vsrc), gpu = slots_vsrc_gpu(s, vsrc);
        unsigned int mine = sm->mine[i], total = sm->total[i];
        if (p.c.peers[gpu] == NULL || (mine == 0 && (total != 0 || i % gridDim.x != blockIdx.x)))
            continue;
        if (mine != 0) {
            fence_gpu();
            if (atomicAdd(&p.c.combine_sent[channel], mine) + mine != total)
                continue;
            p.c.combine_sent[channel] = 0;
        }
        int expert = slots_channel_expert(s, s->shape.rank, local, vsrc);
        post_flag(&p.c, p.c.peers[gpu], slots_combine_flag(s, p.a.parity, expert), sm->sequence[i],
                  total, &p.pacing, slots_vsrc_is_own(s, vsrc), since_ns,
                  (double)total * s->row_bytes);
        p.c.combine_send_seq[channel] = sm->sequence[i];
    }
}

/* The CTA that finishes last zeroes the round's tile counters. All threads. */
static __device__ void reset_units(const struct combine_params &p, struct combine_smem *sm)
{
    __syncthreads();
    if (threadIdx.x == 0)
        sm->last = ticket_last(&p.c.tickets[1]);
    __syncthreads();
    if (!sm->last)
        return;
    unsigned int *units = p.a.units + p.local_first * p.a.units_per_expert;
    for (int i = threadIdx.x; i < p.locals * p.a.units_per_expert; i += blockDim.x)
        units[i] = 0;
}

/* first_row is the running sum of the experts' rows. One warp. */
static __device__ void sum_rows(const struct combine_params &p, struct combine_smem *sm)
{
    int lane = threadIdx.x, before = 0;
    for (int first = 0; first < p.locals; first += 32) {
        int rows = first + lane < p.locals ? p.a.rows[p.local_first + first + lane] : 0, sum = rows;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            int below = __shfl_up_sync(~0u, sum, step);
            sum += lane >= step ? below : 0;
        }
        if (first + lane < p.locals)
            sm->first_row[first + lane] = before + sum - rows;
        before += __shfl_sync(~0u, sum, 31);
    }
    if (lane == 0)
        sm->first_row[p.locals] = before;
}

static __device__ void send_part(const struct combine_params &p, unsigned char *smem)
{
    struct combine_smem *sm = (struct combine_smem *)smem;
    unsigned char *rows = smem + COMBINE_ROWS_OFFSET;
    unsigned long long since_ns = p.pacing.ns_per_byte > 0 ? stamp_now_ns() : 0;
    int vranks = p.c.slots.shape.vranks, warps = blockDim.x / 32;
    if (threadIdx.x < COMBINE_BUFFERS)
        mbarrier_init(&sm->barriers[threadIdx.x]);
    __syncthreads();
    /* Warp 0 has rows to sum meanwhile. */
    for (int i = (int)threadIdx.x - 32; i < p.locals * vranks; i += blockDim.x - 32) {
        if (i < 0)
            break;
        int channel = slots_channel(&p.c.slots, p.local_first + i / vranks, i % vranks);
        sm->mine[i] = 0;
        sm->total[i] = (unsigned int)p.a.segments[channel].y;
        sm->sequence[i] = p.c.combine_send_seq[channel] + 1;
    }
    if (threadIdx.x == 0) {
        delay_spin(&p.a.delay, p.c.slots.shape.rank);
        sm->wait_ns = 0;
    }
    if (threadIdx.x < 32)
        sum_rows(p, sm);
    __syncthreads();
    if (!p.stores && warps > p.buffers)
        warps = p.buffers;
    if ((int)threadIdx.x / 32 < warps) {
        if (p.a.units == NULL)
            send_share(p, sm, rows, warps);
        else
            send_units(p, sm, rows, warps);
        if (!p.stores && threadIdx.x % 32 == 0)
            bulk_wait_all();
    }
    __syncthreads();
    publish_rows(p, sm, since_ns);
    if (p.a.units != NULL)
        reset_units(p, sm);
}

/* All threads: until every expert of every rank has flagged. Returns the ns that the thread which
 * waited longest did; each takes its own time, since a clock read may move across a barrier. */
static __device__ unsigned long long wait_experts(const struct combine_params &p)
{
    __shared__ unsigned long long longest_ns;
    const struct slots *s = &p.c.slots;
    unsigned int sequence = *(volatile unsigned int *)p.c.combine_recv_seq + 1;
    if (threadIdx.x == 0)
        longest_ns = 0;
    __syncthreads();
    for (int expert = threadIdx.x; expert < s->shape.experts; expert += blockDim.x) {
        const struct slots_flag *flag =
            (const struct slots_flag *)(p.c.self + slots_combine_flag(s, p.a.parity, expert));
        unsigned long long start_ns = stamp_now_ns();
        wait_flag(&p.c, flag, sequence, &p.pacing, slots_expert_gpu(s, expert),
                  slots_expert_is_own(s, expert), COMM_WAIT_COMBINE, expert);
        if (p.a.stamp != NULL)
            atomicMax(&longest_ns, stamp_now_ns() - start_ns);
    }
    __syncthreads();
    return longest_ns;
}

/* 8 channels of a token; the order of the sum is k's, whoever sent the rows. */
static __device__ __forceinline__ int4 reduce_word(const struct combine_params &p, const int4 *rows,
                                                   int words, int token, int word)
{
    const int batch = 8;
    int topk = p.c.slots.shape.topk, first = token * topk;
    float acc[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int k0 = 0; k0 < topk; k0 += batch) {
        int4 v[batch];
        bool used[batch];
#pragma unroll
        for (int j = 0; j < batch; j++) {
            used[j] =
                k0 + j < topk && topk_expert(p.a.topk_idx, p.a.topk_idx_bytes, first + k0 + j) >= 0;
            if (used[j])
                v[j] = load_row16(rows + (size_t)(k0 + j) * words + word);
        }
#pragma unroll
        for (int j = 0; j < batch; j++)
            if (used[j])
                add_scaled(acc, v[j], p.a.topk_weights[first + k0 + j]);
    }
    int4 out;
    __nv_bfloat162 *pair = (__nv_bfloat162 *)&out;
#pragma unroll
    for (int i = 0; i < 4; i++)
        pair[i] = __floats2bfloat162_rn(acc[2 * i], acc[2 * i + 1]);
    return out;
}

static __device__ void recv_part(const struct combine_params &p, unsigned char *smem,
                                 unsigned long long *waited_ns)
{
    const struct slots *s = &p.c.slots;
    *waited_ns = wait_experts(p);
    /* All CTAs have read the sequence number once the last one is here. */
    if (threadIdx.x == blockDim.x - 1 && ticket_last(&p.c.tickets[0]))
        ++*p.c.combine_recv_seq;
    int words = s->shape.hidden / 8;
    for (int token = blockIdx.x; token < p.a.tokens; token += gridDim.x) {
        const int4 *rows = (const int4 *)(p.c.self + slots_combine_row(s, p.a.parity, token, 0));
        int4 *y = (int4 *)p.a.y + (size_t)token * (size_t)words;
        for (int word = threadIdx.x; word < words; word += blockDim.x)
            y[word] = reduce_word(p, rows, words, token, word);
    }
}

template <bool SEND, bool RECV>
static __global__ void __launch_bounds__(1024, 1)
    combine_kernel(const __grid_constant__ struct combine_params p)
{
    extern __shared__ __align__(128) unsigned char smem[];
    unsigned long long waited_ns = 0;
    if (threadIdx.x == 0)
        stamp_begin(p.a.stamp);
    if (SEND)
        send_part(p, smem);
    if (RECV)
        recv_part(p, smem, &waited_ns);
    __syncthreads();
    if (threadIdx.x == 0) {
        if (SEND && p.a.units != NULL)
            waited_ns += ((struct combine_smem *)smem)->wait_ns;
        stamp_wait(p.a.stamp, waited_ns);
        stamp_end(p.a.stamp);
    }
}

static int combine_check(const struct combine_args *a, const struct slots *s, bool send, bool recv)
{
    if (a->parity < 0 || a->parity >= SLOTS_PARITIES)
        return ERR_RANGE;
    if (send && (a->rounds < 1 || a->round < 0 || a->round >= a->rounds ||
                 s->experts_local % a->rounds != 0))
        return ERR_RANGE;
    if (send &&
        (a->y_packed == NULL || a->sources == NULL || a->rows == NULL || a->segments == NULL))
        return ERR_RANGE;
    if (send && a->units != NULL && (a->block_m < 1 || a->units_per_expert < 1 || recv))
        return ERR_RANGE;
    if (recv && (a->tokens < 0 || a->tokens > s->shape.max_tokens ||
                 (a->topk_idx_bytes != 4 && a->topk_idx_bytes != 8)))
        return ERR_RANGE;
    return 0;
}

static int combine_launch(const struct combine_args *args, bool send, bool recv,
                          cudaStream_t stream)
{
    struct combine_params p;
    p.c = kernels_comm_device(args->comm, args->parity);
    const struct slots *s = &p.c.slots;
    int err = combine_check(args, s, send, recv);
    if (err != 0)
        return err;
    p.a = *args;
    p.pacing = comm_pacing(&args->pacing, s->shape.rank);
    int rounds = send ? args->rounds : 1;
    p.locals = s->experts_local / rounds;
    p.local_first = send ? args->round * p.locals : 0;
    struct kernels_grid grid = {1, args->num_sms, 1024};
    if (!send || args->units == NULL)
        err = kernels_combine_grid(s->shape.experts / rounds, args->tokens, args->num_sms, recv,
                                   &grid);
    if (err != 0 || grid.ctas < 1)
        return err != 0 ? err : ERR_RANGE;
    p.stores = args->copy != KERNELS_COPY_BULK;
    int buffers = COMM_BULK_SMEM / (int)s->row_bytes;
    p.buffers = buffers < COMBINE_BUFFERS ? buffers : COMBINE_BUFFERS;
    size_t smem = COMBINE_ROWS_OFFSET;
    if (send && !p.stores)
        smem += (size_t)p.buffers * s->row_bytes;
    const void *kernel = send && recv ? (const void *)combine_kernel<true, true>
                         : send       ? (const void *)combine_kernel<true, false>
                                      : (const void *)combine_kernel<false, true>;
    return kernels_comm_launch(kernel, grid.ctas, grid.threads, smem, &p, stream);
}

extern "C" int kernels_combine_send_launch(const struct combine_args *args, cudaStream_t stream)
{
    int err = combine_launch(args, true, false, stream);
    return err != 0 ? err : kernels_gin_combine(args, stream);
}

extern "C" int kernels_combine_recv_launch(const struct combine_args *args, cudaStream_t stream)
{
    int err = kernels_gin_combine_flags(args, stream);
    return err != 0 ? err : combine_launch(args, false, true, stream);
}

extern "C" int kernels_combine_fused_launch(const struct combine_args *args, cudaStream_t stream)
{
    if (!kernels_gin_wanted(args->comm))
        return combine_launch(args, true, true, stream);
    int err = kernels_combine_send_launch(args, stream);
    return err != 0 ? err : kernels_combine_recv_launch(args, stream);
}
