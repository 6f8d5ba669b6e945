/* hw/fields.h: every field of a hardware profile, once: id, path in the YAML file, unit, smallest
 * and largest sensible value, default (REQUIRED = the file must give it), which nominal rate it
 * scales with when it is assumed from another profile, and what it means.
 *
 * Law parameters are efficiencies of nominal rates or times, so that most of them carry over to
 * another GPU as they stand. */
#ifndef PEOSIM_HW_FIELDS_H
#define PEOSIM_HW_FIELDS_H

#define HW_REQUIRED (-1e300) /* no default */

/* SAME carries over unchanged; the others by the ratio of that nominal rate. */
enum hw_scale { HW_SCALE_SAME, HW_SCALE_NVLINK, HW_SCALE_HBM, HW_SCALE_FP8, HW_SCALE_BF16 };

/* clang-format off */
#define HW_FIELDS(X) \
    X(GPU_NUM_SMS,         "gpu.num_sms",         "SMs",     1, 1024,  HW_REQUIRED, SAME, "streaming multiprocessors") \
    X(GPU_BF16_TFLOPS,     "gpu.bf16_TFLOPS",     "TFLOP/s", 1, 1e5,   HW_REQUIRED, SAME, "dense BF16 tensor rate, nominal") \
    X(GPU_FP8_TFLOPS,      "gpu.fp8_TFLOPS",      "TFLOP/s", 1, 1e5,   HW_REQUIRED, SAME, "dense FP8 tensor rate, nominal") \
    X(GPU_HBM_GBPS,        "gpu.hbm_GBps",        "GB/s",    10, 1e5,  HW_REQUIRED, SAME, "HBM bandwidth, nominal") \
    X(GPU_HBM_EFF,         "gpu.hbm_eff",         "",        0.2, 1,   0.9,         SAME, "share of it that kernels reach together") \
    X(GPU_SM_HBM_GBPS,     "gpu.sm_hbm_GBps",     "GB/s",    1, 1000,  60,          SAME, "most HBM bandwidth one SM draws") \
    X(GPU_HBM_GB,          "gpu.hbm_GB",          "GB",      1, 10000, HW_REQUIRED, SAME, "HBM capacity (1e9 bytes)") \
    X(GPU_L2_MIB,          "gpu.l2_MiB",          "MiB",     1, 4096,  50,          SAME, "L2 cache") \
    X(GPU_USD_PER_HOUR,    "gpu.usd_per_hour",    "USD/h",   0, 1000,  0,           SAME, "price of one GPU; 0 = not given") \
    X(NET_NVLINK_GBPS,     "net.nvlink_GBps",     "GB/s",    1, 10000, HW_REQUIRED, SAME, "NVLink of one GPU per direction, nominal") \
    X(NET_NVLINK_EFF,      "net.nvlink_eff",      "",        0.1, 1,   0.86,        SAME, "share of it that any kernel or copy engine reaches") \
    X(NET_NVLINK_LAT_US,   "net.nvlink_lat_us",   "us",      0, 100,   0.7,         SAME, "one way, store to visible flag") \
    X(NET_NIC_GBITPS,      "net.nic_Gbitps",      "Gbit/s",  1, 10000, HW_REQUIRED, SAME, "one NIC per direction, nominal") \
    X(NET_NIC_EFF,         "net.nic_eff",         "",        0.1, 1,   0.94,        SAME, "share of it that large messages reach") \
    X(NET_NICS_PER_GPU,    "net.nics_per_gpu",    "NICs",    0.01, 16, 1,           SAME, "NICs per GPU; 0.5 = two GPUs share one") \
    X(NET_NIC_LAT_US,      "net.nic_lat_us",      "us",      0, 1000,  5,           SAME, "one way, RDMA write to visible flag") \
    X(NET_NIC_MSG_NS,      "net.nic_msg_ns",      "ns",      0, 1e5,   10,          SAME, "NIC time per message besides its bytes") \
    X(NET_FABRIC_DERATE,   "net.fabric_derate",   "",        0.05, 1,  1,           SAME, "incast and rail crossing, which max-min sharing ignores") \
    X(LAUNCH_GRAPH_GAP_US, "launch.graph_gap_us", "us",      0, 100,   1.0,         SAME, "between two kernels of one stream in a CUDA graph") \
    X(LAUNCH_CROSS_STREAM_US, "launch.cross_stream_us", "us", 0, 100,  0.8,         SAME, "extra when the dependency comes from another stream") \
    X(LAUNCH_EAGER_US,     "launch.eager_us",     "us",      0, 1000,  3.5,         SAME, "host time per launch without a graph") \
    X(LL_DISP_FIXED_US,    "ll.dispatch_fixed_us", "us",     0, 1000,  6.6,         SAME, "fused low-latency dispatch: start, grid barrier, counts, flags") \
    X(LL_DISP_EXPERT_NS,   "ll.dispatch_expert_ns", "ns",    0, 1000,  12,          SAME, "more per expert of the round (counting, flags)") \
    X(LL_DISP_KIB_NS,      "ll.dispatch_KiB_ns",  "ns",      0, 5000,  160,         SAME, "more per 1024 channels of hidden size (first token's latency)") \
    X(LL_DISP_TOPK_NS,     "ll.dispatch_topk_ns", "ns",      0, 5000,  55,          SAME, "more per chosen expert of a token") \
    X(LL_DISP_TOKEN_NS,    "ll.dispatch_token_ns", "ns",     0, 1e5,   1450,        SAME, "one CTA: one token's cast and messages") \
    X(LL_DISP_TOKEN_KIB_NS, "ll.dispatch_token_KiB_ns", "ns", 0, 1e5,  140,         SAME, "the same, more per 1024 channels") \
    X(LL_DISP_WALK_SHARE,  "ll.dispatch_walk_share", "",     0, 1,     0.15,        SAME, "share of that token time spent on a token that has no expert in the round") \
    X(LL_DISP_CAST_SHARE,  "ll.dispatch_cast_share", "",     0, 1,     0.35,        SAME, "share of that token time spent on the FP8 cast (first round only)") \
    X(LL_DISP_PUSH_EFF,    "ll.dispatch_push_eff", "",       0.02, 2,  0.8,         SAME, "most that all CTAs push, as a share of nominal NVLink (local copies count)") \
    X(LL_DISP_RECV_SHARE,  "ll.dispatch_recv_share", "",     0, 1,     0.35,        SAME, "share of the fixed time that belongs to the receive kernel") \
    X(LL_DISP_COPY_EFF,    "ll.dispatch_copy_eff", "",       0.02, 1,  0.8,         SAME, "receive copy: share of nominal HBM bandwidth with a full grid") \
    X(LL_DISP_NODE_US,     "ll.dispatch_node_us", "us",      0, 1000,  6,           SAME, "more when ranks are on other nodes") \
    X(LL_DISP_RANK_NS,     "ll.dispatch_rank_ns", "ns",      0, 1e5,   300,         SAME, "more per off-node rank") \
    X(LL_COMB_FIXED_US,    "ll.combine_fixed_us", "us",      0, 1000,  6.4,         SAME, "fused low-latency combine: start, grid barrier, flags") \
    X(LL_COMB_EXPERT_NS,   "ll.combine_expert_ns", "ns",     0, 1000,  1,           SAME, "more per expert of the round") \
    X(LL_COMB_KIB_NS,      "ll.combine_KiB_ns",   "ns",      0, 5000,  275,         SAME, "more per 1024 channels") \
    X(LL_COMB_TOPK_NS,     "ll.combine_topk_ns",  "ns",      0, 5000,  150,         SAME, "more per chosen expert of a token") \
    X(LL_COMB_CTA_GBPS,    "ll.combine_cta_GBps", "GB/s",    0.5, 1000, 28,         SAME, "most that one sending CTA pushes") \
    X(LL_COMB_PUSH_EFF,    "ll.combine_push_eff", "",        0.02, 2,  0.7,         SAME, "most that all CTAs push, as a share of nominal NVLink (local copies count)") \
    X(LL_COMB_RECV_SHARE,  "ll.combine_recv_share", "",      0, 1,     0.35,        SAME, "share of the fixed time that belongs to the receive kernel") \
    X(LL_COMB_TOKEN_NS,    "ll.combine_token_ns", "ns",      0, 1e5,   1200,        SAME, "receive, one CTA: one token's reduction") \
    X(LL_COMB_TOKEN_KIB_NS, "ll.combine_token_KiB_ns", "ns", 0, 1e5,   25,          SAME, "the same, more per 1024 channels and chosen expert") \
    X(LL_COMB_READ_EFF,    "ll.combine_read_eff", "",        0.02, 1,  0.8,         SAME, "receive: share of nominal HBM bandwidth with a full grid") \
    X(LL_COMB_NODE_US,     "ll.combine_node_us",  "us",      0, 1000,  8,           SAME, "more when ranks are on other nodes") \
    X(LL_COMB_RANK_NS,     "ll.combine_rank_ns",  "ns",      0, 1e5,   200,         SAME, "more per off-node rank") \
    X(NORMAL_DISP_FIXED_US, "normal.dispatch_fixed_us", "us", 0, 1000, 12,          SAME, "normal dispatch: launch and first chunk") \
    X(NORMAL_DISP_SM_GBPS, "normal.dispatch_sm_GBps", "GB/s", 0.1, 500, 18,         SAME, "most that one SM moves") \
    X(NORMAL_DISP_PUSH_EFF, "normal.dispatch_push_eff", "",  0.02, 1,  0.73,        SAME, "most that all SMs move, as a share of nominal NVLink") \
    X(NORMAL_DISP_NIC_EFF, "normal.dispatch_nic_eff", "",    0.05, 1.2, 0.9,        SAME, "off-node: share of nominal NIC bandwidth") \
    X(NORMAL_DISP_NODE_US, "normal.dispatch_node_us", "us",  0, 1000,  20,          SAME, "more when ranks are on other nodes") \
    X(NORMAL_COMB_FIXED_US, "normal.combine_fixed_us", "us", 0, 1000,  12,          SAME, "normal combine: launch and first chunk") \
    X(NORMAL_COMB_SM_GBPS, "normal.combine_sm_GBps", "GB/s", 0.1, 500, 18,          SAME, "most that one SM moves") \
    X(NORMAL_COMB_PUSH_EFF, "normal.combine_push_eff", "",   0.02, 1,  0.7,         SAME, "most that all SMs move, as a share of nominal NVLink") \
    X(NORMAL_COMB_NIC_EFF, "normal.combine_nic_eff", "",     0.05, 1.2, 0.9,        SAME, "off-node: share of nominal NIC bandwidth") \
    X(NORMAL_COMB_NODE_US, "normal.combine_node_us", "us",   0, 1000,  20,          SAME, "more when ranks are on other nodes") \
    X(NORMAL_NOTIFY_US,    "normal.notify_us",    "us",      0, 10000, 20,          SAME, "notify and barrier kernels") \
    X(NORMAL_NOTIFY_TOKEN_NS, "normal.notify_token_ns", "ns", 0, 1e5,  2,           SAME, "the same, more per token") \
    X(A2A_FIXED_US,        "a2a.fixed_us",        "us",      0, 1000,  12,          SAME, "library all-to-all: launch and handshake") \
    X(A2A_CTA_GBPS,        "a2a.cta_GBps",        "GB/s",    0.5, 500, 22,          SAME, "most that one CTA pushes") \
    X(A2A_PUSH_EFF,        "a2a.push_eff",        "",        0.02, 1,  0.75,        SAME, "most that all CTAs push, as a share of nominal NVLink") \
    X(COLL_NUM_SMS,        "coll.num_sms",        "SMs",     1, 1024,  24,          SAME, "CTAs a collective takes by itself; fewer slow it down") \
    X(GEMM_FIXED_US,       "gemm.fixed_us",       "us",      0, 1000,  2.5,         SAME, "dense GEMM: start and drain") \
    X(GEMM_KBLOCK_NS,      "gemm.kblock_ns",      "ns",      0, 1e5,   40,          SAME, "one tile: shortest time of 64 bytes of k (latency of a load)") \
    X(GEMM_TILE_NS,        "gemm.tile_ns",        "ns",      0, 1e5,   700,         SAME, "one tile: prologue and epilogue") \
    X(GEMM_BF16_EFF,       "gemm.bf16_eff",       "",        0.05, 1.2, 0.85,       SAME, "share of nominal BF16 rate per SM while few SMs run") \
    X(GEMM_FP8_EFF,        "gemm.fp8_eff",        "",        0.05, 1.2, 0.75,       SAME, "the same, FP8 with one scale per tensor") \
    X(GEMM_BLOCK_EFF,      "gemm.fp8_block_eff",  "",        0.05, 1.2, 0.7,        SAME, "the same, FP8 with 128x128 block scales") \
    X(GEMM_HBM_EFF,        "gemm.hbm_eff",        "",        0.05, 1, 0.75,         SAME, "share of nominal HBM bandwidth while streaming weights") \
    X(GEMM_QUANT_US,       "gemm.quant_us",       "us",      0, 1000,  2,           SAME, "activation quantisation kernel in front of an FP8 GEMM") \
    X(GEMM_POWER_DROP,     "gemm.power_drop",     "",        0, 1,     0.15,        SAME, "how much slower an SM is when all run") \
    X(GROUPED_FIXED_US,    "grouped.fixed_us",    "us",      0, 1000,  4,           SAME, "grouped GEMM: start, scheduler, drain") \
    X(GROUPED_TILE_NS,     "grouped.tile_ns",     "ns",      0, 1e5,   800,         SAME, "one tile: prologue and epilogue") \
    X(GROUPED_KBLOCK_NS,   "grouped.kblock_ns",   "ns",      0, 1e5,   60,          SAME, "one tile: shortest time of 128 channels of k") \
    X(GROUPED_MASKED_EFF,  "grouped.masked_eff",  "",        0.05, 1.2, 0.7,        SAME, "masked layout: share of nominal FP8 rate per SM") \
    X(GROUPED_CONTIG_EFF,  "grouped.contiguous_eff", "",     0.05, 1.2, 0.75,       SAME, "contiguous layout: the same") \
    X(GROUPED_HBM_EFF,     "grouped.hbm_eff",     "",        0.05, 1,  0.75,        SAME, "share of nominal HBM bandwidth while streaming weights") \
    X(GROUPED_POWER_DROP,  "grouped.power_drop",  "",        0, 1,     0.12,        SAME, "how much slower an SM is when all run") \
    X(ACT_FIXED_US,        "act.fixed_us",        "us",      0, 1000,  2.0,         SAME, "SiLU*mul and quantisation: start and drain") \
    X(ACT_HBM_EFF,         "act.hbm_eff",         "",        0.02, 1,  0.6,         SAME, "share of nominal HBM bandwidth") \
    X(ACT_ROW_NS,          "act.row_ns",          "ns",      0, 1e5,   300,         SAME, "one CTA: one row besides its bytes") \
    X(ROUTER_FIXED_US,     "router.fixed_us",     "us",      0, 1000,  4,           SAME, "top-k kernel of the router") \
    X(ROUTER_TOKEN_NS,     "router.token_ns",     "ns",      0, 1e5,   300,         SAME, "the same, one CTA: one token") \
    X(ATTN_FIXED_US,       "attn.fixed_us",       "us",      0, 1000,  4,           SAME, "attention core: start and drain") \
    X(ATTN_DECODE_HBM_EFF, "attn.decode_hbm_eff", "",        0.05, 1,  0.75,        SAME, "decode: share of nominal HBM bandwidth over the KV cache") \
    X(ATTN_DECODE_EFF,     "attn.decode_eff",     "",        0.02, 1,  0.6,         SAME, "decode: share of nominal BF16 rate") \
    X(ATTN_PREFILL_EFF,    "attn.prefill_eff",    "",        0.02, 1,  0.6,         SAME, "prefill: share of nominal BF16 rate") \
    X(ATTN_NORM_US,        "attn.norm_us",        "us",      0, 1000,  3,           SAME, "norms, rotary embedding, cache write beside the projections") \
    X(INTERFERENCE_COMPUTE, "interference.compute", "",      1, 10,    1.03,        SAME, "a compute kernel beside a communication kernel is this much slower") \
    X(INTERFERENCE_COMM,   "interference.comm",   "",        1, 10,    1.05,        SAME, "a communication kernel beside a compute kernel is this much slower")
/* clang-format on */

enum hw_field_id {
#define HW_FIELD_ENUM(id, path, unit, min, max, def, scale, help) HW_##id,
    HW_FIELDS(HW_FIELD_ENUM)
#undef HW_FIELD_ENUM
        HW_FIELD_COUNT
};

#endif
