/* kernels/dispatch.cu: tokens to experts. See comm.h for what is promised and slots.h for where
 * things lie. The warps of a sending CTA have roles: the last one counts, from topk_idx, how many
 * messages each expert will get in all; in round 0 the one before it looks up where messages go;
 * the others cast and send. The CTA that sends an expert's last message writes its flag. */
#include <cuda_bf16.h>
#include "kernels/cast_fp8.cuh"
#include "kernels/comm_device.cuh"
#include "kernels/gin.h"

/* Bodies in shared memory, so that sends of one overlap the next cast. */
#define DISPATCH_STAGES    4
#define DISPATCH_BUFFERS   16
#define DISPATCH_BULK_SMEM (180 * 1024)

struct dispatch_params {
    struct comm_device c;
    struct dispatch_args a;
    struct comm_pacing_device pacing;
    int local_first, locals; /* local experts of the round */
    int experts_round;
    int warp_groups;
    int stores;  /* 16-byte stores instead of bulk copies */
    int buffers; /* warps that relay staged bodies, each with a buffer of its own */
    int spread;  /* full channels are shared by all CTAs of the receive */
};

struct dispatch_smem {
    unsigned long long barriers[DISPATCH_BUFFERS];
    unsigned char *to[2][32]; /* where messages go; a pass of the slot warp, and the next */
    int vsrc[2][32];
    unsigned long long claimed[32]; /* mbarriers: the rows of a warp group are known */
    int group_base[32], group_count[32];
    int group_rest[32]; /* the group's own messages: those before this one, */
    int group_tail[32]; /* and those from this one on; the queue has what is between */
    unsigned long long wait_ns;
    int queue_part;                        /* the CTA's next part of the queue, or -1 */
    unsigned int total[SLOTS_MAX_EXPERTS]; /* messages of all CTAs, per expert of the round */
    unsigned int mine[SLOTS_MAX_EXPERTS];  /* messages of this CTA */
    struct {
        size_t at; /* of the flag, in the window of gpu */
        unsigned int sequence;
        int gpu;
    } flags[SLOTS_MAX_EXPERTS];
};

#define DISPATCH_BODIES_OFFSET ((int)((sizeof(struct dispatch_smem) + 127) / 128 * 128))

/* An expert's index within its round, or -1 when this launch has nothing to send there. */
static __device__ __forceinline__ int round_index(const struct dispatch_params &p, int expert)
{
    if (expert < 0 || expert >= p.c.slots.shape.experts)
        return -1;
    int local = slots_expert_local(&p.c.slots, expert) - p.local_first;
    if (local < 0 || local >= p.locals || p.c.peers[slots_expert_gpu(&p.c.slots, expert)] == NULL)
        return -1;
    return slots_expert_vrank(&p.c.slots, expert) * p.locals + local;
}

static __device__ __forceinline__ int round_expert(const struct dispatch_params &p, int index)
{
    return index / p.locals * p.c.slots.experts_local + p.local_first + index % p.locals;
}

static __device__ void count_topk(const struct dispatch_params &p, struct dispatch_smem *sm)
{
    const int batch = 8; /* loads in flight */
    int n = p.a.tokens * p.c.slots.shape.topk;
    for (int i = threadIdx.x % 32; i < n; i += batch * 32) {
        int expert[batch];
#pragma unroll
        for (int j = 0; j < batch; j++)
            expert[j] =
                i + j * 32 < n ? topk_expert(p.a.topk_idx, p.a.topk_idx_bytes, i + j * 32) : -1;
#pragma unroll
        for (int j = 0; j < batch; j++) {
            int index = round_index(p, expert[j]);
            if (index >= 0)
                atomicAdd(&sm->total[index], 1u);
        }
    }
}

/* What publish_counts will need, so that it need not be fetched then. */
static __device__ void prepare_flags(const struct dispatch_params &p, struct dispatch_smem *sm)
{
    const struct slots *s = &p.c.slots;
#pragma unroll 4
    for (int index = threadIdx.x % 32; index < p.experts_round; index += 32) {
        int expert = round_expert(p, index);
        int vsrc = slots_vsrc(s, s->shape.rank, slots_expert_vrank(s, expert));
        sm->flags[index].sequence = p.c.dispatch_send_seq[expert] + 1;
        sm->flags[index].gpu = slots_expert_gpu(s, expert);
        sm->flags[index].at =
            slots_dispatch_flag(s, p.a.parity, slots_expert_local(s, expert), vsrc);
    }
}

/* Takes a slot at an expert; -1 when the round sends nothing there. */
static __device__ __forceinline__ int take_slot(const struct dispatch_params &p,
                                                struct dispatch_smem *sm, int expert)
{
    int index = round_index(p, expert);
    if (index < 0)
        return -1;
    atomicAdd(&sm->mine[index], 1u);
    return (int)atomicAdd(&p.c.dispatch_next[expert], 1u);
}

/* Where the message in that slot goes, NULL for slot -1. */
static __device__ __forceinline__ unsigned char *slot_address(const struct dispatch_params &p,
                                                              int expert, int slot, int *vsrc)
{
    const struct slots *s = &p.c.slots;
    if (slot < 0)
        return NULL;
    *vsrc = slots_vsrc(s, s->shape.rank, slots_expert_vrank(s, expert));
    return p.c.peers[slots_expert_gpu(s, expert)] +
           slots_dispatch_message(s, p.a.parity, slots_expert_local(s, expert), *vsrc, slot);
}

static __device__ __forceinline__ unsigned char *
message_slot(const struct dispatch_params &p, struct dispatch_smem *sm, int token, int k, int *vsrc)
{
    int expert = topk_expert(p.a.topk_idx, p.a.topk_idx_bytes, token * p.c.slots.shape.topk + k);
    return slot_address(p, expert, take_slot(p, sm, expert), vsrc);
}

static __device__ __forceinline__ void put_header(unsigned char *to, int token, int k, int vsrc)
{
    store_row16((int4 *)to, make_int4(token, k, vsrc, 0));
}

/* The thread's first word of a token, asked for well before it is needed. */
static __device__ __forceinline__ int4 load_ahead(const struct dispatch_params &p, int token)
{
    int words = p.c.slots.shape.hidden / 8;
    int4 raw = make_int4(0, 0, 0, 0);
    if (token < p.a.tokens && (int)threadIdx.x < words)
        raw = load_row16((const int4 *)p.a.x + (size_t)token * (size_t)words + threadIdx.x);
    return raw;
}

/* The body of a token into shared memory, and into staging where a later launch needs it. */
static __device__ __forceinline__ void
cast_token(const struct dispatch_params &p, unsigned char *body, int token, int4 raw, int threads)
{
    const struct slots *s = &p.c.slots;
    int words = s->shape.hidden / 8;
    const int4 *x = (const int4 *)p.a.x + (size_t)token * (size_t)words;
    unsigned char *staged = NULL;
    if (p.a.rounds > 1 || p.c.stage_always)
        staged = p.c.self + slots_staging_body(s, p.a.parity, token);
    for (int i = threadIdx.x; i < words; i += threads) {
        if (i != (int)threadIdx.x)
            raw = load_row16(x + i);
        if (!s->shape.fp8) {
            ((int4 *)body)[i] = raw;
            if (staged)
                ((int4 *)staged)[i] = raw;
            continue;
        }
        float scale;
        uint2 q = cast_fp8(raw, &scale);
        ((uint2 *)body)[i] = q;
        if (staged)
            ((uint2 *)staged)[i] = q;
        if (i % 16 == 0) {
            ((float *)(body + s->payload_bytes))[i / 16] = scale;
            if (staged)
                ((float *)(staged + s->payload_bytes))[i / 16] = scale;
        }
    }
}

/* The slot warp serves as many tokens at a time (a pass) as it has lanes for, one lane per message.
 * Its three steps are turns apart, so that nobody waits for their latency: which expert, which slot
 * there, and the address into the table. */
static __device__ __forceinline__ int pass_expert(const struct dispatch_params &p, int pass)
{
    int topk = p.c.slots.shape.topk, per_pass = 32 / topk, lane = threadIdx.x % 32;
    int token = blockIdx.x + (pass * per_pass + lane / topk) * gridDim.x;
    if (lane >= per_pass * topk || token >= p.a.tokens)
        return -1;
    return topk_expert(p.a.topk_idx, p.a.topk_idx_bytes, token * topk + lane % topk);
}

static __device__ __forceinline__ void pass_write(const struct dispatch_params &p,
                                                  struct dispatch_smem *sm, int pass, int expert,
                                                  int slot)
{
    int lane = threadIdx.x % 32;
    sm->to[pass % 2][lane] = slot_address(p, expert, slot, &sm->vsrc[pass % 2][lane]);
}

/* Round 0 with stores: the token's messages are split evenly over the sending warps. */
static __device__ __forceinline__ void store_token(const struct dispatch_params &p,
                                                   unsigned char *mine, int vsrc,
                                                   const unsigned char *body, int token, int warps)
{
    int lane = threadIdx.x % 32;
    unsigned int any = __ballot_sync(~0u, mine != NULL);
    int n = __popc(any), parts = n > 0 && warps > n ? warps / n : 1;
    int words = (int)p.c.slots.body_bytes / 16;
    for (int j = threadIdx.x / 32; j < n * parts; j += warps) {
        int part = j / n, k = (int)__fns(any, 0, j % n + 1);
        unsigned char *to = (unsigned char *)__shfl_sync(~0u, (unsigned long long)mine, k);
        int first = words * part / parts, last = words * (part + 1) / parts;
        if (part == 0 && lane == k)
            put_header(to, token, k, vsrc);
        int4 *out = (int4 *)(to + sizeof(struct slots_header)) + first;
        const int4 *in = (const int4 *)body + first;
        for (int i = lane; i < last - first; i += 32)
            store_row16(out + i, in[i]);
    }
}

/* Round 0: a token is cast by all sending warps but one, which meanwhile looks up where the next
 * ones go; then it is sent. */
static __device__ void send_cast(const struct dispatch_params &p, struct dispatch_smem *sm,
                                 unsigned char *bodies, int warps)
{
    const struct slots *s = &p.c.slots;
    const unsigned int stride = (s->body_bytes + 127) / 128 * 128;
    int topk = s->shape.topk, per_pass = 32 / topk, turn = 0, lane = threadIdx.x % 32;
    int slot_warp = (int)threadIdx.x / 32 == warps - 1, expert = -1, slot = -1;
    int4 ahead = load_ahead(p, blockIdx.x);
    for (int token = blockIdx.x; token < p.a.tokens; token += gridDim.x, turn++) {
        unsigned char *body = bodies + (turn % DISPATCH_STAGES) * stride;
        if (slot_warp) {
            if (turn == 0) {
                expert = pass_expert(p, 0);
                slot = take_slot(p, sm, expert);
            }
            if (turn % per_pass == 0) {
                pass_write(p, sm, turn / per_pass, expert, slot);
                expert = pass_expert(p, turn / per_pass + 1);
            }
            if (turn % per_pass == 1)
                slot = take_slot(p, sm, expert);
        } else {
            int4 raw = ahead;
            ahead = load_ahead(p, token + gridDim.x);
            cast_token(p, body, token, raw, (warps - 1) * 32);
        }
        if (!p.stores) {
            bulk_fence();
            /* The body of the next turn: its last sends have been read once at most
             * DISPATCH_STAGES - 2 groups are pending. */
            if (threadIdx.x < 32)
                bulk_wait_read<DISPATCH_STAGES - 2>();
        }
        barrier_named(COMM_SENDER_BARRIER, warps * 32);
        if (!p.stores && threadIdx.x >= 32)
            continue;
        int half = turn / per_pass % 2, at = turn % per_pass * topk + lane;
        unsigned char *to = lane < topk ? sm->to[half][at] : NULL;
        int vsrc = to != NULL ? sm->vsrc[half][at] : 0;
        if (p.stores) {
            store_token(p, to, vsrc, body, token, warps);
        } else {
            if (to != NULL) {
                put_header(to, token, lane, vsrc);
                bulk_store(to + sizeof(struct slots_header), body, s->body_bytes);
            }
            bulk_commit();
        }
    }
    if (!p.stores && threadIdx.x < 32)
        bulk_wait_all();
}

/* Later rounds with stores: a warp per message. */
static __device__ void store_staged(const struct dispatch_params &p, struct dispatch_smem *sm,
                                    int warps)
{
    const struct slots *s = &p.c.slots;
    int lane = threadIdx.x % 32, topk = s->shape.topk;
    int mine = p.a.tokens > (int)blockIdx.x
                   ? (p.a.tokens - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x
                   : 0;
    for (int i = threadIdx.x / 32; i < mine * topk; i += warps) {
        int token = blockIdx.x + i / topk * gridDim.x, k = i % topk;
        unsigned long long to = 0;
        int vsrc = 0;
        if (lane == 0)
            to = (unsigned long long)message_slot(p, sm, token, k, &vsrc);
        to = __shfl_sync(~0u, to, 0);
        if (to == 0)
            continue;
        if (lane == 0)
            put_header((unsigned char *)to, token, k, vsrc);
        copy_words((int4 *)(to + sizeof(struct slots_header)),
                   (const int4 *)(p.c.self + slots_staging_body(s, p.a.parity, token)),
                   (int)s->body_bytes / 16);
    }
}

/* Later rounds with bulk copies: a warp per token, through a buffer of its own. */
static __device__ void relay_staged(const struct dispatch_params &p, struct dispatch_smem *sm,
                                    unsigned char *bodies)
{
    const struct slots *s = &p.c.slots;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (warp >= p.buffers)
        return;
    unsigned char *body = bodies + warp * ((s->body_bytes + 127) / 128 * 128);
    unsigned int phase = 0;
    for (int token = blockIdx.x + warp * gridDim.x; token < p.a.tokens;
         token += p.buffers * gridDim.x) {
        unsigned char *to = NULL;
        int vsrc = 0;
        if (lane < s->shape.topk)
            to = message_slot(p, sm, token, lane, &vsrc);
        if (__ballot_sync(~0u, to != NULL) == 0)
            continue;
        bulk_wait_read<0>();
        __syncwarp();
        if (lane == 0)
            bulk_load(body, p.c.self + slots_staging_body(s, p.a.parity, token), s->body_bytes,
                      &sm->barriers[warp]);
        mbarrier_wait(&sm->barriers[warp], phase);
        phase ^= 1;
        if (to != NULL) {
            put_header(to, token, lane, vsrc);
            bulk_store(to + sizeof(struct slots_header), body, s->body_bytes);
        }
        bulk_commit();
    }
    bulk_wait_all();
}

/* By all threads once the CTA's messages are out: the last sender of each expert flags it. */
static __device__ void publish_counts(const struct dispatch_params &p, struct dispatch_smem *sm,
                                      unsigned long long since_ns)
{
    for (int index = threadIdx.x; index < p.experts_round; index += blockDim.x) {
        int expert = round_expert(p, index), gpu = sm->flags[index].gpu;
        unsigned int mine = sm->mine[index], total = sm->total[index];
        if (p.c.peers[gpu] == NULL ||
            (mine == 0 && (total != 0 || index % gridDim.x != blockIdx.x)))
            continue;
        if (mine != 0) {
            fence_gpu();
            if (atomicAdd(&p.c.dispatch_sent[expert], mine) + mine != total)
                continue;
            p.c.dispatch_sent[expert] = 0;
            p.c.dispatch_next[expert] = 0;
        }
        post_flag(&p.c, p.c.peers[gpu], sm->flags[index].at, sm->flags[index].sequence, total,
                  &p.pacing, slots_expert_is_own(&p.c.slots, expert), since_ns,
                  (double)total * p.c.slots.message_bytes);
        p.c.dispatch_send_seq[expert] = sm->flags[index].sequence;
    }
}

static __device__ void send_part(const struct dispatch_params &p, unsigned char *smem)
{
    struct dispatch_smem *sm = (struct dispatch_smem *)smem;
    unsigned char *bodies = smem + DISPATCH_BODIES_OFFSET;
    unsigned long long since_ns = p.pacing.ns_per_byte > 0 ? stamp_now_ns() : 0;
    int warps = blockDim.x / 32 - 1;
    for (int i = threadIdx.x; i < p.experts_round; i += blockDim.x) {
        sm->total[i] = 0;
        sm->mine[i] = 0;
    }
    if (threadIdx.x < DISPATCH_BUFFERS)
        mbarrier_init(&sm->barriers[threadIdx.x]);
    if (threadIdx.x == 0)
        delay_spin(&p.a.delay, p.c.slots.shape.rank);
    __syncthreads();
    if (threadIdx.x / 32 == warps) {
        count_topk(p, sm);
        prepare_flags(p, sm);
    } else if (p.a.round == 0)
        send_cast(p, sm, bodies, warps);
    else if (p.stores)
        store_staged(p, sm, warps);
    else
        relay_staged(p, sm, bodies);
    __syncthreads();
    publish_counts(p, sm, since_ns);
}

/* By one thread: what a channel has beyond COMM_SPREAD_ROWS messages goes to the queue, as far as
 * there is room. Returns how many parts. */
static __device__ int queue_put(const struct dispatch_params &p, int channel, int row, int count)
{
    struct comm_spread *q = p.c.spread;
    int parts = (count - 1) / COMM_SPREAD_ROWS, fit = 0;
    if (parts > 0) {
        unsigned int at = atomicAdd(&q->put, (unsigned int)parts), sequence = q->sequence + 1;
        fit = max(min(parts, COMM_SPREAD_PARTS - (int)at), 0);
        for (int i = 0; i < fit; i++) {
            int first = (i + 1) * COMM_SPREAD_ROWS;
            q->part[at + i].channel = channel;
            q->part[at + i].row = row;
            q->part[at + i].first = first;
            q->part[at + i].count = min(COMM_SPREAD_ROWS, count - first);
        }
        fence_gpu(); /* the messages too, which this thread has seen arrive */
        for (int i = 0; i < fit; i++)
            *(volatile unsigned int *)&q->ready[at + i] = sequence;
    }
    add_acq_rel_gpu(&q->claimed, 1);
    return fit;
}

/* By one thread of a CTA: the next part, or -1 once all channels are known and none is left. */
static __device__ int queue_take(const struct dispatch_params &p)
{
    struct comm_spread *q = p.c.spread;
    unsigned long long start_ns = stamp_now_ns();
    unsigned int at = atomicAdd(&q->taken, 1u), sequence = q->sequence + 1;
    int polls = 0;
    while (at < COMM_SPREAD_PARTS && load_acquire_gpu(&q->ready[at]) != sequence) {
        if (load_acquire_gpu(&q->claimed) == (unsigned int)p.experts_round &&
            at >= load_acquire_gpu(&q->put))
            return -1;
        if ((++polls & 63) == 0 && wait_expired(&p.c, start_ns))
            return -1;
    }
    return at < COMM_SPREAD_PARTS ? (int)at : -1;
}

/* By one thread of each CTA when it is done. */
static __device__ void queue_leave(const struct dispatch_params &p)
{
    struct comm_spread *q = p.c.spread;
    if (!ticket_last(&p.c.tickets[2]))
        return;
    q->put = q->taken = q->claimed = 0;
    q->sequence++;
}

/* By one thread of a warp group: waits for a channel's messages and reserves their rows. */
static __device__ void claim_rows(const struct dispatch_params &p, struct dispatch_smem *sm,
                                  int group, int local, int vsrc)
{
    const struct slots *s = &p.c.slots;
    int channel = slots_channel(s, local, vsrc);
    unsigned long long start_ns = stamp_now_ns();
    const struct slots_flag *flag =
        (const struct slots_flag *)(p.c.self + slots_dispatch_flag(s, p.a.parity, local, vsrc));
    unsigned int sequence = p.c.dispatch_recv_seq[channel] + 1;
    unsigned int count = wait_flag(&p.c, flag, sequence, &p.pacing, slots_vsrc_gpu(s, vsrc),
                                   slots_vsrc_is_own(s, vsrc), COMM_WAIT_DISPATCH, channel);
    atomicMax(&sm->wait_ns, stamp_now_ns() - start_ns);
    p.c.dispatch_recv_seq[channel] = sequence;
    unsigned long long old = atomicAdd(&p.c.dispatch_alloc[local], 1ull << 32 | count);
    unsigned int base = (unsigned int)old;
    if (old >> 32 == (unsigned int)s->shape.vranks - 1) {
        p.a.rows[local] = (int)(base + count);
        p.c.dispatch_alloc[local] = 0;
    }
    p.a.segments[channel] = make_int2((int)base, (int)count);
    sm->group_base[group] = (int)base;
    sm->group_count[group] = (int)count;
    sm->group_rest[group] = sm->group_tail[group] = (int)count;
    if (p.spread) {
        int parts = queue_put(p, channel, (int)base, (int)count);
        if (parts > 0) {
            sm->group_rest[group] = COMM_SPREAD_ROWS;
            sm->group_tail[group] = min((1 + parts) * COMM_SPREAD_ROWS, (int)count);
        }
    }
    mbarrier_arrive(&sm->claimed[group]);
}

/* One warp unpacks a part of a message; the first part brings header and scales along. */
static __device__ __forceinline__ void unpack_part(const struct dispatch_params &p,
                                                   const unsigned char *message, size_t local_row0,
                                                   int row, int part, int parts)
{
    const struct slots *s = &p.c.slots;
    const int ahead = 2; /* scales per lane that are asked for before the payload */
    int lane = threadIdx.x % 32, words = (int)s->payload_bytes / 16;
    int groups = part == 0 && s->shape.fp8 ? s->shape.hidden / SLOTS_CHANNELS : 0;
    const float *scales = (const float *)(message + sizeof(struct slots_header) + s->payload_bytes);
    float scale[ahead];
    int4 head = make_int4(0, 0, 0, 0);
    if (part == 0 && lane == 0)
        head = load_row16((const int4 *)message);
#pragma unroll
    for (int j = 0; j < ahead; j++)
        if (lane + j * 32 < groups)
            scale[j] = scales[lane + j * 32];
    int first = words * part / parts, last = words * (part + 1) / parts;
    copy_words((int4 *)p.a.packed_x + (local_row0 + row) * (size_t)words + first,
               (const int4 *)message + 1 + first, last - first);
    float *out = p.a.packed_scales + local_row0 * (size_t)(s->shape.hidden / SLOTS_CHANNELS) +
                 row * p.a.scale_row;
#pragma unroll
    for (int j = 0; j < ahead; j++)
        if (lane + j * 32 < groups)
            out[(lane + j * 32) * p.a.scale_group] = scale[j];
    for (int i = lane + ahead * 32; i < groups; i += 32)
        out[i * p.a.scale_group] = scales[i];
    if (part == 0 && lane == 0) {
        struct kernels_row_source source = {head.x, (short)head.y, (short)head.z};
        p.a.sources[local_row0 + row] = source;
    }
}

/* `count` messages of one channel, from the first-th on, to rows from base on, by the warps of a
 * group. Long rows are split so that a warp has all of its part in flight at once. */
static __device__ void unpack_rows(const struct dispatch_params &p, int local, int vsrc, int first,
                                   int base, int count, int warp, int warps)
{
    const struct slots *s = &p.c.slots;
    const unsigned char *in = p.c.self + slots_dispatch_message(s, p.a.parity, local, vsrc, first);
    size_t row0 = (size_t)local * (size_t)s->rows_max;
    int parts = ((int)s->payload_bytes / 16 + 255) / 256;
    if (count > 0 && warps / count > parts)
        parts = warps / count;
    for (int i = warp; i < count * parts; i += warps)
        unpack_part(p, in + (size_t)(i / parts) * s->message_bytes, row0, base + i / parts,
                    i % parts, parts);
}

/* What is left of full channels, by whole CTAs. */
static __device__ void unpack_queue(const struct dispatch_params &p, struct dispatch_smem *sm)
{
    const struct comm_spread *q = p.c.spread;
    int vranks = p.c.slots.shape.vranks;
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0)
            sm->queue_part = queue_take(p);
        __syncthreads();
        int at = sm->queue_part;
        if (at < 0)
            break;
        int channel = q->part[at].channel, first = q->part[at].first;
        unpack_rows(p, channel / vranks, channel % vranks, first, q->part[at].row + first,
                    q->part[at].count, threadIdx.x / 32, blockDim.x / 32);
    }
    if (threadIdx.x == 0)
        queue_leave(p);
}

static __device__ void recv_part(const struct dispatch_params &p, unsigned char *smem)
{
    struct dispatch_smem *sm = (struct dispatch_smem *)smem;
    int width = blockDim.x / p.warp_groups, group = threadIdx.x / width;
    int thread = threadIdx.x % width, vranks = p.c.slots.shape.vranks;
    int pair = blockIdx.x * p.warp_groups + group;
    if (threadIdx.x == 0)
        sm->wait_ns = 0;
    if (threadIdx.x < 32)
        mbarrier_init(&sm->claimed[threadIdx.x]);
    __syncthreads();
    if (pair < p.experts_round) {
        int local = p.local_first + pair / vranks, vsrc = pair % vranks;
        if (thread == 0)
            claim_rows(p, sm, group, local, vsrc);
        mbarrier_wait(&sm->claimed[group], 0);
        int base = sm->group_base[group], tail = sm->group_tail[group];
        unpack_rows(p, local, vsrc, 0, base, sm->group_rest[group], thread / 32, width / 32);
        unpack_rows(p, local, vsrc, tail, base + tail, sm->group_count[group] - tail, thread / 32,
                    width / 32);
    }
    if (p.spread)
        unpack_queue(p, sm);
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_wait(p.a.stamp, sm->wait_ns);
}

template <bool SEND, bool RECV>
static __global__ void __launch_bounds__(1024, 1)
    dispatch_kernel(const __grid_constant__ struct dispatch_params p)
{
    extern __shared__ __align__(128) unsigned char smem[];
    if (threadIdx.x == 0)
        stamp_begin(p.a.stamp);
    if (SEND)
        send_part(p, smem);
    if (RECV)
        recv_part(p, smem);
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(p.a.stamp);
}

static int dispatch_check(const struct dispatch_args *a, const struct slots *s, bool recv)
{
    if (a->parity < 0 || a->parity >= SLOTS_PARITIES || a->rounds < 1 || a->round < 0 ||
        a->round >= a->rounds || s->experts_local % a->rounds != 0 || a->tokens < 0 ||
        a->tokens > s->shape.max_tokens || (a->topk_idx_bytes != 4 && a->topk_idx_bytes != 8))
        return ERR_RANGE;
    if (recv && (a->packed_x == NULL || a->sources == NULL || a->rows == NULL ||
                 a->segments == NULL || (s->shape.fp8 && a->packed_scales == NULL)))
        return ERR_RANGE;
    return 0;
}

static int dispatch_launch(const struct dispatch_args *args, bool send, bool recv,
                           cudaStream_t stream)
{
    struct dispatch_params p;
    p.c = kernels_comm_device(args->comm, args->parity);
    const struct slots *s = &p.c.slots;
    int err = dispatch_check(args, s, recv);
    if (err != 0)
        return err;
    p.a = *args;
    p.pacing = comm_pacing(&args->pacing, s->shape.rank);
    p.locals = s->experts_local / args->rounds;
    p.local_first = args->round * p.locals;
    p.experts_round = s->shape.experts / args->rounds;
    struct kernels_grid grid;
    err = kernels_comm_grid(p.experts_round, args->num_sms, recv, &grid);
    if (err != 0)
        return err;
    p.warp_groups = grid.warp_groups;
    p.stores = args->copy == KERNELS_COPY_STORES;
    p.spread = recv && args->hot_rows >= KERNELS_SPREAD_FROM;
    int stride = (int)(s->body_bytes + 127) / 128 * 128;
    int buffers = DISPATCH_BULK_SMEM / stride;
    p.buffers = buffers < DISPATCH_BUFFERS ? buffers : DISPATCH_BUFFERS;
    size_t smem = DISPATCH_BODIES_OFFSET;
    if (send)
        smem += (size_t)stride * (args->round == 0 ? DISPATCH_STAGES : p.stores ? 0 : p.buffers);
    const void *kernel = send && recv ? (const void *)dispatch_kernel<true, true>
                         : send       ? (const void *)dispatch_kernel<true, false>
                                      : (const void *)dispatch_kernel<false, true>;
    return kernels_comm_launch(kernel, grid.ctas, grid.threads, smem, &p, stream);
}

extern "C" int kernels_dispatch_send_launch(const struct dispatch_args *args, cudaStream_t stream)
{
    int err = dispatch_launch(args, true, false, stream);
    return err != 0 ? err : kernels_gin_dispatch(args, stream);
}

extern "C" int kernels_dispatch_recv_launch(const struct dispatch_args *args, cudaStream_t stream)
{
    int err = kernels_gin_dispatch_flags(args, stream);
    return err != 0 ? err : dispatch_launch(args, false, true, stream);
}

extern "C" int kernels_dispatch_fused_launch(const struct dispatch_args *args, cudaStream_t stream)
{
    if (!kernels_gin_wanted(args->comm))
        return dispatch_launch(args, true, true, stream);
    int err = kernels_dispatch_send_launch(args, stream);
    return err != 0 ? err : kernels_dispatch_recv_launch(args, stream);
}
