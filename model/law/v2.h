/* model/law/v2.h: DeepEP V2 (ElasticBuffer, pull 605): how many SMs its kernels take, and what a
 * dispatch with its copy epilogue and a combine with its reduce epilogue take on them. */
#ifndef PEOSIM_MODEL_LAW_V2_H
#define PEOSIM_MODEL_LAW_V2_H

#include "model/law/law.h"

struct law_v2_sms {
    int device_sms;
    double nvlink_GBps, rdma_GBps; /* of a GPU, per direction; NVLink as detected: 0.9 nominal */
    int scaleout_ranks, scaleup_ranks; /* nodes, and GPUs of one */
    int experts, topk;
    bool direct;         /* straight to every rank, instead of over the same GPU of its node */
    bool prefer_overlap; /* may take fewer than 64 */
};
/* Ranks (or nodes) that a token's topk experts lie on, on average, were they chosen evenly among
 * `experts` spread over `ranks`. Not for group-limited gates. */
double law_v2_touched(int experts, int topk, int ranks);
/* SMs by DeepEP's formula: enough for a quarter more than the binding link delivers, reading 200
 * and writing 50 GB/s each. Even, at least 4, at most the device's. */
int law_v2_num_sms(const struct law_v2_sms *in);

struct law_v2 {
    bool combine;
    int sms;
    double copies;    /* over NVLink and to itself, one per (token, rank) */
    double rdma_rows; /* to other nodes over the NIC */
    double copy_bytes;
    double rows; /* that the epilogue writes: one per expert chosen; combine: tokens */
    int ranks, ranks_per_node;
};
void law_v2_work(const double *v, const struct law_v2 *in, struct cost_work *out);

#endif
