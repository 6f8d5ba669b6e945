/* plan/comm_kinds.h: every communication library that dispatch and combine may stand for, one row
 * with what is true of its kernels. A new one is a row here and its laws in model/law/cost_laws.h.
 *
 * Columns: name, text (the value of the key `comm`), dedup, back, bytes of a flag, message,
 * kernels, rows, SMs, buffers, reach, beside dedup    copies sent of a token: EXPERT (one per
 * expert chosen), RANK or NODE back     and copies that come back of it flag     bytes of one count
 * or flag per (expert, rank) message  ROW: one expert's, without top-k; COPY: a token's, with its
 * top-k indices and weights kernels  DEEPEP (dispatch, combine, and their halves), A2A (pack,
 * all-to-all, unpack as one) or FUSED (parts of a kernel that computes too: never alone) rows
 * PACKED: kernels write and read the layout that masked grouped GEMMs want; COPIES: a permute and
 * an un-permute stand around contiguous GEMMs; INSIDE: those are part of the op SMs      GRID: as
 * many as a schedule gives; HELD: as many as its library holds throughout (normal_num_sms; DeepEP
 * V2: its formula) buffers  BOUND: sized by max_dispatch_tokens, which bounds the batch; FREE reach
 * ANY, or NVLINK: ranks of one NVLink domain only beside   what a schedule of two half batches may
 * run beside it: HOOK (receives apart, nothing held meanwhile), STREAM (kernels on a stream and SMs
 * of their own) or NOTHING */
#ifndef PEOSIM_PLAN_COMM_KINDS_H
#define PEOSIM_PLAN_COMM_KINDS_H

#include <stdbool.h>

/* clang-format off */
#define PLAN_COMM_KINDS(X)                                                                         \
    X(LOW_LATENCY, "low_latency", EXPERT, EXPERT, 4, ROW, DEEPEP, PACKED, GRID, BOUND, ANY, HOOK)  \
    X(LAYERED_LL, "layered_ll", NODE, EXPERT, 4, ROW, DEEPEP, PACKED, GRID, BOUND, ANY, HOOK)      \
    X(NORMAL, "normal", NODE, NODE, 4, COPY, DEEPEP, COPIES, HELD, FREE, ANY, STREAM)              \
    X(NCCL, "nccl", EXPERT, EXPERT, 0, COPY, A2A, INSIDE, HELD, FREE, ANY, NOTHING)                \
    X(NCCL_RANK, "nccl_rank", RANK, RANK, 0, COPY, A2A, INSIDE, HELD, FREE, ANY, NOTHING)          \
    X(DEEPEP_V2, "deepep_v2", NODE, NODE, 4, COPY, DEEPEP, INSIDE, HELD, FREE, ANY, STREAM)        \
    X(DEEPEP_V2_DIRECT, "deepep_v2_direct", RANK, RANK, 4, COPY, DEEPEP, INSIDE, HELD, FREE, ANY, STREAM)\
    X(ONE_SIDED, "one_sided", RANK, RANK, 4, COPY, DEEPEP, COPIES, GRID, FREE, NVLINK, NOTHING)    \
    X(DEDUP, "dedup", RANK, RANK, 4, COPY, DEEPEP, PACKED, GRID, BOUND, NVLINK, NOTHING)           \
    X(MEGA, "mega", EXPERT, EXPERT, 0, ROW, FUSED, PACKED, GRID, FREE, NVLINK, NOTHING)
/* clang-format on */

/* Which communication library a comm op stands for. */
enum plan_comm {
#define PLAN_COMM_ENUM(name, ...) COMM_##name,
    PLAN_COMM_KINDS(PLAN_COMM_ENUM)
#undef PLAN_COMM_ENUM
        COMM_IMPL_COUNT
};

/* "low_latency|normal|nccl", for option tables. */
#define PLAN_COMM_TEXTS_ROW(name, text, ...) "|" text
#define PLAN_COMM_CHOICES                    PLAN_COMM_KINDS(PLAN_COMM_TEXTS_ROW)

/* Copies sent: one per chosen expert, per destination rank, or per destination node (+ forwarding).
 */
enum plan_flow_dedup { FLOW_PER_EXPERT, FLOW_PER_RANK, FLOW_PER_NODE };
enum plan_comm_message { COMM_MESSAGE_ROW, COMM_MESSAGE_COPY };
enum plan_comm_kernels { COMM_KERNELS_DEEPEP, COMM_KERNELS_A2A, COMM_KERNELS_FUSED };
enum plan_comm_rows { COMM_ROWS_PACKED, COMM_ROWS_COPIES, COMM_ROWS_INSIDE };
enum plan_comm_sms { COMM_SMS_GRID, COMM_SMS_HELD };
enum plan_comm_buffers { COMM_BUFFERS_FREE, COMM_BUFFERS_BOUND };
enum plan_comm_reach { COMM_REACH_ANY, COMM_REACH_NVLINK };
enum plan_comm_beside { COMM_BESIDE_NOTHING, COMM_BESIDE_HOOK, COMM_BESIDE_STREAM };

struct plan_comm_traits {
    const char *text;
    enum plan_flow_dedup dedup, back;
    int flag_bytes;
    enum plan_comm_message message;
    enum plan_comm_kernels kernels;
    enum plan_comm_rows rows;
    enum plan_comm_sms sms;
    enum plan_comm_buffers buffers;
    enum plan_comm_reach reach;
    enum plan_comm_beside beside;
};

/* Of a library below COMM_IMPL_COUNT. */
const struct plan_comm_traits *plan_comm_traits(enum plan_comm comm);

#endif
