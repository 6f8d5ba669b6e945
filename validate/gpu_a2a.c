#include "validate/gpu_a2a.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "kernels/rows.h"

static const int32_t *choices_of(const struct plan *plan, int rank)
{
    const struct plan_routing *r = plan->batches[0].routing;

    return r->expert + (size_t)rank * (size_t)r->tokens * (size_t)r->topk;
}

/* Rows that rank src sends to one expert before its token t... are counted as they are met; this
 * is where the rows of src begin in an expert's packed rows. */
static int rows_before(const struct plan *plan, int src, int dst, int local)
{
    int rows = 0;

    for (int r = 0; r < src; r++)
        rows += plan_pair_rows(plan, 0, r, dst, local, 1);
    return rows;
}

/* What this rank sends in a round, by destination, expert, token; position[] learns where each
 * choice stands. */
static int send_list(struct gpu_a2a *a, struct gpu_session *s, const struct plan *plan, int round,
                     int each, int *token, int *position)
{
    const struct plan_routing *routing = plan->batches[0].routing;
    const int32_t *choice = choices_of(plan, s->rank);
    struct a2a_round *x = &a->round[round];
    int n = 0;

    for (int dst = 0; dst < s->ranks; dst++) {
        int start = n;

        for (int local = round * each; local < (round + 1) * each; local++)
            for (int i = 0; i < routing->tokens * routing->topk; i++) {
                if (choice[i] != dst * plan->experts_per_rank + local)
                    continue;
                position[i] = x->first_row + n;
                token[n++] = i / routing->topk;
            }
        x->send_count[dst] = (size_t)(n - start);
    }
    return n;
}

static int recv_list(struct gpu_a2a *a, struct gpu_session *s, const struct plan *plan, int round,
                     int each, int *packed)
{
    struct a2a_round *x = &a->round[round];
    int n = 0, most = s->layer->slots.rows_max;

    for (int src = 0; src < s->ranks; src++) {
        int start = n;

        for (int local = round * each; local < (round + 1) * each; local++) {
            int rows = plan_pair_rows(plan, 0, src, s->rank, local, 1);
            int before = rows_before(plan, src, s->rank, local);

            for (int i = 0; i < rows; i++)
                packed[n++] = local * most + before + i;
        }
        x->recv_count[src] = (size_t)(n - start);
    }
    return n;
}

static int list_upload(int **to, const int *from, int n)
{
    int err = gpu_alloc((void **)to, (size_t)(n + 1) * sizeof *from);

    return err ? err : gpu_upload(*to, from, (size_t)n * sizeof *from);
}

static int rounds_fill(struct gpu_a2a *a, struct gpu_session *s, const struct plan *plan)
{
    const struct plan_routing *routing = plan->batches[0].routing;
    int choices = routing->tokens * routing->topk, each = plan->experts_per_rank / a->rounds;
    size_t most = (size_t)plan->experts_per_rank * (size_t)s->layer->slots.rows_max;
    int *token = malloc((size_t)choices * sizeof *token);
    int *position = malloc((size_t)choices * sizeof *position);
    int *packed = malloc(most * sizeof *packed), first = 0;
    int err = token && position && packed ? 0 : ERR_NOMEM;

    for (int i = 0; !err && i < choices; i++)
        position[i] = -1;
    for (int r = 0; !err && r < a->rounds; r++) {
        struct a2a_round *x = &a->round[r];

        x->first_row = first;
        x->send_rows = send_list(a, s, plan, r, each, token, position);
        x->recv_rows = recv_list(a, s, plan, r, each, packed);
        first += x->send_rows;
        err = list_upload(&x->token, token, x->send_rows);
        if (!err)
            err = list_upload(&x->packed, packed, x->recv_rows);
    }
    if (!err)
        err = list_upload(&a->position, position, choices);
    free(token);
    free(position);
    free(packed);
    return err;
}

static int buffers_open(struct gpu_a2a *a, struct gpu_session *s, const struct plan *plan)
{
    const struct plan_routing *routing = plan->batches[0].routing;
    size_t row = 2 * (size_t)s->layer->shape.hidden; /* no message is longer */
    size_t most = 0;
    int *rows = malloc((size_t)plan->experts_per_rank * sizeof *rows), err = rows ? 0 : ERR_NOMEM;

    for (int r = 0; r < a->rounds; r++) {
        most = most > (size_t)a->round[r].send_rows ? most : (size_t)a->round[r].send_rows;
        most = most > (size_t)a->round[r].recv_rows ? most : (size_t)a->round[r].recv_rows;
    }
    for (int e = 0; !err && e < plan->experts_per_rank; e++)
        rows[e] = plan_expert_rows(plan, 0, s->rank, e);
    if (!err)
        err =
            gpu_upload(s->layer->half[0].rows, rows, (size_t)plan->experts_per_rank * sizeof *rows);
    if (!err)
        err = gpu_alloc(&a->send, most * row);
    if (!err)
        err = gpu_alloc(&a->recv, most * row);
    if (!err)
        err = gpu_alloc(&a->back, (size_t)routing->tokens * (size_t)routing->topk * row);
    free(rows);
    return err;
}

int gpu_a2a_open(struct gpu_a2a **out, struct gpu_session *s, const struct plan *plan)
{
    struct gpu_a2a *a = calloc(1, sizeof *a);
    int err = a ? 0 : ERR_NOMEM;

    *out = a;
    if (!err && plan->ranks != s->ranks) {
        if (s->rank == 0)
            log_warn("%s: library all-to-alls cannot emulate a larger group", plan->policy);
        return ERR_UNSUPPORTED;
    }
    for (int i = 0; !err && i < plan->num_ops; i++) {
        const struct plan_op *o = &plan->ops[i];

        if (o->kind != OP_A2A_DISPATCH && o->kind != OP_A2A_COMBINE)
            continue;
        a->rounds = o->num_rounds;
        err = kernels_comm_alltoall_open(s->layer->comm, o->sms);
    }
    if (!err) {
        a->tokens = plan->batches[0].routing->tokens;
        a->round = calloc((size_t)a->rounds, sizeof *a->round);
        err = a->round ? rounds_fill(a, s, plan) : ERR_NOMEM;
    }
    return err ? err : buffers_open(a, s, plan);
}

void gpu_a2a_close(struct gpu_a2a *a)
{
    if (!a)
        return;
    for (int r = 0; a->round && r < a->rounds; r++) {
        cudaFree(a->round[r].token);
        cudaFree(a->round[r].packed);
    }
    free(a->round);
    cudaFree(a->send);
    cudaFree(a->recv);
    cudaFree(a->back);
    cudaFree(a->position);
    free(a);
}

/* Row counts to byte counts and offsets. */
static void bytes_of(const size_t *rows, int ranks, size_t row_bytes, size_t first, size_t *bytes,
                     size_t *offsets)
{
    size_t at = first * row_bytes;

    for (int r = 0; r < ranks; r++) {
        bytes[r] = rows[r] * row_bytes;
        offsets[r] = at;
        at += bytes[r];
    }
}

static int exchange(struct gpu_session *s, int ctas, const void *send, const size_t *send_rows,
                    void *recv, const size_t *recv_rows, size_t recv_first, size_t row_bytes,
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

    bytes_of(send_rows, s->ranks, row_bytes, 0, bytes[0], offsets[0]);
    bytes_of(recv_rows, s->ranks, row_bytes, recv_first, bytes[1], offsets[1]);
    return kernels_alltoall_launch(&a, stream);
}

int gpu_a2a_dispatch(struct gpu_a2a *a, struct gpu_session *s, const struct plan_op *op,
                     cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct gpu_layer *l = s->layer;
    struct gpu_half *h = &l->half[0];
    const struct a2a_round *x = &a->round[op->round];
    struct rows_args pack = {.ctas = op->sms,
                             .hidden = l->shape.hidden,
                             .fp8 = l->shape.fp8,
                             .rows = x->send_rows,
                             .index = x->token,
                             .from = l->x,
                             .to = a->send,
                             .stamp = stamp};
    struct rows_args unpack = pack;
    int err = kernels_rows_pack_launch(&pack, stream);

    if (!err)
        err = exchange(s, op->sms, a->send, x->send_count, a->recv, x->recv_count, 0,
                       KERNELS_ROWS_MESSAGE(l->shape.hidden, l->shape.fp8), stream);
    unpack.rows = x->recv_rows;
    unpack.index = x->packed;
    unpack.from = a->recv;
    unpack.to = h->packed_x;
    unpack.scales = h->packed_scales;
    return err ? err : kernels_rows_unpack_launch(&unpack, stream);
}

int gpu_a2a_combine(struct gpu_a2a *a, struct gpu_session *s, const struct plan_op *op,
                    cudaStream_t stream, struct kernel_stamp *stamp)
{
    struct gpu_layer *l = s->layer;
    const struct a2a_round *x = &a->round[op->round];
    struct rows_args gather = {.ctas = op->sms,
                               .hidden = l->shape.hidden,
                               .rows = x->recv_rows,
                               .index = x->packed,
                               .from = l->half[0].y_packed,
                               .to = a->send,
                               .stamp = stamp};
    struct rows_args sum = {.ctas = op->sms,
                            .hidden = l->shape.hidden,
                            .rows = a->tokens,
                            .index = a->position,
                            .from = a->back,
                            .to = gpu_output_of(l, op->layer),
                            .weights = l->topk_weights,
                            .topk = l->shape.topk,
                            .stamp = stamp};
    int err = kernels_rows_gather_launch(&gather, stream);

    if (!err)
        err = exchange(s, op->sms, a->send, x->recv_count, a->back, x->send_count,
                       (size_t)x->first_row, 2 * (size_t)l->shape.hidden, stream);
    if (op->round < a->rounds - 1) { /* nothing to sum yet: only the stamp learns when it ended */
        sum.ctas = 1;
        sum.rows = 0;
    }
    if (!err && (sum.rows > 0 || stamp))
        err = kernels_rows_sum_launch(&sum, stream);
    return err;
}
