#include "validate/gpu_a2a.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "kernels/rows.h"

bool gpu_a2a_is(const struct plan_op *op)
{
    switch (op->kind) {
    case OP_A2A_DISPATCH:
    case OP_A2A_COMBINE:
    case OP_PERMUTE:
    case OP_UNPERMUTE:
        return true;
    case OP_DISPATCH:
    case OP_COMBINE:
        return op->comm == COMM_NORMAL;
    default:
        return false;
    }
}

/* The choices of a rank's tokens in a slice of the batch. */
static const int32_t *choices_of(const struct plan *plan, int batch, int rank)
{
    const struct plan_batch *b = &plan->batches[batch];
    const struct plan_routing *r = b->routing;

    return r->expert +
           ((size_t)rank * (size_t)r->tokens + (size_t)b->first_token) * (size_t)r->topk;
}

/* Messages from GPU src to one local expert of GPU dst, in one round of messages per expert. */
static int pair_rows(const struct plan *plan, int ranks, int batch, int src, int dst, int local)
{
    int rows = 0;

    for (int v = dst; v < plan->ranks; v += ranks)
        rows += plan_pair_rows(plan, batch, src, v, local, 1);
    return rows;
}

int gpu_a2a_rows(const struct plan *plan, const struct gpu_session *s, int batch, int local)
{
    int rows = 0;

    for (int src = 0; src < s->ranks; src++)
        rows += pair_rows(plan, s->ranks, batch, src, s->rank, local);
    return rows;
}

static int list_upload(void *to, const void *from, size_t bytes)
{
    int err = gpu_alloc((void **)to, bytes + 16);

    return err || !bytes ? err : gpu_upload(*(void **)to, from, bytes);
}

/* --- one message per token and chosen expert --------------------------------------------------
 */

struct lists {
    struct gpu_session *s;
    const struct plan *plan;
    int batch, each; /* experts of a round */
    const int *scale_rows;
    int *token, *position, *packed;
    int2 *scale_at;
};

/* What this rank sends in a round, by destination, expert, token; position[] learns where each
 * choice stands. */
static int send_list(const struct lists *l, struct a2a_round *x, int round)
{
    const struct plan_batch *b = &l->plan->batches[l->batch];
    const int32_t *choice = choices_of(l->plan, l->batch, l->s->rank);
    int n = 0, El = l->plan->experts_per_rank;

    for (int dst = 0; dst < l->s->ranks; dst++) {
        int start = n;

        for (int local = round * l->each; local < (round + 1) * l->each; local++)
            for (int i = 0; i < b->num_tokens * b->routing->topk; i++) {
                if (choice[i] < 0 || choice[i] % El != local || choice[i] / El % l->s->ranks != dst)
                    continue;
                l->position[i] = x->first_row + n;
                l->token[n++] = i / b->routing->topk;
            }
        x->send_count[dst] = (size_t)(n - start);
    }
    return n;
}

/* Rows of one source follow those of the sources before it. */
static int recv_list(const struct lists *l, struct a2a_round *x, int round)
{
    struct gpu_session *s = l->s;
    int n = 0, most = s->layer->slots.rows_max, groups = s->layer->shape.hidden / 128;
    int before[SLOTS_MAX_EXPERTS] = {0};

    for (int src = 0; src < s->ranks; src++) {
        int start = n;

        for (int local = round * l->each; local < (round + 1) * l->each; local++) {
            int rows = pair_rows(l->plan, s->ranks, l->batch, src, s->rank, local);
            int stride =
                l->scale_rows ? l->scale_rows[l->batch * l->plan->experts_per_rank + local] : 0;

            for (int i = 0; i < rows; i++, n++) {
                int at = before[local]++;

                l->packed[n] = local * most + at;
                l->scale_at[n] = stride > 0 ? (int2){local * most * groups + at, stride}
                                            : (int2){l->packed[n] * groups, 1};
            }
        }
        x->recv_count[src] = (size_t)(n - start);
    }
    return n;
}

static int round_fill(const struct lists *l, struct a2a_part *p, int round)
{
    struct a2a_round *x = &p->round[round];
    int err;

    x->first_row = round > 0 ? x[-1].first_row + x[-1].send_rows : 0;
    x->send_rows = send_list(l, x, round);
    x->recv_rows = recv_list(l, x, round);
    err = list_upload(&x->token, l->token, (size_t)x->send_rows * sizeof *l->token);
    if (!err)
        err = list_upload(&x->packed, l->packed, (size_t)x->recv_rows * sizeof *l->packed);
    return err ? err : list_upload(&x->scale_at, l->scale_at, (size_t)x->recv_rows * sizeof(int2));
}

static int rounds_fill(struct a2a_part *p, struct lists *l)
{
    const struct plan_batch *b = &l->plan->batches[l->batch];
    size_t choices = (size_t)b->num_tokens * (size_t)b->routing->topk, most = 0;
    int err = 0;

    for (int local = 0; local < l->plan->experts_per_rank; local++)
        most += (size_t)gpu_a2a_rows(l->plan, l->s, l->batch, local);
    p->width = b->routing->topk;
    l->each = l->plan->experts_per_rank / p->rounds;
    l->token = malloc((choices + 1) * sizeof *l->token);
    l->position = malloc((choices + 1) * sizeof *l->position);
    l->packed = malloc((most + 1) * sizeof *l->packed);
    l->scale_at = malloc((most + 1) * sizeof *l->scale_at);
    if (!l->token || !l->position || !l->packed || !l->scale_at)
        err = ERR_NOMEM;
    for (size_t i = 0; !err && i < choices; i++)
        l->position[i] = -1;
    for (int r = 0; !err && r < p->rounds; r++)
        err = round_fill(l, p, r);
    if (!err)
        err = list_upload(&p->position, l->position, choices * sizeof *l->position);
    free(l->token);
    free(l->position);
    free(l->packed);
    free(l->scale_at);
    return err;
}

/* --- one copy per token and rank --------------------------------------------------------------
 */

struct copy {
    int token, rank; /* rank: of the plan, which its GPU stands for */
};

/* The copies from GPU src to GPU dst, in the order they are sent; returns how many. */
static int copies_of(const struct lists *l, int src, int dst, struct copy *out)
{
    const struct plan_batch *b = &l->plan->batches[l->batch];
    const int32_t *choice = choices_of(l->plan, l->batch, src);
    int n = 0, topk = b->routing->topk;

    for (int t = 0; t < b->num_tokens; t++)
        for (int v = dst; v < l->plan->ranks; v += l->s->ranks) {
            bool wanted = false;

            for (int k = 0; k < topk; k++) {
                int e = choice[(size_t)t * (size_t)topk + (size_t)k];

                wanted |= e >= 0 && e / l->plan->experts_per_rank == v;
            }
            if (wanted)
                out[n++] = (struct copy){t, v};
        }
    return n;
}

static int copies_send(struct a2a_part *p, const struct lists *l, struct copy *copy)
{
    struct a2a_round *x = p->round;
    size_t positions = (size_t)p->tokens * (size_t)p->width;
    int *token = malloc((positions + 1) * sizeof *token), *position, err = 0, n = 0;

    position = malloc((positions + 1) * sizeof *position);
    if (!token || !position)
        err = ERR_NOMEM;
    for (size_t i = 0; !err && i < positions; i++)
        position[i] = -1;
    for (int dst = 0; !err && dst < l->s->ranks; dst++) {
        int num = copies_of(l, l->s->rank, dst, copy);

        x->send_count[dst] = (size_t)num;
        for (int i = 0; i < num; i++) {
            int *at = position + (size_t)copy[i].token * (size_t)p->width;

            while (*at >= 0)
                at++;
            *at = n;
            token[n++] = copy[i].token;
        }
    }
    x->send_rows = n;
    if (!err)
        err = list_upload(&x->token, token, (size_t)n * sizeof *token);
    if (!err)
        err = list_upload(&p->position, position, positions * sizeof *position);
    free(token);
    free(position);
    return err;
}

/* What copies received become. */
struct spread {
    int before[SLOTS_MAX_EXPERTS]; /* rows of each local expert so far */
    int *row_copy, *row_packed, *copy_rows;
};

static int spread_open(struct spread *x, size_t rows, size_t choices)
{
    memset(x, 0, sizeof *x);
    x->row_copy = malloc((rows + 1) * sizeof *x->row_copy);
    x->row_packed = malloc((rows + 1) * sizeof *x->row_packed);
    x->copy_rows = malloc((choices + 1) * sizeof *x->copy_rows);
    return x->row_copy && x->row_packed && x->copy_rows ? 0 : ERR_NOMEM;
}

static void spread_close(struct spread *x)
{
    free(x->row_copy);
    free(x->row_packed);
    free(x->copy_rows);
}

/* Copy number `index`, from GPU src: a row for each of its choices that its rank has. */
static void spread_add(struct spread *x, struct a2a_part *p, const struct lists *l, int src,
                       struct copy copy, int index)
{
    size_t topk = (size_t)l->plan->batches[l->batch].routing->topk;
    int El = l->plan->experts_per_rank, *copy_rows = x->copy_rows + (size_t)index * topk;
    const int32_t *choice = choices_of(l->plan, l->batch, src) + (size_t)copy.token * topk;

    for (size_t k = 0; k < topk; k++) {
        int local = choice[k] % El;

        copy_rows[k] = -1;
        if (choice[k] < 0 || choice[k] / El != copy.rank)
            continue;
        copy_rows[k] = local * l->s->layer->slots.rows_max + x->before[local]++;
        x->row_copy[p->rows] = index;
        x->row_packed[p->rows++] = copy_rows[k];
    }
}

static int spread_upload(const struct spread *x, struct a2a_part *p, size_t choices)
{
    size_t rows = (size_t)p->rows * sizeof(int);
    int err = list_upload(&p->row_copy, x->row_copy, rows);

    if (!err)
        err = list_upload(&p->row_packed, x->row_packed, rows);
    return err ? err : list_upload(&p->copy_rows, x->copy_rows, choices * sizeof(int));
}

static int copies_recv(struct a2a_part *p, const struct lists *l, struct copy *copy)
{
    struct a2a_round *x = p->round;
    size_t topk = (size_t)l->plan->batches[l->batch].routing->topk, rows = 0;
    size_t most = (size_t)p->tokens * (size_t)l->plan->ranks; /* copies */
    struct spread spread;
    int err, n = 0;

    for (int local = 0; local < l->plan->experts_per_rank; local++)
        rows += (size_t)gpu_a2a_rows(l->plan, l->s, l->batch, local);
    err = spread_open(&spread, rows, most * topk);
    for (int src = 0; !err && src < l->s->ranks; src++) {
        int num = copies_of(l, src, l->s->rank, copy);

        x->recv_count[src] = (size_t)num;
        for (int i = 0; i < num; i++, n++)
            spread_add(&spread, p, l, src, copy[i], n);
    }
    x->recv_rows = n;
    if (!err)
        err = spread_upload(&spread, p, (size_t)n * topk);
    spread_close(&spread);
    return err;
}

static int copies_fill(struct a2a_part *p, const struct lists *l)
{
    int topk = l->plan->batches[l->batch].routing->topk;
    size_t most = (size_t)p->tokens * (size_t)l->plan->ranks;
    struct copy *copy = malloc((most + 1) * sizeof *copy);
    int err = copy ? 0 : ERR_NOMEM;

    p->width = topk < l->plan->ranks ? topk : l->plan->ranks;
    if (!err)
        err = copies_send(p, l, copy);
    if (!err)
        err = copies_recv(p, l, copy);
    free(copy);
    return err;
}

/* --- opening ------------------------------------------------------------------------------------
 */

static size_t most_messages(const struct a2a_part *p)
{
    int most = 0;

    for (int r = 0; r < p->rounds; r++) {
        most = most > p->round[r].send_rows ? most : p->round[r].send_rows;
        most = most > p->round[r].recv_rows ? most : p->round[r].recv_rows;
    }
    return (size_t)most + 1;
}

static size_t row_bytes(const struct gpu_session *s)
{
    const struct gpu_shape *shape = &s->layer->shape; /* no message is longer */

    return KERNELS_ROWS_COPY(shape->hidden, 0, shape->topk);
}

static size_t back_bytes(const struct gpu_session *s, const struct a2a_part *p)
{
    return ((size_t)p->tokens * (size_t)p->width + 1) * 2 * (size_t)s->layer->shape.hidden;
}

static int part_open(struct gpu_a2a *a, struct gpu_session *s, const struct plan *plan,
                     const struct plan_op *op, const int *scale_rows)
{
    struct a2a_part *p = &a->part[op->batch];
    struct lists l = {.s = s, .plan = plan, .batch = op->batch, .scale_rows = scale_rows};
    int err;

    if (p->round)
        return 0;
    p->copies = op->comm == COMM_NORMAL;
    p->tokens = plan->batches[op->batch].num_tokens;
    p->first_token = plan->batches[op->batch].first_token;
    p->rounds = op->num_rounds;
    p->round = calloc((size_t)p->rounds, sizeof *p->round);
    if (!p->round)
        return ERR_NOMEM;
    err = p->copies ? copies_fill(p, &l) : rounds_fill(p, &l);
    if (!err)
        err = gpu_alloc(&p->send, most_messages(p) * row_bytes(s));
    if (!err)
        err = gpu_alloc(&p->recv, most_messages(p) * row_bytes(s));
    return err ? err : gpu_alloc(&p->back, back_bytes(s, p));
}

/* The kernels of the experts read how many rows each has. */
static int rows_set(struct gpu_session *s, const struct plan *plan, const struct plan_op *op)
{
    int rows[SLOTS_MAX_EXPERTS], El = plan->experts_per_rank;

    for (int e = 0; e < El; e++)
        rows[e] = gpu_a2a_rows(plan, s, op->batch, e);
    return gpu_upload(s->layer->half[op->buffer].rows, rows, (size_t)El * sizeof *rows);
}

int gpu_a2a_open(struct gpu_a2a **out, struct gpu_session *s, const struct plan *plan,
                 const int *scale_rows)
{
    struct gpu_a2a *a = calloc(1, sizeof *a);
    int err = a ? 0 : ERR_NOMEM, batch_of[2] = {-1, -1};

    *out = a;
    for (int i = 0; !err && i < plan->num_ops; i++) {
        const struct plan_op *o = &plan->ops[i];

        if (!gpu_a2a_is(o) || !plan_op_sends(o->kind))
            continue;
        if (batch_of[o->buffer] >= 0 && batch_of[o->buffer] != o->batch) {
            log_error("%s: two half batches in one buffer set", plan->policy);
            return ERR_UNSUPPORTED;
        }
        batch_of[o->buffer] = o->batch;
        err = kernels_comm_alltoall_open(s->layer->comm, o->sms);
        if (!err)
            err = part_open(a, s, plan, o, scale_rows);
        if (!err)
            err = rows_set(s, plan, o);
    }
    return err;
}

void gpu_a2a_close(struct gpu_a2a *a)
{
    for (int i = 0; a && i < 2; i++) {
        struct a2a_part *p = &a->part[i];
        void *all[] = {p->send,     p->recv,       p->back,     p->position,
                       p->row_copy, p->row_packed, p->copy_rows};

        for (int r = 0; p->round && r < p->rounds; r++) {
            cudaFree(p->round[r].token);
            cudaFree(p->round[r].packed);
            cudaFree(p->round[r].scale_at);
        }
        free(p->round);
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            cudaFree(all[k]);
    }
    free(a);
}

int gpu_a2a_poison(struct gpu_a2a *a, const struct gpu_session *s, cudaStream_t stream)
{
    int err = 0;

    for (int i = 0; i < 2; i++) {
        struct a2a_part *p = &a->part[i];
        size_t bytes = p->round ? most_messages(p) * row_bytes(s) : 0;

        if (!p->round)
            continue;
        err = err ? err : GPU(cudaMemsetAsync(p->send, 0xff, bytes, stream));
        err = err ? err : GPU(cudaMemsetAsync(p->recv, 0xff, bytes, stream));
        err = err ? err : GPU(cudaMemsetAsync(p->back, 0xff, back_bytes(s, p), stream));
    }
    return err;
}

/* --- launching ----------------------------------------------------------------------------------
 */

/* Message counts to byte counts and offsets. */
static void bytes_of(const size_t *rows, int ranks, size_t message, size_t first, size_t *bytes,
                     size_t *offsets)
{
    size_t at = first * message;

    for (int r = 0; r < ranks; r++) {
        bytes[r] = rows[r] * message;
        offsets[r] = at;
        at += bytes[r];
    }
}

static int exchange(struct gpu_session *s, int ctas, const void *send, const size_t *send_rows,
                    void *recv, const size_t *recv_rows, size_t recv_first, size_t message,
                    cudaStream_t stream)
{
    size_t bytes[2][GPU_MAX_RANKS], offsets[2][GPU_MAX_RANKS];
    struct alltoall_args a = {.comm = s->layer->comm,
                              .ctas = ctas,
                              .send = send,
                              .recv = recv,
                              .send_bytes = bytes[0],
                              .send_offsets = offsets[0],
                              .recv_bytes = bytes[1],
                              .recv_offsets = offsets[1]};

    bytes_of(send_rows, s->ranks, message, 0, bytes[0], offsets[0]);
    bytes_of(recv_rows, s->ranks, message, recv_first, bytes[1], offsets[1]);
    return kernels_alltoall_launch(&a, stream);
}

/* An all-to-all leaves no stamp: where it begins or ends an op, this says when. */
static int mark(const struct gpu_session *s, cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct rows_args a = {.ctas = 1, .hidden = s->layer->shape.hidden, .stamp = stamp};

    return stamp ? kernels_rows_sum_launch(&a, stream) : 0;
}

static int choices_carried(const struct gpu_session *s, const struct a2a_part *p)
{
    return p->copies ? s->layer->shape.topk : 0;
}

/* Pack and all-to-all, both modes. */
static int dispatch(struct a2a_part *p, struct gpu_session *s, const struct plan_op *op,
                    cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct gpu_layer *l = s->layer;
    const struct a2a_round *x = &p->round[op->round];
    size_t first = (size_t)p->first_token, topk = (size_t)l->shape.topk;
    struct rows_args pack = {.ctas = op->sms,
                             .hidden = l->shape.hidden,
                             .fp8 = l->shape.fp8,
                             .rows = x->send_rows,
                             .index = x->token,
                             .from = (const char *)l->x + first * (size_t)l->shape.hidden * 2,
                             .to = p->send,
                             .choices = choices_carried(s, p),
                             .topk_idx = l->topk_idx + first * topk,
                             .topk_weights = l->topk_weights + first * topk,
                             .stamp = stamp};
    int err = kernels_rows_pack_launch(&pack, stream);

    if (!err)
        err = exchange(s, op->sms, p->send, x->send_count, p->recv, x->recv_count, 0,
                       KERNELS_ROWS_COPY(l->shape.hidden, l->shape.fp8, pack.choices), stream);
    return err || !p->copies ? err : mark(s, stream, stamp);
}

/* Messages received to the rows of each expert. */
static int unpack(struct a2a_part *p, struct gpu_session *s, const struct plan_op *op,
                  cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct gpu_layer *l = s->layer;
    struct gpu_half *h = &l->half[op->buffer];
    const struct a2a_round *x = &p->round[op->round];
    struct rows_args a = {.ctas = op->sms,
                          .hidden = l->shape.hidden,
                          .fp8 = l->shape.fp8,
                          .rows = p->copies ? p->rows : x->recv_rows,
                          .index = p->copies ? p->row_packed : x->packed,
                          .source = p->row_copy,
                          .from = p->recv,
                          .to = h->packed_x,
                          .scales = h->packed_scales,
                          .scale_at = x->scale_at,
                          .choices = choices_carried(s, p),
                          .stamp = stamp};

    return kernels_rows_unpack_launch(&a, stream);
}

/* The rows of each copy back to one, weighed by what the copy carried. */
static int unpermute(struct a2a_part *p, struct gpu_session *s, const struct plan_op *op,
                     cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct gpu_layer *l = s->layer;
    int hidden = l->shape.hidden, topk = l->shape.topk, fp8 = l->shape.fp8;
    size_t weights = KERNELS_ROWS_WEIGHTS(hidden, fp8, topk);
    struct rows_args a = {.ctas = op->sms,
                          .hidden = hidden,
                          .rows = p->round[0].recv_rows,
                          .index = p->copy_rows,
                          .from = l->half[op->buffer].y_packed,
                          .to = p->send,
                          .weights = (const float *)((const char *)p->recv + weights),
                          .weights_stride = (int)(KERNELS_ROWS_COPY(hidden, fp8, topk) / 4),
                          .topk = topk,
                          .stamp = stamp};

    return kernels_rows_sum_launch(&a, stream);
}

static int gather(struct a2a_part *p, struct gpu_session *s, const struct plan_op *op,
                  cudaStream_t stream, struct kernel_stamp *stamp)
{
    const struct a2a_round *x = &p->round[op->round];
    struct rows_args a = {.ctas = op->sms,
                          .hidden = s->layer->shape.hidden,
                          .rows = x->recv_rows,
                          .index = x->packed,
                          .from = s->layer->half[op->buffer].y_packed,
                          .to = p->send,
                          .stamp = stamp};

    return kernels_rows_gather_launch(&a, stream);
}

/* All-to-all back and, once all rounds are there, the sum. */
static int combine(struct a2a_part *p, struct gpu_session *s, const struct plan_op *op,
                   cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct gpu_layer *l = s->layer;
    const struct a2a_round *x = &p->round[op->round];
    size_t first = (size_t)p->first_token;
    struct rows_args sum = {.ctas = op->sms,
                            .hidden = l->shape.hidden,
                            .rows = p->tokens,
                            .index = p->position,
                            .from = p->back,
                            .to = (char *)l->y + first * (size_t)l->shape.hidden * 2,
                            .weights =
                                p->copies ? NULL : l->topk_weights + first * (size_t)l->shape.topk,
                            .topk = p->width,
                            .stamp = stamp};
    int err = exchange(s, op->sms, p->send, x->recv_count, p->back, x->send_count,
                       (size_t)x->first_row, 2 * (size_t)l->shape.hidden, stream);

    if (err)
        return err;
    return op->round < p->rounds - 1 ? mark(s, stream, stamp)
                                     : kernels_rows_sum_launch(&sum, stream);
}

int gpu_a2a_launch(struct gpu_a2a *a, struct gpu_session *s, const struct plan_op *op,
                   cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct a2a_part *p = &a->part[op->batch];
    int err;

    switch (op->kind) {
    case OP_DISPATCH:
        return dispatch(p, s, op, stream, stamp);
    case OP_A2A_DISPATCH:
        err = dispatch(p, s, op, stream, stamp);
        return err ? err : unpack(p, s, op, stream, stamp);
    case OP_PERMUTE:
        return unpack(p, s, op, stream, stamp);
    case OP_UNPERMUTE:
        return unpermute(p, s, op, stream, stamp);
    case OP_A2A_COMBINE:
        err = gather(p, s, op, stream, stamp);
        break;
    default:
        err = mark(s, stream, stamp);
    }
    return err ? err : combine(p, s, op, stream, stamp);
}
