/* kernels/slots.h: where every message, flag and row of the expert-parallel exchange lies. One
 * window of memory per GPU, the same layout on all; an address is (GPU, offset). The NVLink and the
 * GIN path share this arithmetic, and tests/kernels/test_slots.c checks it on the CPU.
 *
 * Ranks may be virtual (slice mode): a group of `vranks` ranks is folded onto `ranks` GPUs, virtual
 * rank v living on GPU v % ranks. Each GPU then holds the weights of ONE rank's local experts, so
 * the experts of virtual ranks v and v + ranks are tied; it receives as many rows as one rank of
 * the larger group does. With vranks == ranks nothing is virtual. */
#ifndef PEOSIM_KERNELS_SLOTS_H
#define PEOSIM_KERNELS_SLOTS_H

#include <stddef.h>
#include "base/err.h"

#ifdef __CUDACC__
#define SLOTS_FN static inline __host__ __device__
#else
#define SLOTS_FN static inline
#endif

#define SLOTS_ALIGN       1024 /* bytes: every region of a window starts on this */
#define SLOTS_PARITIES    2    /* buffer sets: two half batches, or a layer and the next */
#define SLOTS_MAX_EXPERTS 1024
#define SLOTS_MAX_RANKS   64
#define SLOTS_MAX_TOPK    16
#define SLOTS_CHANNELS    128 /* channels that share one FP8 scale */

/* The head of a dispatch message, 16 bytes. */
struct slots_header {
    int token;  /* token index at the source rank */
    int k;      /* which of the token's top-k choices this is */
    int vsrc;   /* virtual source rank */
    int unused; /* 0 */
};

/* 16 bytes; one per (local expert, virtual source) for dispatch, one per expert for combine.
 * word = sequence number << 32 | message count: a flag never needs clearing, since the reader knows
 * which sequence number comes next. time_ns is written before word and only when pacing is on. */
struct slots_flag {
    unsigned long long word;
    unsigned long long time_ns;
};

struct slots_shape {
    int ranks;      /* GPUs */
    int rank;       /* this GPU */
    int vranks;     /* EP size; a multiple of ranks */
    int experts;    /* a multiple of vranks */
    int hidden;     /* a multiple of 128 (BF16) or 512 (FP8) */
    int topk;       /* <= SLOTS_MAX_TOPK */
    int max_tokens; /* tokens per rank that the buffers hold */
    int fp8;        /* dispatch e4m3 with float scales; else BF16 */
    int gin;        /* room for sends beyond NVLink, whose source must lie in the window */
    int dedup;      /* room for the exchange of one row per token and rank (kernels/dedup.h) */
};

/* Offsets are bytes from the start of a window. */
struct slots {
    struct slots_shape shape;
    int experts_local;            /* experts / vranks */
    int rows_max;                 /* vranks * max_tokens: rows of one expert in the packed tensor */
    unsigned int payload_bytes;   /* one token as dispatched, without scales */
    unsigned int body_bytes;      /* payload and scales, padded to 16 */
    unsigned int message_bytes;   /* header and body */
    unsigned int row_bytes;       /* one BF16 row of the combine */
    size_t dispatch_offset;       /* [parity][local expert][vsrc][max_tokens] messages */
    size_t dispatch_flags_offset; /* [parity][local expert][vsrc] flags */
    size_t combine_offset;        /* [parity][token][k] rows */
    size_t combine_flags_offset;  /* [parity][expert] flags */
    size_t staging_offset;        /* [parity][token] bodies, this GPU's own tokens */
    size_t staging_headers_offset; /* [parity][token][k] headers; GIN sends from here */
    size_t combine_staging_offset; /* gin: [parity][local expert][vsrc][max_tokens] rows */
    /* dedup: what a rank's tokens bring to another, and what comes back of them */
    size_t dedup_counts_offset;     /* [parity][vsrc] flags; the count is of tokens */
    size_t dedup_heads_offset;      /* [parity][vsrc][token][k] heads */
    size_t dedup_bodies_offset;     /* [parity][vsrc][token] bodies */
    size_t dedup_flags_offset;      /* [parity][vsrc][token] flags of bodies */
    size_t dedup_places_offset;     /* [parity][vsrc][token][k] int: rows that the copies went to */
    size_t dedup_back_offset;       /* [parity][virtual rank][token] BF16 partial sums */
    size_t dedup_back_flags_offset; /* [parity][virtual rank][token] flags of those */
    size_t dedup_read_offset;       /* [parity][virtual rank] flags: that rank has read the heads */
    size_t scratch_offset;          /* flags of latency tests, then scratch_bytes for pushes */
    size_t total_bytes;
};

SLOTS_FN size_t slots_align(size_t bytes, size_t align)
{
    return (bytes + align - 1) / align * align;
}

/* One choice of a token as its destination sees it, in two words of 8 bytes that each say which
 * exchange they are of: a reader needs no flag to know that they have come. */
struct slots_head {
    float weight;
    unsigned int sequence;
    int local; /* expert, -1: not one of that rank's */
    unsigned int sequence2;
};

SLOTS_FN size_t slots_take(size_t *at, size_t bytes)
{
    size_t here = *at;
    *at += slots_align(bytes, SLOTS_ALIGN);
    return here;
}

/* The regions of the exchange without duplicates. */
SLOTS_FN void slots_init_dedup(struct slots *s, size_t *at)
{
    size_t sources = s->shape.dedup ? SLOTS_PARITIES * (size_t)s->shape.vranks : 0;
    size_t tokens = sources * (size_t)s->shape.max_tokens;
    s->dedup_counts_offset = slots_take(at, sources * sizeof(struct slots_flag));
    s->dedup_heads_offset =
        slots_take(at, tokens * (size_t)s->shape.topk * sizeof(struct slots_head));
    s->dedup_bodies_offset = slots_take(at, tokens * s->body_bytes);
    s->dedup_flags_offset = slots_take(at, tokens * sizeof(struct slots_flag));
    s->dedup_places_offset = slots_take(at, tokens * (size_t)s->shape.topk * sizeof(int));
    s->dedup_back_offset = slots_take(at, tokens * s->row_bytes);
    s->dedup_back_flags_offset = slots_take(at, tokens * sizeof(struct slots_flag));
    s->dedup_read_offset = slots_take(at, sources * sizeof(struct slots_flag));
}

/* The index of a token of a virtual rank in those regions. */
SLOTS_FN size_t slots_dedup_token(const struct slots *s, int parity, int vrank, int token)
{
    return ((size_t)parity * (size_t)s->shape.vranks + (size_t)vrank) *
               (size_t)s->shape.max_tokens +
           (size_t)token;
}

/* The flag of a virtual rank in dedup_counts or dedup_read. */
SLOTS_FN size_t slots_dedup_flag(const struct slots *s, size_t region, int parity, int vrank)
{
    return region +
           ((size_t)parity * (size_t)s->shape.vranks + (size_t)vrank) * sizeof(struct slots_flag);
}

/* Fills s. Returns 0, ERR_RANGE (a field out of range) or ERR_CONFIG (fields do not divide). */
SLOTS_FN int slots_init(struct slots *s, const struct slots_shape *shape, size_t scratch_bytes)
{
    if (shape->ranks < 1 || shape->ranks > SLOTS_MAX_RANKS || shape->rank < 0 ||
        shape->rank >= shape->ranks || shape->topk < 1 || shape->topk > SLOTS_MAX_TOPK ||
        shape->max_tokens < 1 || shape->experts < 1 || shape->experts > SLOTS_MAX_EXPERTS ||
        shape->hidden < SLOTS_CHANNELS || shape->hidden > 16384 || shape->max_tokens > 65536)
        return ERR_RANGE;
    if (shape->vranks < shape->ranks || shape->vranks % shape->ranks != 0 ||
        shape->experts % shape->vranks != 0 ||
        shape->hidden % (shape->fp8 ? 4 * SLOTS_CHANNELS : SLOTS_CHANNELS) != 0)
        return ERR_CONFIG;
    s->shape = *shape;
    s->experts_local = shape->experts / shape->vranks;
    s->rows_max = shape->vranks * shape->max_tokens;
    size_t hidden = (size_t)shape->hidden, tokens = (size_t)shape->max_tokens;
    size_t scales = shape->fp8 ? hidden / SLOTS_CHANNELS * 4 : 0;
    size_t payload = shape->fp8 ? hidden : 2 * hidden;
    size_t body = slots_align(payload + scales, 16);
    size_t message = sizeof(struct slots_header) + body;
    s->payload_bytes = (unsigned int)payload;
    s->body_bytes = (unsigned int)body;
    s->message_bytes = (unsigned int)message;
    s->row_bytes = (unsigned int)(2 * hidden);
    size_t pairs = (size_t)s->experts_local * (size_t)shape->vranks, at = 0;
    s->dispatch_offset = at;
    at += slots_align(SLOTS_PARITIES * pairs * tokens * message, SLOTS_ALIGN);
    s->dispatch_flags_offset = at;
    at += slots_align(SLOTS_PARITIES * pairs * sizeof(struct slots_flag), SLOTS_ALIGN);
    s->combine_offset = at;
    at += slots_align(SLOTS_PARITIES * tokens * (size_t)shape->topk * s->row_bytes, SLOTS_ALIGN);
    s->combine_flags_offset = at;
    at += slots_align(SLOTS_PARITIES * (size_t)shape->experts * sizeof(struct slots_flag),
                      SLOTS_ALIGN);
    s->staging_offset = at;
    at += slots_align(SLOTS_PARITIES * tokens * body, SLOTS_ALIGN);
    s->staging_headers_offset = at;
    at += slots_align(SLOTS_PARITIES * tokens * (size_t)shape->topk * sizeof(struct slots_header),
                      SLOTS_ALIGN);
    s->combine_staging_offset = at;
    if (shape->gin)
        at += slots_align(SLOTS_PARITIES * pairs * tokens * s->row_bytes, SLOTS_ALIGN);
    slots_init_dedup(s, &at);
    s->scratch_offset = at;
    s->total_bytes = at + SLOTS_ALIGN + slots_align(scratch_bytes, SLOTS_ALIGN);
    return 0;
}

/* Where expert e lives. */
SLOTS_FN int slots_expert_vrank(const struct slots *s, int expert)
{
    return expert / s->experts_local;
}

SLOTS_FN int slots_expert_gpu(const struct slots *s, int expert)
{
    return slots_expert_vrank(s, expert) % s->shape.ranks;
}

SLOTS_FN int slots_expert_local(const struct slots *s, int expert)
{
    return expert % s->experts_local;
}

/* The virtual source under which GPU `gpu`'s messages to virtual rank `vdst` arrive. The folds of
 * source and destination are the same, so that (local expert, vsrc) names one channel. */
SLOTS_FN int slots_vsrc(const struct slots *s, int gpu, int vdst)
{
    return gpu + vdst / s->shape.ranks * s->shape.ranks;
}

/* The inverse, as GPU `gpu` sees it: which expert a (local expert, vsrc) channel was sent to. */
SLOTS_FN int slots_channel_expert(const struct slots *s, int gpu, int local, int vsrc)
{
    int vdst = gpu + vsrc / s->shape.ranks * s->shape.ranks;
    return vdst * s->experts_local + local;
}

SLOTS_FN int slots_vsrc_gpu(const struct slots *s, int vsrc)
{
    return vsrc % s->shape.ranks;
}

/* Is this channel one rank's messages to itself? Those to another rank that the same GPU stands for
 * are not: in the larger group they would leave it. On the sending side slots_expert_is_own says
 * the same of the channel's expert. */
SLOTS_FN int slots_vsrc_is_own(const struct slots *s, int vsrc)
{
    return vsrc == s->shape.rank;
}

SLOTS_FN int slots_expert_is_own(const struct slots *s, int expert)
{
    return slots_expert_vrank(s, expert) == s->shape.rank;
}

/* (local expert, virtual source), the index of a dispatch flag and of a segment of rows. */
SLOTS_FN int slots_channel(const struct slots *s, int local, int vsrc)
{
    return local * s->shape.vranks + vsrc;
}

SLOTS_FN size_t slots_dispatch_message(const struct slots *s, int parity, int local, int vsrc,
                                       int slot)
{
    size_t pairs = (size_t)s->experts_local * (size_t)s->shape.vranks;
    size_t index = (size_t)parity * pairs + (size_t)slots_channel(s, local, vsrc);
    return s->dispatch_offset +
           (index * (size_t)s->shape.max_tokens + (size_t)slot) * s->message_bytes;
}

SLOTS_FN size_t slots_dispatch_flag(const struct slots *s, int parity, int local, int vsrc)
{
    size_t pairs = (size_t)s->experts_local * (size_t)s->shape.vranks;
    size_t index = (size_t)parity * pairs + (size_t)slots_channel(s, local, vsrc);
    return s->dispatch_flags_offset + index * sizeof(struct slots_flag);
}

SLOTS_FN size_t slots_combine_row(const struct slots *s, int parity, int token, int k)
{
    size_t index = (size_t)parity * (size_t)s->shape.max_tokens + (size_t)token;
    return s->combine_offset + (index * (size_t)s->shape.topk + (size_t)k) * s->row_bytes;
}

SLOTS_FN size_t slots_combine_flag(const struct slots *s, int parity, int expert)
{
    size_t index = (size_t)parity * (size_t)s->shape.experts + (size_t)expert;
    return s->combine_flags_offset + index * sizeof(struct slots_flag);
}

SLOTS_FN size_t slots_staging_body(const struct slots *s, int parity, int token)
{
    size_t index = (size_t)parity * (size_t)s->shape.max_tokens + (size_t)token;
    return s->staging_offset + index * s->body_bytes;
}

SLOTS_FN size_t slots_staging_header(const struct slots *s, int parity, int token, int k)
{
    size_t index = (size_t)parity * (size_t)s->shape.max_tokens + (size_t)token;
    index = index * (size_t)s->shape.topk + (size_t)k;
    return s->staging_headers_offset + index * sizeof(struct slots_header);
}

SLOTS_FN size_t slots_combine_staging(const struct slots *s, int parity, int local, int vsrc, int i)
{
    size_t pairs = (size_t)s->experts_local * (size_t)s->shape.vranks;
    size_t index = (size_t)parity * pairs + (size_t)slots_channel(s, local, vsrc);
    return s->combine_staging_offset +
           (index * (size_t)s->shape.max_tokens + (size_t)i) * s->row_bytes;
}

/* GIN signals, one per flag: those of a dispatch by channel, those of a combine by expert. Each
 * adds slots_flag_word(1, count), so that the halves hold sums: flags so far, messages so far. Then
 * one per rank, which counts its pings. */
SLOTS_FN int slots_signal_count(const struct slots *s)
{
    return 2 * SLOTS_PARITIES * s->shape.experts + s->shape.ranks;
}

SLOTS_FN int slots_dispatch_signal(const struct slots *s, int parity, int local, int vsrc)
{
    return parity * s->shape.experts + slots_channel(s, local, vsrc);
}

SLOTS_FN int slots_combine_signal(const struct slots *s, int parity, int expert)
{
    return (SLOTS_PARITIES + parity) * s->shape.experts + expert;
}

SLOTS_FN int slots_ping_signal(const struct slots *s, int from)
{
    return 2 * SLOTS_PARITIES * s->shape.experts + from;
}

/* Each GPU has one 16-byte flag per GPU for latency and clock tests. A GPU's own serves as the
 * source of its GIN puts. */
SLOTS_FN size_t slots_ping(const struct slots *s, int from)
{
    return s->scratch_offset + (size_t)from * sizeof(struct slots_flag);
}

SLOTS_FN size_t slots_push(const struct slots *s)
{
    return s->scratch_offset + SLOTS_ALIGN;
}

SLOTS_FN unsigned long long slots_flag_word(unsigned int sequence, unsigned int count)
{
    return (unsigned long long)sequence << 32 | count;
}

/* The grid of a communication kernel, by the rule of DeepEP's low-latency kernels: each warp group
 * of a CTA answers for one of the round's experts (a receive: for one channel, of which a round has
 * as many), so more SMs than experts buy nothing. */
struct kernels_grid {
    int warp_groups; /* per CTA */
    int ctas;
    int threads; /* per CTA */
};

/* experts_round = E / R. receive: the kernel has a receive phase, whose warp groups need a named
 * barrier each. Returns 0, ERR_RANGE or ERR_INFEASIBLE (too few SMs for so many experts). */
SLOTS_FN int kernels_comm_grid(int experts_round, int num_sms, int receive,
                               struct kernels_grid *grid)
{
    if (experts_round < 1 || num_sms < 1)
        return ERR_RANGE;
    int groups = (experts_round + num_sms - 1) / num_sms;
    if (groups > 32 || (receive && groups >= 15))
        return ERR_INFEASIBLE;
    grid->warp_groups = groups;
    grid->ctas = (experts_round + groups - 1) / groups;
    grid->threads = 32 * groups * (32 / groups);
    return 0;
}

/* Combine kernels also want a CTA per token where SMs allow. */
SLOTS_FN int kernels_combine_grid(int experts_round, int tokens, int num_sms, int receive,
                                  struct kernels_grid *grid)
{
    int err = kernels_comm_grid(experts_round, num_sms, receive, grid);
    if (err != 0 || tokens < 1)
        return err;
    int per_cta = (tokens + num_sms - 1) / num_sms;
    int ctas = (tokens + per_cta - 1) / per_cta;
    grid->ctas = ctas > grid->ctas ? ctas : grid->ctas;
    return 0;
}

#endif
