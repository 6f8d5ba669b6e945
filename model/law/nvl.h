/* model/law/nvl.h: exchanges inside one NVLink domain by kernels that store into, or read from, the
 * windows of their peers (TensorRT-LLM's and FlashInfer's): one copy per (token, rank).
 *
 *     t = (fixed^c + (tokens * w)^c)^(1/c),  w^2 = token_ns^2 + (peer bytes of a token / NVLink)^2
 *     fixed = fixed_us + [ranks > host] (host_us + double_us * log2(ranks/host))
 *
 * Flags and launches are waited for while rows already move, so fixed time and transfer add less
 * than fully; a domain that spans hosts pays more for its flags. docs/model/collectives.md. */
#ifndef PEOSIM_MODEL_LAW_NVL_H
#define PEOSIM_MODEL_LAW_NVL_H

#include "model/law/law.h"

enum law_nvl_op {
    LAW_NVL_1S_DISPATCH,
    LAW_NVL_1S_COMBINE,
    LAW_NVL_2S_PREPARE,
    LAW_NVL_2S_DISPATCH,
    LAW_NVL_2S_COMBINE,
    LAW_NVL_2S_COMBINE_LP,
    LAW_NVL_OP_COUNT
};
/* "1s_dispatch" ...; law_nvl_find: the op so named, or -1. */
const char *law_nvl_name(enum law_nvl_op op);
int law_nvl_find(const char *name);

struct law_nvl {
    enum law_nvl_op op;
    int sms, ranks;
    double tokens;    /* of this rank */
    double peer_rows; /* copies of its tokens that go to other ranks, one per (token, rank) */
    double row_bytes; /* of one copy */
};
void law_nvl_work(const double *v, const struct law_nvl *in, struct cost_work *out);
/* The op's first field: the six of NVL_1S_DISP_FIXED_US and on, in that order. */
int law_nvl_field(enum law_nvl_op op, int dispatch_field);

#endif
