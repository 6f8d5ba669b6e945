/* model/law/attention.h: what attention and state-space modules cost.
 *
 * One mechanism for all kinds. The work is split into units (decode: KV heads of requests, each
 * with up to 64 query rows; prefill: tiles of query rows of a head; state kinds: heads of requests)
 * and every unit walks over blocks of keys. Units are dealt to the SMs in waves; a decode unit that
 * would leave SMs idle is split along its keys. Beside that, the cache streams through HBM, in part
 * from L2 where it fits. An indexer scores every key and selects. A whole module also reads its
 * projections' weights and runs over its tokens' activations; run without a CUDA graph it is never
 * faster than its host launches. docs/model/attention.md has formulas, data and errors.
 *
 * Parameters belong to one kernel family (kind, kernel, phase, type of the cache, ...) and stand in
 * a profile's table "attn.<family>": x is the parameter's number from 1, y its value. */
#ifndef PEOSIM_MODEL_LAW_ATTENTION_H
#define PEOSIM_MODEL_LAW_ATTENTION_H

#include "hw/profile.h"
#include "plan/attn.h"
#include "plan/cost.h"

/* id, name, smallest, largest and usual value, what it means. All positive. */
/* clang-format off */
#define LAW_ATTN_PARAMS(X) \
    X(FIXED,      "fixed_us",      0.1,   1000, 6,    "start, drain and every other fixed part, us") \
    X(UNIT,       "unit_us",       0.02,  100,  1.5,  "one wave of units besides its blocks, us") \
    X(BLOCK,      "block_us",      0.001, 10,   0.05, "one block of keys: latency, softmax, us") \
    X(EFF,        "tensor_eff",    0.02,  4,    0.6,  "share of the nominal tensor rate in a block") \
    X(HBM,        "hbm_eff",       0.05,  1.3,  0.75, "share of nominal HBM bandwidth over the cache") \
    X(CORNER,     "corner",        1,     12,   2,    "how sharply SM time and HBM time add") \
    X(WAVES,      "whole_waves",   0.01,  1,    0.5,  "0: units share SMs evenly, 1: in whole waves") \
    X(SLOTS,      "units_per_sm",  0.4,   4,    1,    "units that an SM runs side by side") \
    X(SPLIT,      "split_us",      0.001, 10,   0.4,  "per doubling of the parts a unit is split into, us") \
    X(L2,         "l2_share",      0.05,  2,    0.7,  "a cache below this share of L2 is read faster") \
    X(L2_TIME,    "l2_time",       0.1,   1,    0.8,  "the time that then takes, as a share") \
    X(CHAIN,      "chain_us",      0.01,  20,   0.8,  "state kinds: a chunk behind the one before it, us") \
    X(GATHER,     "gather",        0.001, 10,   0.05, "sparse prefill: HBM time of the whole cache, per nominal") \
    X(INDEX,      "index_eff",     0.005, 4,    0.3,  "indexer: share of the nominal tensor rate") \
    X(INDEX_CHAIN, "index_chain_us", 0.001, 100, 1,   "indexer: one row over 1024 keys, alone, us") \
    X(INDEX_ROW,  "index_row_us",  0.001, 100,  1,    "indexer: the same beside others: the SM's time, us") \
    X(INDEX_FIXED, "index_fixed_us", 0.01, 1000, 5,   "indexer: selection, once there are more keys than it selects, us") \
    X(INDEX_ALL,  "index_all",     0.0001, 10,  0.01, "indexer in prefill: HBM time of a score of every row for every request's keys, per nominal") \
    X(WEIGHTS,    "weights_eff",   0.05,  1.3,  0.6,  "module: share of HBM bandwidth over weights") \
    X(LINEAR,     "linear_eff",    0.02,  1.3,  0.6,  "module: share of the tensor rate in projections") \
    X(LIN_CORNER, "linear_corner", 1,     12,   2,    "module: how sharply those two add") \
    X(SIDE,       "side",          0.02,  30,   1.5,  "module: HBM time of activations, per nominal") \
    X(QUANT,      "quantise_us",   0.01,  100,  4,    "module with FP8 or FP4 weights: more, us") \
    X(QUANT_SIDE, "quantise_side", 0.01,  10,   0.5,  "the same: more activation traffic, as SIDE") \
    X(HOST,       "host_us",       1,     5000, 60,   "module without a graph, BF16 weights: host launches, us") \
    X(HOST_FP8,   "host_fp8_us",   1,     5000, 90,   "the same with FP8 weights") \
    X(HOST_FP4,   "host_fp4_us",   1,     8000, 120,  "the same with FP4 weights") \
    X(HOST_CORNER, "host_corner",  1,     12,   3,    "how sharply host and GPU time add") \
    X(TILE,       "tile_rows",     16,    256,  128,  "prefill: query rows of a unit") \
    X(PACK,       "pack",          1,     2,    1,    "prefill: 2 = heads of one KV head share a unit where that fills it better")
/* clang-format on */

enum law_attn_param {
#define LAW_ATTN_ENUM(id, name, lo, hi, usual, help) LAW_ATTN_##id,
    LAW_ATTN_PARAMS(LAW_ATTN_ENUM)
#undef LAW_ATTN_ENUM
        LAW_ATTN_PARAM_COUNT
};

struct law_attn_param_info {
    const char *name;
    double lo, hi, usual;
};
extern const struct law_attn_param_info law_attn_param_info[LAW_ATTN_PARAM_COUNT];

/* What of a module is asked for: the kernel alone, the module with its projections, or the short
 * convolution in front of a delta rule. */
enum law_attn_part { LAW_ATTN_CORE, LAW_ATTN_MODULE, LAW_ATTN_CONV };

struct law_attn_load {
    struct attn_shape shape; /* of one rank: heads already divided */
    enum law_attn_part part;
    bool prefill;
    bool expanded;                /* latent kinds in prefill: keys and values per head, all keys */
    double requests;              /* of this rank */
    double q_len, kv_len;         /* of each: tokens that ask, and keys with these included */
    double kv_bytes;              /* of one element of the cache */
    enum plan_dtype tensor_dtype; /* of scores and values */
    enum plan_dtype weight_dtype; /* of the projections */
    int sms;                      /* that the kernel may use; 0 = all */
};

/* Work in the law's units; depends on no parameter but the tile. */
struct law_attn_terms {
    double units, blocks, chain; /* units; blocks of keys of all; of the longest unit */
    double block_flops;          /* of one block, padding included */
    double bytes, io_bytes;      /* cache or state; queries and results */
    double cache_bytes;          /* sparse prefill: of all tokens, attended to or not */
    double index_flops, index_bytes, index_all_bytes;
    double index_rows, index_keys; /* rows that select among so many keys each */
    bool selects;                  /* more keys than are selected */
    double weight_bytes, linear_flops, side_bytes;
    bool quantised;
    bool split;   /* units may be split along their keys */
    double flops; /* of the core and the indexer, without padding */
};
void law_attn_terms(const struct law_attn_load *in, double tile, bool pack,
                    struct law_attn_terms *out);

/* Times in us; core, index and linear parts besides fixed. */
struct law_attn_time {
    double fixed, core, index, linear;
    double host;  /* of the module's launches */
    double gpu;   /* fixed + core + index + linear */
    double total; /* gpu limited by host; gpu where the part is no module run in prefill */
};
void law_attn_time(const double *v, const double *param, const struct law_attn_load *in,
                   const struct law_attn_terms *t, struct law_attn_time *out);
/* Both in one; total in us. */
double law_attn_us(const double *v, const double *param, const struct law_attn_load *in);

/* Does the law of this load use the parameter? Others keep their usual value. */
bool law_attn_uses(const struct law_attn_load *in, enum law_attn_param id);

/* The parameters of a family, or NULL: the profile holds none. */
const double *law_attn_family(const struct hw_profile *p, const char *family, bool *assumed);
/* The usual values: where fits start, and what stays where rows say nothing. */
void law_attn_usual(double *param);

#endif
