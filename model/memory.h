/* model/memory.h: what one GPU must hold: weights, KV cache, communication buffers, activations.
 * All in bytes; GB = 1e9 bytes. Expert weights are counted with the redundant copies that the
 * model's expert count holds (model/placement.h). */
#ifndef PEOSIM_MODEL_MEMORY_H
#define PEOSIM_MODEL_MEMORY_H

#include <stdio.h>

#include "model/policy/policy.h"

struct memory_spec {
    const struct moe_model *model; /* experts: logical and redundant ones */
    bool decode;
    int ranks, ranks_per_node;
    int attention_tp;   /* attention weights and GQA heads are split over so many ranks */
    int requests;       /* whose KV cache lies on this GPU */
    double context_len; /* tokens of each at its longest */
    int tokens;         /* in one step or chunk, on this GPU */
    int max_dispatch_tokens;
    enum plan_comm comm;
    int normal_num_sms;
    enum plan_dtype weight_dtype; /* of GEMM weights; embedding, gate and head are BF16 */
    bool typed;                   /* each part in the type that the model's file says instead */
    double kv_bytes_per_element;
    int mtp_layers;        /* prediction layers in use */
    double reserve_bytes;  /* runtime, graphs, libraries, fragmentation */
    double capacity_bytes; /* of the GPU */
};

struct memory_sum {
    double attention, dense, experts, shared, embedding; /* weights */
    double kv;                                           /* KV cache, index keys and states */
    double buffers, activations, reserve;
    double weights, total, capacity;
};

void memory_sum(const struct memory_spec *spec, struct memory_sum *out);
/* Most requests whose step (tokens = requests * tokens_per_request) still fits; 0 = not even one.
 */
int memory_max_requests(const struct memory_spec *spec, int tokens_per_request);
/* "weights 28.1 + KV cache 36.8 + buffers 1.9 + activations 2.0 + reserve 4.0 = 72.8 GB of 80.0" */
void memory_text(const struct memory_sum *sum, char *buf, size_t size);

/* Weight bytes of n parameters: FP8 has one float scale per 128x128 block. */
double memory_weight_bytes(double params, enum plan_dtype dtype);
/* Low-latency buffers, both sets (DeepEP 92fe2de, LowLatencyLayout): per expert and token the
 * larger of both messages to receive, and what is sent. */
double memory_low_latency_bytes(int hidden, int experts, int ranks, int max_dispatch_tokens);
/* Normal kernels: NVLink and RDMA rings of all channels (the size hints of DeepEP's Config). */
double memory_normal_bytes(int hidden, int ranks, int ranks_per_node, int num_sms);

#endif
