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
    X(GPU_ARCH,            "gpu.arch",            "sm_",     70, 199,  90,          SAME, "architecture as CUDA names it: sm_90 (Hopper), sm_100, sm_103 (Blackwell)") \
    X(GPU_NUM_SMS,         "gpu.num_sms",         "SMs",     1, 1024,  HW_REQUIRED, SAME, "streaming multiprocessors") \
    X(GPU_BF16_TFLOPS,     "gpu.bf16_TFLOPS",     "TFLOP/s", 1, 1e5,   HW_REQUIRED, SAME, "dense BF16 tensor rate, nominal") \
    X(GPU_FP8_TFLOPS,      "gpu.fp8_TFLOPS",      "TFLOP/s", 1, 1e5,   HW_REQUIRED, SAME, "dense FP8 tensor rate, nominal") \
    X(GPU_FP4_TFLOPS,      "gpu.fp4_TFLOPS",      "TFLOP/s", 0, 1e6,   0,          SAME, "dense FP4 tensor rate, nominal; 0 = no such units") \
    X(GPU_HBM_GBPS,        "gpu.hbm_GBps",        "GB/s",    10, 1e5,  HW_REQUIRED, SAME, "HBM bandwidth, nominal") \
    X(GPU_HBM_EFF,         "gpu.hbm_eff",         "",        0.2, 1,   0.9,         SAME, "share of it that kernels reach together") \
    X(GPU_SM_HBM_GBPS,     "gpu.sm_hbm_GBps",     "GB/s",    1, 1000,  60,          SAME, "most HBM bandwidth one SM draws") \
    X(GPU_COPY_FIXED_US,   "gpu.copy_fixed_us",   "us",      0, 100,   2,           SAME, "a plain copy kernel: start and drain") \
    X(GPU_HBM_GB,          "gpu.hbm_GB",          "GB",      1, 10000, HW_REQUIRED, SAME, "HBM capacity (1e9 bytes)") \
    X(GPU_L2_MIB,          "gpu.l2_MiB",          "MiB",     1, 4096,  50,          SAME, "L2 cache") \
    X(GPU_USD_PER_HOUR,    "gpu.usd_per_hour",    "USD/h",   0, 1000,  0,           SAME, "price of one GPU; 0 = not given") \
    X(NET_NVLINK_GBPS,     "net.nvlink_GBps",     "GB/s",    1, 10000, HW_REQUIRED, SAME, "NVLink of one GPU per direction, nominal") \
    X(NET_NVLINK_EFF,      "net.nvlink_eff",      "",        0.1, 1,   0.86,        SAME, "share of it that any kernel or copy engine reaches") \
    X(NET_PUSH_FIXED_US,   "net.push_fixed_us",   "us",      0, 100,   1.5,         SAME, "a kernel of plain stores to a peer: start and drain") \
    X(NET_PUSH_SM_GBPS,    "net.push_sm_GBps",    "GB/s",    0.5, 1000, 43,        SAME, "most that one SM's plain stores push to a peer") \
    X(NET_NVLINK_LAT_US,   "net.nvlink_lat_us",   "us",      0, 100,   0.7,         SAME, "one way, store to visible flag") \
    X(NET_HOST_GPUS,       "net.host_gpus",       "GPUs",    1, 1024,  8,           SAME, "GPUs of one host; an NVLink domain may span several") \
    X(NET_NIC_GBITPS,      "net.nic_Gbitps",      "Gbit/s",  1, 10000, HW_REQUIRED, SAME, "one NIC per direction, nominal") \
    X(NET_NIC_EFF,         "net.nic_eff",         "",        0.1, 1,   0.94,        SAME, "share of it that large messages reach") \
    X(NET_NICS_PER_GPU,    "net.nics_per_gpu",    "NICs",    0.01, 16, 1,           SAME, "NICs per GPU; 0.5 = two GPUs share one") \
    X(NET_NIC_LAT_US,      "net.nic_lat_us",      "us",      0, 1000,  2,           SAME, "one way, RDMA write to visible flag") \
    X(NET_NIC_MSG_NS,      "net.nic_msg_ns",      "ns",      0, 1e5,   10,          SAME, "NIC time per message besides its bytes") \
    X(NET_FABRIC_DERATE,   "net.fabric_derate",   "",        0.05, 1,  1,           SAME, "incast and rail crossing, which max-min sharing ignores") \
    X(LAUNCH_GRAPH_GAP_US, "launch.graph_gap_us", "us",      0, 100,   1.0,         SAME, "between two kernels of one stream in a CUDA graph") \
    X(LAUNCH_CROSS_STREAM_US, "launch.cross_stream_us", "us", 0, 100,  0.8,         SAME, "extra when the dependency comes from another stream") \
    X(LAUNCH_EAGER_US,     "launch.eager_us",     "us",      0, 1000,  3.5,         SAME, "host time per launch without a graph") \
    X(LL_KERNEL_RULE,      "ll.kernel_rule",      "",        0, 1,     0,           SAME, "which low-latency kernels: 0 DeepEP's, 1 the validator's own") \
    X(LL_POLL_US,          "ll.poll_us",          "us",      0, 100,   0,           SAME, "rule 1: a receive's time to see that its data has come") \
    X(LL_DISP_COUNT_NS,    "ll.dispatch_count_ns", "ns",     0, 1e4,   10,          SAME, "rule 1: every CTA counts the choices of all tokens beside its sends: one choice") \
    X(LL_DISP_CORNER,      "ll.dispatch_corner",  "",        0, 16,    3,           SAME, "rule 1: how sharply counting and sending add, (a^c + b^c)^(1/c): c less 1 with 16 CTAs, falling with the root of their number") \
    X(LL_DISP_RECV_GBPS,   "ll.dispatch_recv_cta_GBps", "GB/s", 0.5, 1000, 28,      SAME, "rule 1: most that one CTA unpacks") \
    X(LL_DISP_GROUP_GBPS,  "ll.dispatch_group_GBps", "GB/s", 0.5, 1000, 60,     SAME, "rule 1: most that a CTA unpacks of one expert's messages from one rank") \
    X(LL_DISP_SPREAD_US,   "ll.dispatch_spread_us", "us",    0, 100,   2,       SAME, "rule 1: a receive whose CTAs share full channels: their look at each other") \
    X(LL_COMB_ROW_NS,      "ll.combine_row_ns",   "ns",      0, 1e5,   2400,        SAME, "rule 1: one row on its way through a CTA") \
    X(LL_DISP_FIXED_US,    "ll.dispatch_fixed_us", "us",     0, 1000,  6.6,         SAME, "fused low-latency dispatch: start, grid barrier, counts, flags") \
    X(LL_DISP_EXPERT_NS,   "ll.dispatch_expert_ns", "ns",    0, 1000,  12,          SAME, "more per expert of the round (counting, flags)") \
    X(LL_DISP_KIB_NS,      "ll.dispatch_KiB_ns",  "ns",      0, 5000,  160,         SAME, "more per 1024 channels of hidden size (first token's latency)") \
    X(LL_DISP_TOPK_NS,     "ll.dispatch_topk_ns", "ns",      0, 5000,  55,          SAME, "more per chosen expert of a token") \
    X(LL_DISP_TOKEN_NS,    "ll.dispatch_token_ns", "ns",     0, 1e5,   1450,        SAME, "one CTA: one token's cast and messages") \
    X(LL_DISP_TOKEN_KIB_NS, "ll.dispatch_token_KiB_ns", "ns", 0, 1e5,  140,         SAME, "the same, more per 1024 channels") \
    X(LL_DISP_CAST_SHARE,  "ll.dispatch_cast_share", "",     0, 1,     0.35,        SAME, "share of that token time spent on the FP8 cast") \
    X(LL_DISP_PUSH_EFF,    "ll.dispatch_push_eff", "",       0.02, 2,  0.8,         SAME, "most that all CTAs push, as a share of nominal NVLink (local copies count)") \
    X(LL_DISP_RECV_SHARE,  "ll.dispatch_recv_share", "",     0, 1,     0.35,        SAME, "share of the fixed time that belongs to the receive kernel") \
    X(LL_DISP_COPY_EFF,    "ll.dispatch_copy_eff", "",       0.02, 1,  0.8,         SAME, "receive copy: share of nominal HBM bandwidth with a full grid") \
    X(LL_DISP_NODE_US,     "ll.dispatch_node_us", "us",      0, 1000,  0.1,         SAME, "more when ranks are on other nodes") \
    X(LL_DISP_FLAG_NS,     "ll.dispatch_flag_ns", "ns",      0, 1e5,   70,          SAME, "more per expert on other nodes: its count over the NIC") \
    X(LL_DISP_SEND_SHARE,  "ll.dispatch_send_share", "",     0, 2,     0.75,           SAME, "share of the fixed time that a send kernel of its own takes; 0 = what the receive leaves") \
    X(LL_DISP_ROUND_TOKEN_NS, "ll.dispatch_round_token_ns", "ns", 0, 1e5, 2000,     SAME, "sends in rounds, one CTA: one token, looked at in every round") \
    X(LL_DISP_ROUND_CAST_NS, "ll.dispatch_round_cast_ns", "ns", 0, 1e5, 400,        SAME, "the same, more in the round that casts, at 7168 channels") \
    X(LL_RELAY_US,         "ll.relay_us",         "us",      0, 1000,  31,          SAME, "layered dispatch: from a copy's arrival until it is forwarded") \
    X(LL_RELAY_SHARE,      "ll.relay_share",      "",        0, 1,     0.2,         SAME, "share of it that a send and a receive kernel of its own each take") \
    X(LL_COMB_FIXED_US,    "ll.combine_fixed_us", "us",      0, 1000,  6.4,         SAME, "fused low-latency combine: start, grid barrier, flags") \
    X(LL_COMB_EXPERT_NS,   "ll.combine_expert_ns", "ns",     0, 1000,  1,           SAME, "more per expert of the round") \
    X(LL_COMB_GROUP_US,    "ll.combine_group_us", "us",      0, 1000,  0.5,         SAME, "more where a CTA serves several experts") \
    X(LL_COMB_KIB_NS,      "ll.combine_KiB_ns",   "ns",      0, 5000,  275,         SAME, "more per 1024 channels") \
    X(LL_COMB_TOPK_NS,     "ll.combine_topk_ns",  "ns",      0, 5000,  150,         SAME, "more per chosen expert of a token") \
    X(LL_COMB_CTA_GBPS,    "ll.combine_cta_GBps", "GB/s",    0.5, 1000, 28,         SAME, "most that one sending CTA pushes") \
    X(LL_COMB_PUSH_EFF,    "ll.combine_push_eff", "",        0.02, 2,  0.7,         SAME, "most that all CTAs push, as a share of nominal NVLink (local copies count)") \
    X(LL_COMB_RECV_SHARE,  "ll.combine_recv_share", "",      0, 1,     0.35,        SAME, "share of the fixed time that belongs to the receive kernel") \
    X(LL_COMB_TOKEN_NS,    "ll.combine_token_ns", "ns",      0, 1e5,   1200,        SAME, "receive, one CTA: one token's reduction") \
    X(LL_COMB_TOKEN_KIB_NS, "ll.combine_token_KiB_ns", "ns", 0, 1e5,   25,          SAME, "the same, more per 1024 channels and chosen expert") \
    X(LL_COMB_READ_EFF,    "ll.combine_read_eff", "",        0.02, 1,  1,           SAME, "receive: share of nominal HBM bandwidth with a full grid") \
    X(LL_COMB_SEND_SHARE,  "ll.combine_send_share", "",      0, 2,     0.83,           SAME, "share of the fixed time that a send kernel of its own takes; 0 = what the receive leaves") \
    X(LL_COMB_NODE_US,     "ll.combine_node_us",  "us",      0, 1000,  8,           SAME, "more when ranks are on other nodes") \
    X(LL_COMB_FLAG_NS,     "ll.combine_flag_ns",  "ns",      0, 1e5,   30,          SAME, "more per expert on other nodes: its flag over the NIC") \
    X(NORMAL_DISP_FIXED_US,  "normal.dispatch_fixed_us", "us", 0, 1000, 20, SAME, "normal dispatch: launch, barrier and first chunk") \
    X(NORMAL_DISP_KIB_US,    "normal.dispatch_KiB_us", "us", 0, 1000, 0.5, SAME, "more per 1024 channels of hidden size") \
    X(NORMAL_DISP_TOKEN_NS,  "normal.dispatch_token_ns", "ns", 0, 1e5, 400, SAME, "one SM: one token besides its copies") \
    X(NORMAL_DISP_TOKEN_KIB_NS, "normal.dispatch_token_KiB_ns", "ns", 0, 1e5, 0, SAME, "the same, more per KiB of a copy") \
    X(NORMAL_DISP_COPY_NS,   "normal.dispatch_copy_ns", "ns", 0, 1e5, 50, SAME, "one SM: one copy of a token to a rank") \
    X(NORMAL_DISP_COPY_KIB_NS, "normal.dispatch_copy_KiB_ns", "ns", 0, 1e5, 36, SAME, "the same, more per KiB of the copy") \
    X(NORMAL_DISP_PUSH_EFF,  "normal.dispatch_push_eff", "", 0.02, 1.2, 0.75, SAME, "most that all SMs move, as a share of nominal NVLink (local copies count)") \
    X(NORMAL_DISP_SMS_POWER, "normal.dispatch_sms_power", "", 0.3, 1.2, 0.9, SAME, "so many SMs move rows by this power of their number faster than one") \
    X(NORMAL_DISP_NODE_US,   "normal.dispatch_node_us", "us", 0, 1000, 10, SAME, "off-node kernel: launch, barrier and first chunk (instead of fixed_us)") \
    X(NORMAL_DISP_RANK_NS,   "normal.dispatch_rank_ns", "ns", 0, 1e5, 600, SAME, "off-node: more per off-node rank") \
    X(NORMAL_DISP_NODE_TOKEN_NS, "normal.dispatch_node_token_ns", "ns", 0, 1e5, 400, SAME, "off-node kernel, one SM: more per token") \
    X(NORMAL_DISP_RDMA_NS,   "normal.dispatch_rdma_ns", "ns", 0, 1e5, 400, SAME, "off-node kernel, one SM: one copy of a token to another node") \
    X(NORMAL_DISP_NIC_EFF,   "normal.dispatch_nic_eff", "", 0.05, 1.2, 0.9, SAME, "off-node: share of nominal NIC bandwidth") \
    X(NORMAL_DISP_FILL_NS,   "normal.dispatch_fill_ns", "ns", 0, 1e6, 900, SAME, "off-node kernel, one channel (two SMs): one token through the stages that a full pipeline hides") \
    X(NORMAL_DISP_FILL_TOKENS, "normal.dispatch_fill_tokens", "tokens", 0, 1e4, 20, SAME, "off-node kernel: a channel's pipeline is full after so many") \
    X(NORMAL_COMB_FIXED_US,  "normal.combine_fixed_us", "us", 0, 1000, 20, SAME, "normal combine: launch, barrier and first chunk") \
    X(NORMAL_COMB_KIB_US,    "normal.combine_KiB_us", "us", 0, 1000, 0.5, SAME, "more per 1024 channels of hidden size") \
    X(NORMAL_COMB_TOKEN_NS,  "normal.combine_token_ns", "ns", 0, 1e5, 180, SAME, "one SM: one token besides its copies") \
    X(NORMAL_COMB_TOKEN_KIB_NS, "normal.combine_token_KiB_ns", "ns", 0, 1e5, 205, SAME, "the same, more per KiB of a copy") \
    X(NORMAL_COMB_COPY_NS,   "normal.combine_copy_ns", "ns", 0, 1e5, 0, SAME, "one SM: one copy of a token to a rank") \
    X(NORMAL_COMB_COPY_KIB_NS, "normal.combine_copy_KiB_ns", "ns", 0, 1e5, 55, SAME, "the same, more per KiB of the copy") \
    X(NORMAL_COMB_PUSH_EFF,  "normal.combine_push_eff", "", 0.02, 1.2, 0.8, SAME, "most that all SMs move, as a share of nominal NVLink (local copies count)") \
    X(NORMAL_COMB_SMS_POWER, "normal.combine_sms_power", "", 0.3, 1.2, 0.9, SAME, "so many SMs move rows by this power of their number faster than one") \
    X(NORMAL_COMB_NODE_US,   "normal.combine_node_us", "us", 0, 1000, 10, SAME, "off-node kernel: launch, barrier and first chunk (instead of fixed_us)") \
    X(NORMAL_COMB_RANK_NS,   "normal.combine_rank_ns", "ns", 0, 1e5, 600, SAME, "off-node: more per off-node rank") \
    X(NORMAL_COMB_NODE_TOKEN_NS, "normal.combine_node_token_ns", "ns", 0, 1e5, 400, SAME, "off-node kernel, one SM: more per token") \
    X(NORMAL_COMB_RDMA_NS,   "normal.combine_rdma_ns", "ns", 0, 1e5, 400, SAME, "off-node kernel, one SM: one copy of a token to another node") \
    X(NORMAL_COMB_NIC_EFF,   "normal.combine_nic_eff", "", 0.05, 1.2, 0.9, SAME, "off-node: share of nominal NIC bandwidth") \
    X(NORMAL_COMB_FILL_NS,   "normal.combine_fill_ns", "ns", 0, 1e6, 2400, SAME, "off-node kernel, one channel (two SMs): one token through the stages that a full pipeline hides") \
    X(NORMAL_COMB_FILL_TOKENS, "normal.combine_fill_tokens", "tokens", 0, 1e4, 20, SAME, "off-node kernel: a channel's pipeline is full after so many") \
    X(NORMAL_NOTIFY_US,      "normal.notify_us", "us", 0, 10000, 20, SAME, "off-node: notify and barrier kernels") \
    X(NORMAL_NOTIFY_NODE_US, "normal.notify_node_us", "us", 0, 10000, 11, SAME, "the same, more per other node") \
    X(NORMAL_NOTIFY_TOKEN_NS, "normal.notify_token_ns", "ns", 0, 1e5, 2, SAME, "dispatch: more per token") \
    X(NORMAL_NOTIFY_SM_NS,   "normal.notify_sm_ns", "ns", 0, 1e6, 150, SAME, "combine, one SM: more per token") \
    X(A2A_FIXED_US,        "a2a.fixed_us",        "us",      0, 1000,  12,          SAME, "library all-to-all: launch and handshake") \
    X(A2A_CTA_GBPS,        "a2a.cta_GBps",        "GB/s",    0.5, 500, 22,          SAME, "most that one CTA pushes") \
    X(A2A_PUSH_EFF,        "a2a.push_eff",        "",        0.02, 1,  0.75,        SAME, "most that all CTAs push, as a share of nominal NVLink") \
    X(A2A_ROW_NS,          "a2a.row_ns",          "ns",      0, 1e5,   300,         SAME, "packing and unpacking, one CTA: one row") \
    X(A2A_ROW_SHARE,       "a2a.row_share",       "",        0, 1,     0.8,         SAME, "share of a2a.row_ns, which is of hidden size 7168, that grows with the hidden size") \
    X(DEDUP_DISP_FIXED_US, "dedup.dispatch_fixed_us", "us",   0, 1000, 10,  SAME, "one row per token and rank, dispatch: launch, flags and first row") \
    X(DEDUP_DISP_CHOICE_NS, "dedup.dispatch_choice_ns", "ns", 0, 1e3,  0.5, SAME, "one choice of one token of any rank, which every CTA reads") \
    X(DEDUP_DISP_TOKEN_NS, "dedup.dispatch_token_ns", "ns",   0, 1e5,  4000, SAME, "one CTA: one token cast, sent and flagged") \
    X(DEDUP_DISP_CTA_GBPS, "dedup.dispatch_cta_GBps", "GB/s", 0.5, 1000, 60, SAME, "most that one CTA copies to the experts' rows") \
    X(DEDUP_COMB_FIXED_US, "dedup.combine_fixed_us", "us",    0, 1000, 10,  SAME, "the same, combine: launch, flags and first row") \
    X(DEDUP_COMB_CTA_GBPS, "dedup.combine_cta_GBps", "GB/s",  0.5, 1000, 60, SAME, "most of the experts' rows that one CTA sums up") \
    X(DEDUP_COMB_TURN_NS, "dedup.combine_turn_ns", "ns",      0, 1e5,  4000, SAME, "one CTA: one turn of its groups, a token each, besides the bytes") \
    X(NVL_1S_DISP_FIXED_US, "nvl.one_sided_dispatch_fixed_us", "us", 0, 1000, 14, SAME, "one-sided exchange over NVLink, dispatch: launch, flags and first row, inside a host") \
    X(NVL_1S_DISP_HOST_US,  "nvl.one_sided_dispatch_host_us", "us", 0, 1000, 2, SAME, "more when the domain spans hosts") \
    X(NVL_1S_DISP_DOUBLE_US, "nvl.one_sided_dispatch_double_us", "us", 0, 1000, 1.5, SAME, "more for every doubling of the ranks beyond a host") \
    X(NVL_1S_DISP_TOKEN_NS, "nvl.one_sided_dispatch_token_ns", "ns", 0, 1e5, 7, SAME, "one token besides its copies to peers") \
    X(NVL_1S_DISP_EFF,      "nvl.one_sided_dispatch_eff", "", 0.02, 2, 0.75, SAME, "share of nominal NVLink that copies to peers reach") \
    X(NVL_1S_DISP_CORNER,   "nvl.one_sided_dispatch_corner", "", 1, 16, 1.04, SAME, "how sharply fixed time and transfer add: (a^c + b^c)^(1/c)") \
    X(NVL_1S_COMB_FIXED_US, "nvl.one_sided_combine_fixed_us", "us", 0, 1000, 17, SAME, "the same, combine: launch, flags and first row, inside a host") \
    X(NVL_1S_COMB_HOST_US,  "nvl.one_sided_combine_host_us", "us", 0, 1000, 3.5, SAME, "more when the domain spans hosts") \
    X(NVL_1S_COMB_DOUBLE_US, "nvl.one_sided_combine_double_us", "us", 0, 1000, 4.5, SAME, "more for every doubling of the ranks beyond a host") \
    X(NVL_1S_COMB_TOKEN_NS, "nvl.one_sided_combine_token_ns", "ns", 0, 1e5, 2, SAME, "one token besides its copies to peers") \
    X(NVL_1S_COMB_EFF,      "nvl.one_sided_combine_eff", "", 0.02, 2, 0.71, SAME, "share of nominal NVLink that copies to peers reach") \
    X(NVL_1S_COMB_CORNER,   "nvl.one_sided_combine_corner", "", 1, 16, 1.22, SAME, "how sharply fixed time and transfer add: (a^c + b^c)^(1/c)") \
    X(NVL_2S_PREP_FIXED_US, "nvl.two_sided_prepare_fixed_us", "us", 0, 1000, 12, SAME, "two-sided exchange over NVLink, prepare: launch, flags and first row, inside a host") \
    X(NVL_2S_PREP_HOST_US,  "nvl.two_sided_prepare_host_us", "us", 0, 1000, 0.5, SAME, "more when the domain spans hosts") \
    X(NVL_2S_PREP_DOUBLE_US, "nvl.two_sided_prepare_double_us", "us", 0, 1000, 0.7, SAME, "more for every doubling of the ranks beyond a host") \
    X(NVL_2S_PREP_TOKEN_NS, "nvl.two_sided_prepare_token_ns", "ns", 0, 1e5, 7, SAME, "one token besides its copies to peers") \
    X(NVL_2S_PREP_EFF,      "nvl.two_sided_prepare_eff", "", 0.02, 2, 0.9, SAME, "share of nominal NVLink that copies to peers reach") \
    X(NVL_2S_PREP_CORNER,   "nvl.two_sided_prepare_corner", "", 1, 16, 1.05, SAME, "how sharply fixed time and transfer add: (a^c + b^c)^(1/c)") \
    X(NVL_2S_DISP_FIXED_US, "nvl.two_sided_dispatch_fixed_us", "us", 0, 1000, 10.5, SAME, "the same, dispatch: launch, flags and first row, inside a host") \
    X(NVL_2S_DISP_HOST_US,  "nvl.two_sided_dispatch_host_us", "us", 0, 1000, 1, SAME, "more when the domain spans hosts") \
    X(NVL_2S_DISP_DOUBLE_US, "nvl.two_sided_dispatch_double_us", "us", 0, 1000, 0.5, SAME, "more for every doubling of the ranks beyond a host") \
    X(NVL_2S_DISP_TOKEN_NS, "nvl.two_sided_dispatch_token_ns", "ns", 0, 1e5, 37, SAME, "one token besides its copies to peers") \
    X(NVL_2S_DISP_EFF,      "nvl.two_sided_dispatch_eff", "", 0.02, 2, 0.65, SAME, "share of nominal NVLink that copies to peers reach") \
    X(NVL_2S_DISP_CORNER,   "nvl.two_sided_dispatch_corner", "", 1, 16, 1.02, SAME, "how sharply fixed time and transfer add: (a^c + b^c)^(1/c)") \
    X(NVL_2S_COMB_FIXED_US, "nvl.two_sided_combine_fixed_us", "us", 0, 1000, 12, SAME, "the same, combine: launch, flags and first row, inside a host") \
    X(NVL_2S_COMB_HOST_US,  "nvl.two_sided_combine_host_us", "us", 0, 1000, 0.4, SAME, "more when the domain spans hosts") \
    X(NVL_2S_COMB_DOUBLE_US, "nvl.two_sided_combine_double_us", "us", 0, 1000, 1.6, SAME, "more for every doubling of the ranks beyond a host") \
    X(NVL_2S_COMB_TOKEN_NS, "nvl.two_sided_combine_token_ns", "ns", 0, 1e5, 77, SAME, "one token besides its copies to peers") \
    X(NVL_2S_COMB_EFF,      "nvl.two_sided_combine_eff", "", 0.02, 2, 0.6, SAME, "share of nominal NVLink that copies to peers reach") \
    X(NVL_2S_COMB_CORNER,   "nvl.two_sided_combine_corner", "", 1, 16, 1.12, SAME, "how sharply fixed time and transfer add: (a^c + b^c)^(1/c)") \
    X(NVL_2S_COMB_LP_FIXED_US, "nvl.two_sided_combine_lp_fixed_us", "us", 0, 1000, 15, SAME, "the same, combine in FP4: launch, flags and first row, inside a host") \
    X(NVL_2S_COMB_LP_HOST_US,  "nvl.two_sided_combine_lp_host_us", "us", 0, 1000, 1.7, SAME, "more when the domain spans hosts") \
    X(NVL_2S_COMB_LP_DOUBLE_US, "nvl.two_sided_combine_lp_double_us", "us", 0, 1000, 1, SAME, "more for every doubling of the ranks beyond a host") \
    X(NVL_2S_COMB_LP_TOKEN_NS, "nvl.two_sided_combine_lp_token_ns", "ns", 0, 1e5, 130, SAME, "one token besides its copies to peers") \
    X(NVL_2S_COMB_LP_EFF,      "nvl.two_sided_combine_lp_eff", "", 0.02, 2, 0.4, SAME, "share of nominal NVLink that copies to peers reach") \
    X(NVL_2S_COMB_LP_CORNER,   "nvl.two_sided_combine_lp_corner", "", 1, 16, 1.15, SAME, "how sharply fixed time and transfer add: (a^c + b^c)^(1/c)") \
    X(MEGA_FIXED_US,      "mega.fixed_us", "us", 0, 1000, 45, SAME, "fused expert kernel: launch, counts, barriers, first blocks (FP8 activations quantised before)") \
    X(MEGA_DOUBLE_US,     "mega.double_us", "us", 0, 1000, 1, SAME, "more for every doubling of the ranks") \
    X(MEGA_TOKEN_NS,      "mega.token_ns", "ns", 0, 1e5, 2, SAME, "one token: quantised before, scaled behind") \
    X(MEGA_TILE_NS,       "mega.tile_ns", "ns", 0, 1e5, 1000, SAME, "one block: prologue and epilogue") \
    X(MEGA_KBLOCK_NS,     "mega.kblock_ns", "ns", 0, 1e4, 50, SAME, "one block: 128 bytes of k besides the products") \
    X(MEGA_EFF,           "mega.eff", "", 0.05, 4, 0.9, SAME, "share of the nominal rate while products run") \
    X(MEGA_HBM_EFF,       "mega.hbm_eff", "", 0.05, 1.2, 0.75, SAME, "share of nominal HBM bandwidth over the weights") \
    X(MEGA_CORNER,        "mega.corner", "", 1, 20, 5, SAME, "how sharply SM time and HBM time add: (a^c + b^c)^(1/c)") \
    X(MEGA_LINK_EFF,      "mega.link_eff", "", 0.02, 1.5, 0.7, SAME, "share of nominal NVLink that its pulls and stores reach") \
    X(MEGA_AROUND_US,     "mega.around_us", "us", 0, 1000, 20, SAME, "of mega.fixed_us, what a trace of the kernel alone does not show: launch, quantisation") \
    X(MEGA_BARRIER_US,    "mega.barrier_us", "us", 0, 1000, 4, SAME, "barrier over NVLink in front of the sum over top-k") \
    X(V2_DISP_FIXED_US,   "v2.dispatch_fixed_us", "us", 0, 1000, 12, SAME, "DeepEP V2 dispatch: launch, barrier, first row") \
    X(V2_COMB_FIXED_US,   "v2.combine_fixed_us", "us", 0, 1000, 30, SAME, "DeepEP V2 combine: the same") \
    X(V2_EPILOGUE_US,     "v2.epilogue_us", "us", 0, 1000, 6.4, SAME, "its copy or reduce epilogue besides the bytes") \
    X(V2_NODE_US,         "v2.node_us", "us", 0, 1000, 15, SAME, "more over several nodes") \
    X(V2_SM_GBPS,         "v2.sm_GBps", "GB/s", 1, 1000, 31, SAME, "one SM stores over NVLink") \
    X(V2_PUSH_EFF,        "v2.push_eff", "", 0.02, 1.2, 0.71, SAME, "most that all SMs store, as a share of nominal NVLink") \
    X(V2_NIC_EFF,         "v2.nic_eff", "", 0.05, 1.2, 0.9, SAME, "off-node: share of nominal NIC bandwidth") \
    X(COLL_NUM_SMS,        "coll.num_sms",        "SMs",     1, 1024,  24,          SAME, "CTAs a collective takes by itself; fewer slow it down") \
    X(BF16_FIXED_US,         "gemm_bf16.fixed_us", "us", 0, 1000, 2, SAME, "dense GEMM, BF16: start and drain") \
    X(BF16_TILE_NS,          "gemm_bf16.tile_ns", "ns", 0, 1e5, 800, SAME, "one tile: prologue and epilogue") \
    X(BF16_KBLOCK_NS,        "gemm_bf16.kblock_ns", "ns", 0, 1e5, 45, SAME, "one tile: shortest time of 128 bytes of k") \
    X(BF16_LOAD_NS,          "gemm_bf16.load_ns", "ns", 0, 1e5, 80, SAME, "the same, more per 256 rows and columns of the tile") \
    X(BF16_EFF,              "gemm_bf16.eff", "", 0.05, 1.3, 1.0, SAME, "share of the nominal rate of one SM while few SMs run") \
    X(BF16_HBM_EFF,          "gemm_bf16.hbm_eff", "", 0.05, 1.2, 0.9, SAME, "share of nominal HBM bandwidth over operands and result") \
    X(BF16_CORNER,           "gemm_bf16.corner", "", 1, 16, 1.8, SAME, "how sharply SM time and HBM time add: (a^c + b^c)^(1/c)") \
    X(BF16_SPLIT_US,         "gemm_bf16.split_us", "us", 0, 1000, 2.8, SAME, "splitting k: reduction kernel") \
    X(FP8_FIXED_US,          "gemm_fp8.fixed_us", "us", 0, 1000, 1.6, SAME, "dense GEMM, FP8 with one scale per tensor: start and drain") \
    X(FP8_TILE_NS,           "gemm_fp8.tile_ns", "ns", 0, 1e5, 1100, SAME, "one tile: prologue and epilogue") \
    X(FP8_KBLOCK_NS,         "gemm_fp8.kblock_ns", "ns", 0, 1e5, 27, SAME, "one tile: shortest time of 128 bytes of k") \
    X(FP8_LOAD_NS,           "gemm_fp8.load_ns", "ns", 0, 1e5, 58, SAME, "the same, more per 256 rows and columns of the tile") \
    X(FP8_EFF,               "gemm_fp8.eff", "", 0.05, 1.3, 0.95, SAME, "share of the nominal rate of one SM while few SMs run") \
    X(FP8_HBM_EFF,           "gemm_fp8.hbm_eff", "", 0.05, 1.2, 0.8, SAME, "share of nominal HBM bandwidth over operands and result") \
    X(FP8_CORNER,            "gemm_fp8.corner", "", 1, 16, 1.9, SAME, "how sharply SM time and HBM time add: (a^c + b^c)^(1/c)") \
    X(BLOCK_FIXED_US,        "gemm_block.fixed_us", "us", 0, 1000, 2, SAME, "dense GEMM, FP8 with 128x128 block scales: start and drain") \
    X(BLOCK_TILE_NS,         "gemm_block.tile_ns", "ns", 0, 1e5, 500, SAME, "one tile: prologue and epilogue") \
    X(BLOCK_KBLOCK_NS,       "gemm_block.kblock_ns", "ns", 0, 1e5, 60, SAME, "one tile: shortest time of 128 bytes of k") \
    X(BLOCK_LOAD_NS,         "gemm_block.load_ns", "ns", 0, 1e5, 60, SAME, "the same, more per 256 rows and columns of the tile") \
    X(BLOCK_EFF,             "gemm_block.eff", "", 0.05, 1.3, 0.75, SAME, "share of the nominal rate of one SM while few SMs run") \
    X(BLOCK_HBM_EFF,         "gemm_block.hbm_eff", "", 0.05, 1.2, 0.95, SAME, "share of nominal HBM bandwidth over operands and result") \
    X(BLOCK_CORNER,          "gemm_block.corner", "", 1, 16, 1.3, SAME, "how sharply SM time and HBM time add: (a^c + b^c)^(1/c)") \
    X(BLOCK_TILE_RULE,       "gemm_block.tile_rule", "", 0, 1, 0, SAME, "which tile it takes: 0 DeepGEMM's rule, 1 the fastest, as cuBLAS does") \
    X(NVFP4_FIXED_US,        "gemm_nvfp4.fixed_us", "us", 0, 1000, 3, SAME, "dense GEMM, NVFP4 weights and activations: start and drain") \
    X(NVFP4_TILE_NS,         "gemm_nvfp4.tile_ns", "ns", 0, 1e5, 800, SAME, "one tile: prologue and epilogue") \
    X(NVFP4_KBLOCK_NS,       "gemm_nvfp4.kblock_ns", "ns", 0, 1e5, 60, SAME, "one tile: shortest time of 128 bytes of k") \
    X(NVFP4_LOAD_NS,         "gemm_nvfp4.load_ns", "ns", 0, 1e5, 60, SAME, "the same, more per 256 rows and columns of the tile") \
    X(NVFP4_EFF,             "gemm_nvfp4.eff", "", 0.05, 1.3, 0.7, SAME, "share of the nominal FP4 rate of one SM while few SMs run") \
    X(NVFP4_HBM_EFF,         "gemm_nvfp4.hbm_eff", "", 0.05, 1.2, 0.8, SAME, "share of nominal HBM bandwidth over operands and result") \
    X(NVFP4_CORNER,          "gemm_nvfp4.corner", "", 1, 16, 1.5, SAME, "how sharply SM time and HBM time add: (a^c + b^c)^(1/c)") \
    X(GEMM_POWER_DROP,       "gemm.power_drop", "", 0, 0.9, 0.13, SAME, "dense GEMM: how much slower an SM is when all run") \
    X(QUANT_FIXED_US,        "gemm.quant_us", "us", 0, 1000, 1.5, SAME, "activation quantisation in front of an FP8 GEMM") \
    X(QUANT_HBM_EFF,         "gemm.quant_hbm_eff", "", 0.02, 2, 0.5, SAME, "the same: share of nominal HBM bandwidth") \
    X(MASKED_FIXED_US,       "grouped.masked_fixed_us", "us", 0, 1000, 4, SAME, "grouped GEMM, masked layout: start and drain") \
    X(MASKED_TILE_NS,        "grouped.masked_tile_ns", "ns", 0, 1e5, 1500, SAME, "one tile: prologue and epilogue") \
    X(MASKED_KBLOCK_NS,      "grouped.masked_kblock_ns", "ns", 0, 1e5, 100, SAME, "one tile: shortest time of 128 bytes of k") \
    X(MASKED_LOAD_NS,        "grouped.masked_load_ns", "ns", 0, 1e5, 50, SAME, "the same, more per 256 rows and columns of the tile") \
    X(MASKED_EFF,            "grouped.masked_eff", "", 0.05, 1.3, 0.9, SAME, "share of the nominal rate of one SM while few SMs run") \
    X(MASKED_HBM_EFF,        "grouped.masked_hbm_eff", "", 0.05, 1.2, 0.85, SAME, "share of nominal HBM bandwidth while streaming weights") \
    X(CONTIG_FIXED_US,       "grouped.contiguous_fixed_us", "us", 0, 1000, 12, SAME, "grouped GEMM, contiguous layout: start and drain") \
    X(CONTIG_TILE_NS,        "grouped.contiguous_tile_ns", "ns", 0, 1e5, 880, SAME, "one tile: prologue and epilogue") \
    X(CONTIG_KBLOCK_NS,      "grouped.contiguous_kblock_ns", "ns", 0, 1e5, 200, SAME, "one tile: shortest time of 128 bytes of k") \
    X(CONTIG_LOAD_NS,        "grouped.contiguous_load_ns", "ns", 0, 1e5, 46, SAME, "the same, more per 256 rows and columns of the tile") \
    X(CONTIG_EFF,            "grouped.contiguous_eff", "", 0.05, 1.3, 0.85, SAME, "share of the nominal rate of one SM while few SMs run") \
    X(CONTIG_HBM_EFF,        "grouped.contiguous_hbm_eff", "", 0.05, 1.2, 0.8, SAME, "share of nominal HBM bandwidth while streaming weights") \
    X(MASKED_CORNER,         "grouped.masked_corner", "", 1, 20, 3.4, SAME, "how sharply SM time and HBM time of a wave add: (a^c + b^c)^(1/c)") \
    X(MASKED_EFF64,         "grouped.masked_eff64", "", 0.05, 1.3, 0.65, SAME, "tiles of 64 rows: share of the nominal rate of one SM") \
    X(MASKED_SM_GBPS,       "grouped.masked_sm_GBps", "GB/s", 1, 1000, 85, SAME, "masked layout: most HBM bandwidth that one SM draws") \
    X(CONTIG_CORNER,        "grouped.contiguous_corner", "", 1, 20, 3, SAME, "contiguous layout: how sharply SM time and HBM time of a wave add") \
    X(CONTIG_SM_GBPS,       "grouped.contiguous_sm_GBps", "GB/s", 1, 1000, 96, SAME, "contiguous layout: most HBM bandwidth that one SM draws") \
    X(DEEPGEMM_BF16_GAIN,   "grouped.deepgemm_bf16_gain", "", 0.3, 3, 1.08, SAME, "tile rule 0: BF16: share of the nominal rate, above that of FP8") \
    X(GROUPED_ENGINE_US,    "grouped.engine_us", "us", 0, 1000, 0, SAME, "what an engine's masked expert layer takes besides its three kernels (scales laid out anew); only measured layers of engines count it") \
    X(GROUPED_START_US,     "grouped.engine_start_us", "us", 0, 10000, 150, SAME, "an engine's contiguous expert layer launched kernel by kernel: before its GEMMs run; only measured layers of engines count it") \
    X(GROUPED_HOST_US,      "grouped.engine_host_us", "us", 0, 10000, 350, SAME, "the same: what the host takes to launch it, however short its kernels are") \
    X(GROUPED_SUSTAINED,    "grouped.sustained", "", 0.3, 1, 0.79, SAME, "rate of the tensor cores under sustained load (over 70 ms, as in prefill), of that in bursts") \
    X(MASKED_GROUP_NS,       "grouped.masked_group_ns", "ns", 0, 1e5, 63, SAME, "masked layout: each group, with rows or without") \
    X(MASKED_PAIR,           "grouped.masked_pair", "", 0.5, 4, 1.15, SAME, "masked layout: tiles of CTAs in clusters of two take so many times as long, besides the loads they share") \
    X(MASKED_REREAD,         "grouped.masked_reread", "", 0, 1, 0.3, SAME, "masked layout: share of the weights that come from HBM again for an expert's second block of rows, where no cluster shares them") \
    X(GROUPED_TILE_RULE,    "grouped.tile_rule", "", 0, 3, 0, SAME, "which tile a grouped GEMM takes: 0 DeepGEMM's rule, 1 the validator's own kernel up to 2026-11-21, 2 with halved tiles, 3 also with tiles by each expert's rows") \
    X(GROUPED_BF16_GAIN,    "grouped.bf16_gain", "", 0, 1, 0.05, SAME, "tile rule 1 to 3: BF16, which needs no scales, comes this much nearer to its nominal rate") \
    X(GROUPED_COUNTED_LOSS, "grouped.counted_loss", "", 0, 2, 0.05, SAME, "tile rule 1 to 3: tiles that are counted when done take this much longer") \
    X(GROUPED_LOW_LOSS,     "grouped.low_loss", "", 0, 2, 0.05, SAME, "tile rule 3: tiles of 64 rows, whose products are narrow, take this much longer") \
    X(GROUPED_MIXED_LOSS,   "grouped.mixed_loss", "", 0, 1, 0.05, SAME, "tile rule 3: tiles of experts with many rows take this much longer beside others with few") \
    X(GROUPED_SPLIT_LOSS,   "grouped.split_loss", "", 0, 1, 0.05, SAME, "tile rule 2, FP8: a kernel that may halve tiles takes this much longer for whole ones") \
    X(GROUPED_POWER_DROP,    "grouped.power_drop", "", 0, 0.9, 0.13, SAME, "tile rules 1 to 3: how much slower an SM is when all run") \
    X(ACT_FIXED_US,        "act.fixed_us",        "us",      0, 1000,  2.0,         SAME, "SiLU*mul and quantisation: start and drain") \
    X(ACT_HBM_EFF,         "act.hbm_eff",         "",        0.02, 4,  0.6,         SAME, "share of nominal HBM bandwidth") \
    X(ACT_GATHER_EFF,      "act.gather_eff",      "",        0, 4,     0,           SAME, "gathering experts' rows back to tokens: share of nominal HBM bandwidth; 0 = act.hbm_eff") \
    X(ACT_ROW_NS,          "act.row_ns",          "ns",      0, 1e5,   300,         SAME, "one CTA: one row besides its bytes") \
    X(ACT_GROUP_NS,        "act.group_ns",        "ns",      0, 1e5,   0,           SAME, "one expert besides its rows (where they lie)") \
    X(ACT_SM_GBPS,         "act.sm_GBps",         "GB/s",    0, 1000,  0,           SAME, "most that one SM moves in it; 0 = gpu.sm_hbm_GBps") \
    X(ROUTER_FIXED_US,     "router.fixed_us",     "us",      0, 1000,  4,           SAME, "top-k kernel of the router") \
    X(ROUTER_TOKEN_NS,     "router.token_ns",     "ns",      0, 1e5,   300,         SAME, "the same, one CTA: one token") \
    X(ATTN_FIXED_US,       "attn.fixed_us",       "us",      0, 1000,  4,           SAME, "attention core: start and drain") \
    X(ATTN_DECODE_HBM_EFF, "attn.decode_hbm_eff", "",        0.05, 1,  0.75,        SAME, "decode: share of nominal HBM bandwidth over the KV cache") \
    X(ATTN_DECODE_EFF,     "attn.decode_eff",     "",        0.02, 1,  0.6,         SAME, "decode: share of nominal BF16 rate") \
    X(ATTN_PREFILL_EFF,    "attn.prefill_eff",    "",        0.02, 1,  0.6,         SAME, "prefill: share of nominal BF16 rate") \
    X(ATTN_NORM_US,        "attn.norm_us",        "us",      0, 1000,  3,           SAME, "norms, rotary embedding, cache write beside the projections, besides their bytes") \
    X(INTERFERENCE_COMPUTE, "interference.compute", "",      1, 10,    1.03,        SAME, "a compute kernel beside a communication kernel is this much slower") \
    X(INTERFERENCE_COMM,   "interference.comm",   "",        1, 10,    1.05,        SAME, "a communication kernel beside a compute kernel is this much slower") \
    X(INTERFERENCE_COMM_GROUP, "interference.comm_group", "", 0, 5, 0.02,         SAME, "the same, more with the experts that one of its CTAs serves, to the power 0.8") \
    X(INTERFERENCE_LL_DISP_SEND, "interference.ll_dispatch_send", "", 0, 10, 0.2,   SAME, "ll.kernel_rule 0: a dispatch send on 16 CTAs beside a compute kernel is so much slower, in parts") \
    X(INTERFERENCE_LL_DISP_RECV, "interference.ll_dispatch_recv", "", 0, 10, 0.35,  SAME, "the same: a receive") \
    X(INTERFERENCE_LL_COMB_SEND, "interference.ll_combine_send", "", 0, 10, 0.4,    SAME, "the same: a combine send") \
    X(INTERFERENCE_LL_POWER, "interference.ll_power", "",    0, 8,     1.5,         SAME, "the same: by which power of 16 / CTAs that falls") \
    X(INTERFERENCE_UNPAIRED, "interference.unpaired", "",    0, 10,    0.6,         SAME, "a dispatch send's clusters beside a GEMM without clusters: so much slower again") \
    X(INTERFERENCE_PLACE,  "interference.place",  "",        0, 10,    0.18,        SAME, "a grouped GEMM that begins beside a low-latency kernel on 16 CTAs takes so much longer, in parts, to its end") \
    X(INTERFERENCE_A2A,    "interference.a2a",    "",        1, 10,    1.05,        SAME, "a library all-to-all, packing included, beside a compute kernel is this much slower") \
    X(INTERFERENCE_A2A_COMPUTE, "interference.a2a_compute", "", 1, 10, 1.03,       SAME, "a compute kernel beside a library all-to-all is this much slower") \
    X(INTERFERENCE_SMS_POWER, "interference.sms_power", "",  0.1, 16, 2.4,         SAME, "ll.kernel_rule 1: by which power of its share of the SMs a compute kernel stretches memory latency") \
    X(INTERFERENCE_HBM_POWER, "interference.hbm_power", "",  0.1, 16, 4,           SAME, "the same: by which power of its share of HBM bandwidth") \
    X(INTERFERENCE_DISP_SEND, "interference.dispatch_send", "", 0, 20, 1.5,        SAME, "the same: dispatch sends are so much slower, in parts, beside one that has both whole") \
    X(INTERFERENCE_DISP_RECV, "interference.dispatch_recv", "", 0, 20, 1.5,        SAME, "the same: dispatch receives") \
    X(INTERFERENCE_COMB_SEND, "interference.combine_send", "", 0, 20, 1.8,         SAME, "the same: combine sends") \
    X(INTERFERENCE_COMB_RECV, "interference.combine_recv", "", 0, 20, 1.8,         SAME, "the same: combine receives") \
    X(ERROR_LOW_LATENCY,     "error.low_latency", "", 0.1, 10, 1, SAME, "low-latency kernels take so much longer than their law says: 1, and drawn for intervals") \
    X(ERROR_EXCHANGE,        "error.exchange", "", 0.1, 10, 1, SAME, "the same: other exchanges") \
    X(ERROR_GROUPED,         "error.grouped", "", 0.1, 10, 1, SAME, "the same: grouped GEMMs") \
    X(ERROR_DENSE,           "error.dense", "", 0.1, 10, 1, SAME, "the same: dense GEMMs") \
    X(ERROR_ATTENTION,       "error.attention", "", 0.1, 10, 1, SAME, "the same: attention cores") \
    X(ERROR_COLLECTIVE,      "error.collective", "", 0.1, 10, 1, SAME, "the same: collectives") \
    X(ERROR_ROWWISE,         "error.rowwise", "", 0.1, 10, 1, SAME, "the same: activations and permutes") \
    X(ERROR_SCHEDULE,        "error.schedule", "", 0.1, 10, 1, SAME, "the same: a layer that overlaps, beside one that does not")
/* clang-format on */

enum hw_field_id {
#define HW_FIELD_ENUM(id, path, unit, min, max, def, scale, help) HW_##id,
    HW_FIELDS(HW_FIELD_ENUM)
#undef HW_FIELD_ENUM
        HW_FIELD_COUNT
};

#endif
