/* calib/data.h: measurements as rows that a law can predict.
 *
 * One reader per source format, chosen by what the file holds (its header, or marks of a log). Bad
 * rows are named by file and line and skipped; with `strict` the file is refused. */
#ifndef PEOSIM_CALIB_DATA_H
#define PEOSIM_CALIB_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan/plan.h"

enum data_law {
    DATA_LL_DISPATCH,
    DATA_LL_COMBINE,
    DATA_NORMAL_DISPATCH,
    DATA_NORMAL_COMBINE,
    DATA_MASKED,
    DATA_CONTIGUOUS,
    DATA_DENSE_BF16,
    DATA_DENSE_FP8,
    DATA_DENSE_BLOCK,
    DATA_DENSE_NVFP4,
    DATA_FFN,
    DATA_FFN_FUSED,      /* an engine's fused expert layer: calib/fused.h */
    DATA_FFN_CONTIGUOUS, /* the same in the contiguous layout, scattered before, gathered after */
    DATA_COLLECTIVE,
    DATA_ACT,
    DATA_PUSH,
    DATA_HBM_COPY,
    DATA_GRAPH_GAP,
    DATA_CROSS_GAP, /* the same, from a kernel on another stream */
    DATA_EAGER_LAUNCH,
    DATA_FLAG,
    DATA_INTERFERENCE,
    DATA_STRETCH,        /* a part of an exchange beside a grouped GEMM */
    DATA_A2A_BESIDE,     /* library all-to-alls and a grouped GEMM beside each other */
    DATA_ROUTER,         /* top-k selection behind the gate GEMM, with the gap between them */
    DATA_A2A,            /* a library all-to-all with its pack and unpack */
    DATA_DEDUP_DISPATCH, /* our own exchange of one row per token and rank */
    DATA_DEDUP_COMBINE,
    DATA_ATTN_CORE,   /* rows query tokens attend to `tokens` keys; groups = heads; k, n = widths of
                         key and value; bytes = KV cache read */
    DATA_ATTN_SIDE,   /* norms, rotary embedding, cache write: rows, bytes moved */
    DATA_V2_DISPATCH, /* DeepEP V2, with its copy epilogue; coll = "", "expanded" or "cached" */
    DATA_V2_COMBINE,  /* with its reduce epilogue; coll = "" or "reduced" */
    DATA_ATTN_GQA,    /* attention and state-space modules of engines: calib/attn.h */
    DATA_ATTN_MLA,
    DATA_ATTN_SPARSE,
    DATA_ATTN_STATE,
    DATA_A2A_NVL,    /* exchange over one NVLink domain; coll: which part; bytes: of one copy */
    DATA_PEO,        /* a kernel of a PEO layer, maybe beside others; coll: its op */
    DATA_MEGA,       /* a fused expert layer; coll: how its tokens were routed */
    DATA_SPLIT,      /* an expert layer of kernels one after another; coll: whose exchange */
    DATA_LL_LAYERED, /* DeepEP pull 500's low-latency dispatch: one copy per node */
    DATA_SHOWN,      /* kernels that no law of ours has: read and counted, not predicted */
    DATA_LAW_COUNT
};
struct data_attn;
struct data_fused;
struct drawn;
const char *data_law_name(enum data_law law);

enum data_part { DATA_FUSED, DATA_SEND, DATA_RECV }; /* of a low-latency kernel */

struct data_row {
    enum data_law law;
    enum data_part part;
    int line;
    char system[16];           /* "h200"; "" = not stated, any profile may predict it */
    char group[56];            /* what the tables group by and cross-validation leaves out */
    char coll[16];             /* "all_reduce" ... */
    int ranks, nodes, num_sms; /* num_sms 0 = all of the GPU */
    int tokens, hidden, inter, experts, topk, rounds;
    int round;              /* which of them; the first one casts */
    int groups, rows, n, k; /* GEMM; grouped: rows expected per group */
    int expected_m;         /* grouped: rows per group as the caller says; 0 = rows */
    bool sustained;         /* under load for so long that clocks have fallen */
    bool deepgemm;          /* grouped: a sweep of DeepGEMM over SMs, not of our own kernels */
    double beside;          /* DATA_PEO: share of its time with a kernel of the other class */
    bool unpaired;          /* DATA_PEO: that is a GEMM without clusters */
    int beside_ctas;        /* DATA_PEO, GEMM: of the kernel it started beside; 0 = none */
    double since_us;    /* DATA_PEO, dispatch receive: it began so long after its rank's own send,
                           which    ran beside a GEMM; 0 = all sends were over */
    double send_beside; /* the same: share of that send's time beside the GEMM */
    int gemm_sms; /* DATA_PEO, combine receive: of the GEMMs whose slowest rank it waits for */
    int block_m;  /* grouped: rows of a tile, forced; 0 = the kernel's own choice */
    double skew;  /* grouped: expert_rows by a power law of this exponent; the kernel was
                     told each expert's rows */
    int hot_rows; /* low latency: most messages for one expert from one rank; 0 = even */
    enum plan_dtype dtype;
    double bytes;       /* messages (local copies included), or the collective's size */
    double latency_us;  /* measured */
    double notify_us;   /* of it: notify kernels (normal kernels over several nodes) */
    double epilogue_us; /* of it: V2's copy or reduce epilogue */
    double alone_us;    /* interference: the same kernel alone */
    double overlap_us;  /* interference: how long both ran */
    double wait_us;   /* receives: what they took to see that their data had come; 0 = not known */
    double sigma;     /* relative spread that the source itself admits, 0 = none known */
    bool quantised;   /* dense FP8: the time includes quantising the activations */
    bool reference;   /* used in fits; other sources of the same thing are only shown against it */
    bool kernel_only; /* normal kernels: the time is without notify kernels */
    int node_limit;   /* group-limited gates: nodes that a token may use; 0 = all */
    double nic_GBps;  /* a GPU's share of the NICs it was measured with; 0 = as the profile says */
    int mega_rules;   /* DATA_MEGA: enum law_mega_rules of its version */
    int num_draws;    /* draws of expert_rows: 1 where rows are known, several where drawn */
    int num_local;    /* experts of this rank */
    struct data_fused *fused; /* DATA_FFN_FUSED, owned by the set; NULL else */
    struct data_attn *attn;   /* DATA_ATTN_GQA to DATA_ATTN_STATE, owned by the set; NULL else */
    int32_t *expert_rows;     /* [num_draws * num_local], owned by the set; NULL where not needed */
};

struct data_reason; /* why rows were skipped; calib/read_bad.c */

/* What the rows were measured with, from comments ("# driver: 580.159.04") before the header; "" =
 * the file does not say. */
struct data_versions {
    char driver[48], cuda[48], nccl[48], commit[48];
};

enum { DATA_DRAWN_BUCKETS = 512 };
struct data_set {
    char *path;
    const char *format; /* "deepep_ll" ... */
    char sha256[65];
    struct data_row *rows;
    size_t n, cap;
    bool repeats; /* the format holds repeated measurements of one shape */
    bool runs;    /* a log: each line was measured, however alike another is */
    size_t bad;   /* rows skipped: the first few named one by one, the others by reason and lines */
    struct data_reason *reasons;
    size_t num_reasons;

    struct data_versions versions;
    void *arena;
    struct drawn *drawn[DATA_DRAWN_BUCKETS]; /* calib/read_fused.c, in the arena */
};

/* What logs do not say: the shape a DeepEP log was taken with, and the system. 0 or NULL = the
 * test's default. */
struct data_hint {
    const char *system;
    const char *profile;    /* the profile the rows are for, if known: a log that names another GPU
                               is refused unless `system` is given */
    const char *collective; /* nccl-tests output that lacks its header */
    int tokens, hidden, experts, topk, ranks, ranks_per_node;
};

/* ERR_NOTFOUND, ERR_IO, ERR_PARSE (no format fits; the columns missing for the nearest one are
 * named), ERR_DATA (strict and a bad row, or no row left), ERR_NOMEM; all logged. */
int data_read(const char *path, const struct data_hint *hint, bool strict, struct data_set **out);
int data_parse(const char *text, size_t len, const char *name, const struct data_hint *hint,
               bool strict, struct data_set **out);
void data_free(struct data_set *set);

/* Experts that a token may choose from. */
double data_usable_experts(const struct data_row *row);

/* For the readers: appends a copy, or NULL when memory is out; names a bad row. */
struct data_row *data_add(struct data_set *set, const struct data_row *row);
void data_bad(struct data_set *set, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
