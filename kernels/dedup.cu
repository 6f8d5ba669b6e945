/* kernels/dedup.cu: one row per token and rank. See dedup.h for what is promised, slots.h for where
 * things lie.
 *
 * Dispatch: a CTA first tells all ranks which of their experts its tokens chose and with what
 * weights (heads, which need no flag), then casts and sends the bodies, each with a flag. Every CTA
 * of the receiver reads all heads, so that all agree on where an expert's rows begin; groups of
 * warps then copy a body to its rows. Combine: groups sum a token's rows, send the sum, and once
 * the sums of a token are back from all ranks, add them up. */
#include "kernels/bf16x8.cuh"
#include "kernels/cast_fp8.cuh"
#include "kernels/comm_device.cuh"
#include "kernels/dedup.h"

enum { DEDUP_THREADS = 1024, DEDUP_GROUP = 256, DEDUP_GROUPS = DEDUP_THREADS / DEDUP_GROUP };
enum { DEDUP_STAGES = 2, DEDUP_TICKET_DISPATCH = 3, DEDUP_TICKET_COMBINE = 4 };

struct dedup_smem {
    int tokens[SLOTS_MAX_RANKS];             /* of each virtual source */
    unsigned int count[SLOTS_MAX_EXPERTS];   /* rows of each channel */
    int base[SLOTS_MAX_EXPERTS];             /* the first of them, within its expert's rows */
    int rows[DEDUP_GROUPS];                  /* how many the group's token has here */
    int place[DEDUP_GROUPS][SLOTS_MAX_TOPK]; /* which, and their weights */
    float weight[DEDUP_GROUPS][SLOTS_MAX_TOPK];
    unsigned long long wait_ns;
    int last;
};

#define DEDUP_BODIES_OFFSET ((int)((sizeof(struct dedup_smem) + 127) / 128 * 128))

struct dedup_dispatch {
    struct comm_device c;
    struct dispatch_args a;
    struct comm_pacing_device pacing;
};

struct dedup_combine {
    struct comm_device c;
    struct combine_args a;
    struct comm_pacing_device pacing;
};

/* A token of a virtual source: the unit of work of receivers and of combine's senders. */
struct dedup_item {
    int vsrc, token;
};

/* Item i of all sources' tokens, vsrc -1 past the last one. */
static __device__ __forceinline__ struct dedup_item item_of(const struct dedup_smem *sm, int vranks,
                                                            int i)
{
    struct dedup_item out = {-1, i};
    for (int v = 0; v < vranks; v++) {
        if (out.token < sm->tokens[v]) {
            out.vsrc = v;
            break;
        }
        out.token -= sm->tokens[v];
    }
    return out;
}

static __device__ __forceinline__ void group_barrier(int group)
{
    barrier_named(1 + group, DEDUP_GROUP);
}

static __device__ __forceinline__ struct slots_head *
head_of(const struct slots *s, unsigned char *window, int parity, int vrank, int token, int k)
{
    size_t at = slots_dedup_token(s, parity, vrank, token) * (size_t)s->shape.topk + (size_t)k;
    return (struct slots_head *)(window + s->dedup_heads_offset) + at;
}

/* The head of this exchange, waited for; both words must be of it. */
static __device__ int4 wait_head(const struct comm_device *c, const struct slots_head *head,
                                 unsigned int sequence)
{
    unsigned long long start_ns = stamp_now_ns();
    int4 v;
    int polls = 0;
    for (;;) {
        asm volatile("ld.relaxed.sys.global.v4.s32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                     : "l"(head)
                     : "memory");
        if ((unsigned int)v.y == sequence && (unsigned int)v.w == sequence)
            return v;
        if ((++polls & 63) == 0 && wait_expired(c, start_ns)) {
            wait_failed(c, COMM_WAIT_DISPATCH, 0);
            return make_int4(0, 0, -1, 0);
        }
    }
}

/* The token's k-th choice lies on virtual rank v (-1: nowhere). */
static __device__ __forceinline__ int choice_vrank(const struct slots *s, const void *idx,
                                                   int bytes, int token, int k, int *local)
{
    int expert = k < s->shape.topk ? topk_expert(idx, bytes, token * s->shape.topk + k) : -1;
    if (expert < 0 || expert >= s->shape.experts)
        return -1;
    *local = slots_expert_local(s, expert);
    return slots_expert_vrank(s, expert);
}

/* A lane per choice: which virtual ranks have one of the token's experts? */
static __device__ __forceinline__ bool token_touches(const struct slots *s, const void *idx,
                                                     int bytes, int token, int vrank)
{
    bool any = false;
    int local;
    for (int k = 0; k < s->shape.topk; k++)
        any |= choice_vrank(s, idx, bytes, token, k, &local) == vrank;
    return any;
}

/* Heads of the CTA's tokens, to every rank; the first CTA says how many tokens there are. */
static __device__ void send_heads(const struct dedup_dispatch &p, unsigned int sequence)
{
    const struct slots *s = &p.c.slots;
    int topk = s->shape.topk, vranks = s->shape.vranks, rank = s->shape.rank;
    const struct comm_pacing_device unpaced = {};
    for (int v = threadIdx.x; blockIdx.x == 0 && v < vranks; v += blockDim.x) {
        size_t at = slots_dedup_flag(s, s->dedup_counts_offset, p.a.parity, slots_vsrc(s, rank, v));
        post_flag(&p.c, p.c.peers[v % s->shape.ranks], at, sequence, (unsigned int)p.a.tokens,
                  &unpaced, 1, 0, 0);
    }
    for (int token = blockIdx.x; token < p.a.tokens; token += gridDim.x)
        for (int i = threadIdx.x; i < vranks * topk; i += blockDim.x) {
            int v = i / topk, k = i % topk, local = -1;
            if (choice_vrank(s, p.a.topk_idx, p.a.topk_idx_bytes, token, k, &local) != v)
                local = -1;
            float weight = p.a.topk_weights[token * topk + k];
            struct slots_head *to = head_of(s, p.c.peers[v % s->shape.ranks], p.a.parity,
                                            slots_vsrc(s, rank, v), token, k);
            asm volatile("st.relaxed.sys.global.v4.s32 [%0], {%1, %2, %3, %4};" ::"l"(to),
                         "r"(__float_as_int(weight)), "r"(sequence), "r"(local), "r"(sequence)
                         : "memory");
        }
}

/* A token's body into shared memory. All threads. */
static __device__ void cast_body(const struct dedup_dispatch &p, unsigned char *body, int token)
{
    const struct slots *s = &p.c.slots;
    int words = s->shape.hidden / 8;
    const int4 *x = (const int4 *)p.a.x + (size_t)token * (size_t)words;
    for (int i = threadIdx.x; i < words; i += blockDim.x) {
        int4 raw = load_row16(x + i);
        if (!s->shape.fp8) {
            ((int4 *)body)[i] = raw;
            continue;
        }
        float scale;
        uint2 q = cast_fp8(raw, &scale);
        ((uint2 *)body)[i] = q;
        if (i % 16 == 0)
            ((float *)(body + s->payload_bytes))[i / 16] = scale;
    }
}

/* By one thread that sends to virtual rank v: all its bulk stores but the last `left` are done. */
static __device__ __forceinline__ void flag_body(const struct dedup_dispatch &p, int v, int token,
                                                 unsigned int sequence, unsigned long long since_ns)
{
    const struct slots *s = &p.c.slots;
    size_t at = slots_dedup_token(s, p.a.parity, slots_vsrc(s, s->shape.rank, v), token);
    post_flag(&p.c, p.c.peers[v % s->shape.ranks],
              s->dedup_flags_offset + at * sizeof(struct slots_flag), sequence, 1, &p.pacing,
              v == s->shape.rank, since_ns, (double)s->body_bytes);
}

/* Bodies of the CTA's tokens; thread v sends to virtual rank v, and flags a body while the next one
 * is cast. */
static __device__ void send_bodies(const struct dedup_dispatch &p, unsigned char *bodies,
                                   unsigned int sequence)
{
    const struct slots *s = &p.c.slots;
    const unsigned int stride = (s->body_bytes + 127) / 128 * 128;
    unsigned long long since_ns = p.pacing.ns_per_byte > 0 ? stamp_now_ns() : 0;
    int v = threadIdx.x, turn = 0, unflagged = -1;
    bool sender = v < s->shape.vranks;
    for (int token = blockIdx.x; token < p.a.tokens; token += gridDim.x, turn++) {
        unsigned char *body = bodies + (turn % DEDUP_STAGES) * stride;
        cast_body(p, body, token);
        bulk_fence();
        __syncthreads();
        bool touched = sender && token_touches(s, p.a.topk_idx, p.a.topk_idx_bytes, token, v);
        if (touched) {
            size_t at = slots_dedup_token(s, p.a.parity, slots_vsrc(s, s->shape.rank, v), token);
            bulk_store(p.c.peers[v % s->shape.ranks] + s->dedup_bodies_offset +
                           at * (size_t)s->body_bytes,
                       body, s->body_bytes);
        }
        if (sender) {
            bulk_commit();
            asm volatile("cp.async.bulk.wait_group 1;" ::: "memory"); /* all but this token's */
            bulk_fence();
            if (unflagged >= 0)
                flag_body(p, v, unflagged, sequence, since_ns);
            unflagged = touched ? token : -1;
        }
        __syncthreads(); /* the other stage has been read */
    }
    if (sender) {
        bulk_wait_all();
        if (unflagged >= 0)
            flag_body(p, v, unflagged, sequence, since_ns);
    }
}

/* How many tokens each source has, from the flags of dispatch `sequence`. Ends with a barrier. */
static __device__ void read_tokens(const struct comm_device &c, int parity, unsigned int sequence,
                                   struct dedup_smem *sm)
{
    const struct slots *s = &c.slots;
    const struct comm_pacing_device unpaced = {};
    for (int v = threadIdx.x; v < s->shape.vranks; v += blockDim.x) {
        const struct slots_flag *flag =
            (const struct slots_flag *)(c.self +
                                        slots_dedup_flag(s, s->dedup_counts_offset, parity, v));
        sm->tokens[v] = (int)wait_flag(&c, flag, sequence, &unpaced, slots_vsrc_gpu(s, v), 1,
                                       COMM_WAIT_DISPATCH, v);
    }
    __syncthreads();
}

/* Every CTA: rows of each channel and where they begin; the first writes them down, and the tokens
 * too: their flags may be of the next dispatch once the combine has told that heads are read. */
static __device__ void count_rows(const struct dedup_dispatch &p, struct dedup_smem *sm,
                                  unsigned int sequence)
{
    const struct slots *s = &p.c.slots;
    int topk = s->shape.topk, vranks = s->shape.vranks;
    for (int v = 0; v < vranks; v++)
        for (int i = threadIdx.x; i < sm->tokens[v] * topk; i += blockDim.x) {
            int4 head =
                wait_head(&p.c, head_of(s, p.c.self, p.a.parity, v, i / topk, i % topk), sequence);
            if (head.z >= 0)
                atomicAdd(&sm->count[slots_channel(s, head.z, v)], 1u);
        }
    __syncthreads();
    for (int local = threadIdx.x; local < s->experts_local; local += blockDim.x) {
        int at = 0;
        for (int v = 0; v < vranks; v++) {
            int channel = slots_channel(s, local, v), n = (int)sm->count[channel];
            sm->base[channel] = at;
            if (blockIdx.x == 0)
                p.a.segments[channel] = make_int2(at, n);
            at += n;
        }
        if (blockIdx.x == 0)
            p.a.rows[local] = at;
    }
    for (int v = threadIdx.x; blockIdx.x == 0 && v < vranks; v += blockDim.x)
        p.c.dedup_tokens[v] = sm->tokens[v];
    __syncthreads();
}

/* By a warp, a lane per choice: where this lane's row stands among those there are (row >= 0). */
static __device__ __forceinline__ int place_rank(struct dedup_smem *sm, int group, int row)
{
    unsigned int any = __ballot_sync(~0u, row >= 0);
    if (threadIdx.x % 32 == 0)
        sm->rows[group] = __popc(any);
    return __popc(any & ((1u << threadIdx.x % 32) - 1));
}

/* A lane per choice of the group's first warp takes the rows that the token is copied to. Returns
 * whether there is any. */
static __device__ bool take_places(const struct dedup_dispatch &p, struct dedup_smem *sm, int group,
                                   struct dedup_item item, unsigned int sequence)
{
    const struct slots *s = &p.c.slots;
    int lane = threadIdx.x % 32, topk = s->shape.topk, row = -1;
    if (lane < topk) {
        int4 head = wait_head(&p.c, head_of(s, p.c.self, p.a.parity, item.vsrc, item.token, lane),
                              sequence);
        if (head.z >= 0) {
            int channel = slots_channel(s, head.z, item.vsrc);
            int in_expert = sm->base[channel] + (int)atomicAdd(&p.c.dedup_next[channel], 1u);
            row = head.z * s->rows_max + in_expert;
            struct kernels_row_source source = {item.token, (short)lane, (short)item.vsrc};
            p.a.sources[row] = source;
        }
        size_t at = slots_dedup_token(s, p.a.parity, item.vsrc, item.token);
        ((int *)(p.c.self + s->dedup_places_offset))[at * (size_t)topk + (size_t)lane] = row;
    }
    int at = place_rank(sm, group, row);
    if (row >= 0)
        sm->place[group][at] = row;
    return __any_sync(~0u, row >= 0);
}

/* A body to the rows of its experts, by a group. */
static __device__ void copy_body(const struct dedup_dispatch &p, const struct dedup_smem *sm,
                                 int group, struct dedup_item item)
{
    const struct slots *s = &p.c.slots;
    const unsigned char *body =
        p.c.self + s->dedup_bodies_offset +
        slots_dedup_token(s, p.a.parity, item.vsrc, item.token) * (size_t)s->body_bytes;
    int words = (int)s->payload_bytes / 16, groups = s->shape.hidden / SLOTS_CHANNELS;
    for (int i = threadIdx.x % DEDUP_GROUP; i < words; i += DEDUP_GROUP) {
        int4 v = load_row16((const int4 *)body + i);
        for (int j = 0; j < sm->rows[group]; j++)
            store_row16((int4 *)p.a.packed_x + (size_t)sm->place[group][j] * (size_t)words + i, v);
    }
    for (int i = threadIdx.x % DEDUP_GROUP; s->shape.fp8 && i < groups; i += DEDUP_GROUP) {
        float scale = ((const float *)(body + s->payload_bytes))[i];
        for (int j = 0; j < sm->rows[group]; j++) {
            int row = sm->place[group][j], local = row / s->rows_max;
            p.a.packed_scales[(size_t)local * (size_t)s->rows_max * (size_t)groups +
                              (size_t)(row - local * s->rows_max) * (size_t)p.a.scale_row +
                              (size_t)i * (size_t)p.a.scale_group] = scale;
        }
    }
}

static __device__ void receive_bodies(const struct dedup_dispatch &p, struct dedup_smem *sm,
                                      unsigned int sequence)
{
    const struct slots *s = &p.c.slots;
    int group = threadIdx.x / DEDUP_GROUP;
    bool first_warp = threadIdx.x % DEDUP_GROUP < 32;
    for (int i = blockIdx.x + group * gridDim.x;; i += DEDUP_GROUPS * gridDim.x) {
        struct dedup_item item = item_of(sm, s->shape.vranks, i);
        if (item.vsrc < 0)
            break;
        if (first_warp && take_places(p, sm, group, item, sequence) && threadIdx.x % 32 == 0) {
            unsigned long long start_ns = stamp_now_ns();
            size_t at = slots_dedup_token(s, p.a.parity, item.vsrc, item.token);
            wait_flag(&p.c, (const struct slots_flag *)(p.c.self + s->dedup_flags_offset) + at,
                      sequence, &p.pacing, slots_vsrc_gpu(s, item.vsrc),
                      slots_vsrc_is_own(s, item.vsrc), COMM_WAIT_DISPATCH, i);
            atomicMax(&sm->wait_ns, stamp_now_ns() - start_ns);
        }
        group_barrier(group);
        copy_body(p, sm, group, item);
        group_barrier(group);
    }
}

/* The CTA that leaves last makes the counters ready for the next dispatch. All threads. */
static __device__ void leave_dispatch(const struct dedup_dispatch &p, struct dedup_smem *sm,
                                      unsigned int sequence)
{
    __syncthreads();
    if (threadIdx.x == 0)
        sm->last = ticket_last(&p.c.tickets[DEDUP_TICKET_DISPATCH]);
    __syncthreads();
    if (!sm->last)
        return;
    for (int i = threadIdx.x; i < p.c.slots.shape.experts; i += blockDim.x)
        p.c.dedup_next[i] = 0;
    if (threadIdx.x == 0)
        p.c.dedup_seq[0] = sequence;
}

static __global__ void __launch_bounds__(DEDUP_THREADS, 1)
    dedup_dispatch_kernel(const __grid_constant__ struct dedup_dispatch p)
{
    extern __shared__ __align__(128) unsigned char smem[];
    struct dedup_smem *sm = (struct dedup_smem *)smem;
    unsigned int sequence = *(volatile unsigned int *)&p.c.dedup_seq[0] + 1;
    if (threadIdx.x == 0) {
        stamp_begin(p.a.stamp);
        sm->wait_ns = 0;
        delay_spin(&p.a.delay, p.c.slots.shape.rank);
    }
    for (int i = threadIdx.x; i < p.c.slots.shape.experts; i += blockDim.x)
        sm->count[i] = 0;
    __syncthreads();
    send_heads(p, sequence);
    send_bodies(p, smem + DEDUP_BODIES_OFFSET, sequence);
    read_tokens(p.c, p.a.parity, sequence, sm);
    count_rows(p, sm, sequence);
    receive_bodies(p, sm, sequence);
    leave_dispatch(p, sm, sequence);
    if (threadIdx.x == 0) {
        stamp_wait(p.a.stamp, sm->wait_ns);
        stamp_end(p.a.stamp);
    }
}

/* Says that this rank has read all heads, so that their senders may go on to the next exchange. */
static __device__ void tell_read(const struct dedup_combine &p, unsigned int sequence)
{
    const struct slots *s = &p.c.slots;
    const struct comm_pacing_device unpaced = {};
    for (int v = threadIdx.x; blockIdx.x == 0 && v < s->shape.vranks; v += blockDim.x)
        post_flag(
            &p.c, p.c.peers[v % s->shape.ranks],
            slots_dedup_flag(s, s->dedup_read_offset, p.a.parity, slots_vsrc(s, s->shape.rank, v)),
            sequence, 0, &unpaced, 1, 0, 0);
}

/* 8 channels of the weighted sum of a token's rows here, in the order of its choices. */
static __device__ __forceinline__ uint4 sum_word(const struct dedup_combine &p,
                                                 const struct dedup_smem *sm, int group, int words,
                                                 int word)
{
    const int batch = 4; /* loads in flight */
    float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    int n = sm->rows[group];
    for (int first = 0; first < n; first += batch) {
        int4 raw[batch];
#pragma unroll
        for (int j = 0; j < batch; j++)
            if (first + j < n)
                raw[j] = load_row16((const int4 *)p.a.y_packed +
                                    (size_t)sm->place[group][first + j] * (size_t)words + word);
#pragma unroll
        for (int j = 0; j < batch; j++)
            if (first + j < n)
                add_scaled(sum, raw[j], sm->weight[group][first + j]);
    }
    return bf16x8_pack(sum);
}

/* The weighted sum of a token's rows here, to its rank. A group. */
static __device__ void send_sum(const struct dedup_combine &p, const struct dedup_smem *sm,
                                int group, struct dedup_item item, size_t to)
{
    const struct slots *s = &p.c.slots;
    int words = s->shape.hidden / 8;
    int4 *out = (int4 *)(p.c.peers[slots_vsrc_gpu(s, item.vsrc)] + s->dedup_back_offset +
                         to * (size_t)s->row_bytes);
    for (int i = threadIdx.x % DEDUP_GROUP; i < words; i += DEDUP_GROUP) {
        uint4 word = sum_word(p, sm, group, words, i);
        store_row16(out + i, make_int4((int)word.x, (int)word.y, (int)word.z, (int)word.w));
    }
}

/* A lane per choice: the token's rows and weights. Returns whether there is any. */
static __device__ bool read_places(const struct dedup_combine &p, struct dedup_smem *sm, int group,
                                   struct dedup_item item)
{
    const struct slots *s = &p.c.slots;
    int lane = threadIdx.x % 32, topk = s->shape.topk, row = -1;
    float weight = 0;
    if (lane < topk) {
        size_t at =
            slots_dedup_token(s, p.a.parity, item.vsrc, item.token) * (size_t)topk + (size_t)lane;
        row = ((const int *)(p.c.self + s->dedup_places_offset))[at];
        weight = ((const struct slots_head *)(p.c.self + s->dedup_heads_offset))[at].weight;
    }
    int at = place_rank(sm, group, row);
    if (row >= 0) {
        sm->place[group][at] = row;
        sm->weight[group][at] = weight;
    }
    return __any_sync(~0u, row >= 0);
}

static __device__ void send_sums(const struct dedup_combine &p, struct dedup_smem *sm,
                                 unsigned int sequence)
{
    const struct slots *s = &p.c.slots;
    unsigned long long since_ns = p.pacing.ns_per_byte > 0 ? stamp_now_ns() : 0;
    int group = threadIdx.x / DEDUP_GROUP, rank = s->shape.rank;
    for (int i = blockIdx.x + group * gridDim.x;; i += DEDUP_GROUPS * gridDim.x) {
        struct dedup_item item = item_of(sm, s->shape.vranks, i);
        if (item.vsrc < 0)
            break;
        /* Whom the source took this rank for: the inverse of slots_vsrc. */
        int as = rank + item.vsrc / s->shape.ranks * s->shape.ranks;
        size_t to = slots_dedup_token(s, p.a.parity, as, item.token);
        bool any = threadIdx.x % DEDUP_GROUP < 32 && read_places(p, sm, group, item);
        group_barrier(group);
        if (sm->rows[group] > 0)
            send_sum(p, sm, group, item, to);
        group_barrier(group);
        if (any && threadIdx.x % DEDUP_GROUP == 0)
            post_flag(&p.c, p.c.peers[slots_vsrc_gpu(s, item.vsrc)],
                      s->dedup_back_flags_offset + to * sizeof(struct slots_flag), sequence, 1,
                      &p.pacing, slots_vsrc_is_own(s, item.vsrc), since_ns, (double)s->row_bytes);
    }
}

/* One lane per virtual rank of the group's first warp waits for the token's sums. place[v] says
 * whether there is one; ranks beyond a warp's lanes take turns. */
static __device__ void wait_sums(const struct dedup_combine &p, struct dedup_smem *sm, int token,
                                 unsigned int sequence)
{
    const struct slots *s = &p.c.slots;
    unsigned long long start_ns = stamp_now_ns();
    for (int v = threadIdx.x % 32; v < s->shape.vranks; v += 32) {
        if (!token_touches(s, p.a.topk_idx, p.a.topk_idx_bytes, token, v))
            continue;
        size_t at = slots_dedup_token(s, p.a.parity, v, token);
        wait_flag(&p.c, (const struct slots_flag *)(p.c.self + s->dedup_back_flags_offset) + at,
                  sequence, &p.pacing, v % s->shape.ranks, v == s->shape.rank, COMM_WAIT_COMBINE,
                  token);
    }
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        atomicMax(&sm->wait_ns, stamp_now_ns() - start_ns);
}

/* The ranks' sums of a token, in their order, to y. A group. */
static __device__ void add_sums(const struct dedup_combine &p, int token)
{
    const struct slots *s = &p.c.slots;
    int words = s->shape.hidden / 8;
    unsigned long long touched = 0;
    for (int k = 0; k < s->shape.topk; k++) {
        int local, v = choice_vrank(s, p.a.topk_idx, p.a.topk_idx_bytes, token, k, &local);
        touched |= v >= 0 ? 1ull << v : 0;
    }
    for (int i = threadIdx.x % DEDUP_GROUP; i < words; i += DEDUP_GROUP) {
        float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        for (unsigned long long left = touched; left; left &= left - 1) {
            int v = __ffsll((long long)left) - 1;
            int4 raw = load_row16(
                (const int4 *)(p.c.self + s->dedup_back_offset +
                               slots_dedup_token(s, p.a.parity, v, token) * (size_t)s->row_bytes) +
                i);
            add_scaled(sum, raw, 1);
        }
        ((uint4 *)p.a.y)[(size_t)token * (size_t)words + i] = bf16x8_pack(sum);
    }
}

static __device__ void receive_sums(const struct dedup_combine &p, struct dedup_smem *sm,
                                    unsigned int sequence)
{
    const struct slots *s = &p.c.slots;
    const struct comm_pacing_device unpaced = {};
    int group = threadIdx.x / DEDUP_GROUP;
    for (int v = threadIdx.x; v < s->shape.vranks; v += blockDim.x) {
        const struct slots_flag *flag =
            (const struct slots_flag *)(p.c.self +
                                        slots_dedup_flag(s, s->dedup_read_offset, p.a.parity, v));
        wait_flag(&p.c, flag, sequence, &unpaced, slots_vsrc_gpu(s, v), 1, COMM_WAIT_COMBINE, v);
    }
    for (int token = blockIdx.x + group * gridDim.x; token < p.a.tokens;
         token += DEDUP_GROUPS * gridDim.x) {
        if (threadIdx.x % DEDUP_GROUP < 32)
            wait_sums(p, sm, token, sequence);
        group_barrier(group);
        add_sums(p, token);
    }
}

static __global__ void __launch_bounds__(DEDUP_THREADS, 1)
    dedup_combine_kernel(const __grid_constant__ struct dedup_combine p)
{
    extern __shared__ __align__(128) unsigned char smem[];
    struct dedup_smem *sm = (struct dedup_smem *)smem;
    unsigned int sequence = *(volatile unsigned int *)&p.c.dedup_seq[1] + 1;
    if (threadIdx.x == 0) {
        stamp_begin(p.a.stamp);
        sm->wait_ns = 0;
        delay_spin(&p.a.delay, p.c.slots.shape.rank);
    }
    __syncthreads();
    tell_read(p, sequence);
    for (int v = threadIdx.x; v < p.c.slots.shape.vranks; v += blockDim.x)
        sm->tokens[v] = p.c.dedup_tokens[v];
    __syncthreads();
    send_sums(p, sm, sequence);
    receive_sums(p, sm, sequence);
    __syncthreads();
    if (threadIdx.x == 0) {
        if (ticket_last(&p.c.tickets[DEDUP_TICKET_COMBINE]))
            p.c.dedup_seq[1] = sequence;
        stamp_wait(p.a.stamp, sm->wait_ns);
        stamp_end(p.a.stamp);
    }
}

static int shape_check(const struct slots *s, int parity, int tokens, int idx_bytes, int num_sms)
{
    return !s->shape.dedup || parity < 0 || parity >= SLOTS_PARITIES || tokens < 0 ||
                   tokens > s->shape.max_tokens || (idx_bytes != 4 && idx_bytes != 8) || num_sms < 1
               ? ERR_RANGE
               : 0;
}

extern "C" int kernels_dedup_dispatch_launch(const struct dispatch_args *args, cudaStream_t stream)
{
    struct dedup_dispatch p = {kernels_comm_device(args->comm, args->parity), *args, {}};
    const struct slots *s = &p.c.slots;
    int err = shape_check(s, args->parity, args->tokens, args->topk_idx_bytes, args->num_sms);
    if (err != 0 || args->rounds != 1 || args->topk_weights == NULL || args->packed_x == NULL ||
        args->sources == NULL || args->rows == NULL || args->segments == NULL ||
        (s->shape.fp8 && args->packed_scales == NULL))
        return ERR_RANGE;
    p.pacing = comm_pacing(&args->pacing, s->shape.rank);
    size_t stride = (s->body_bytes + 127) / 128 * 128;
    return kernels_comm_launch((const void *)dedup_dispatch_kernel, args->num_sms, DEDUP_THREADS,
                               DEDUP_BODIES_OFFSET + DEDUP_STAGES * stride, &p, stream);
}

extern "C" int kernels_dedup_combine_launch(const struct combine_args *args, cudaStream_t stream)
{
    struct dedup_combine p = {kernels_comm_device(args->comm, args->parity), *args, {}};
    const struct slots *s = &p.c.slots;
    int err = shape_check(s, args->parity, args->tokens, args->topk_idx_bytes, args->num_sms);
    if (err != 0 || args->y_packed == NULL || args->y == NULL || args->topk_idx == NULL)
        return ERR_RANGE;
    p.pacing = comm_pacing(&args->pacing, s->shape.rank);
    return kernels_comm_launch((const void *)dedup_combine_kernel, args->num_sms, DEDUP_THREADS,
                               DEDUP_BODIES_OFFSET, &p, stream);
}
