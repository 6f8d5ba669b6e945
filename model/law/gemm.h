/* model/law/gemm.h: grouped and dense GEMM, activation, router, attention.
 *
 * A GEMM is tiles of block_m x block_n, computed whole (padding included), dealt to the SMs in
 * waves; each tile costs a prologue and its k-blocks, and a k-block (128 bytes of k) takes the
 * longer of loading it and multiplying it at the SM's rate. Operands and result stream through HBM
 * meanwhile. Which tile a library picks follows its own rule: DeepGEMM's (law_deepgemm_tile for
 * grouped GEMMs, fewest waves for its older dense ones), vLLM's scaled FP8 by m, cuBLAS whatever is
 * fastest. docs/model/gemm.md has data, ranges and errors. */
#ifndef PEOSIM_MODEL_LAW_GEMM_H
#define PEOSIM_MODEL_LAW_GEMM_H

#include <stdint.h>

#include "model/law/law.h"

struct law_tile {
    int m, n;
    int sms;    /* CTAs launched: no more than the waves need */
    bool split; /* tiles of a last pass that leaves half of the CTAs idle or more are halved */
    bool mixed; /* experts of at most 64 rows have tiles of 64 x 256; the rest is of the others */
    int cluster_m, cluster_n; /* CTAs of a cluster that share loads by multicast; 0 = as 1 */
};

/* The older choice for SM90 (get_best_config of DeepGEMM 3f71de7): fewest waves, then the fullest
 * last wave. m: all rows. */
struct law_tile law_fewest_waves_tile(int m, int n, int sms);

struct law_grouped;
/* DeepGEMM's choice for SM90 as of 54e2261 (sm90.hpp of its heuristics): of all layouts that fit
 * shared memory the one with the fewest L1 or L2 cycles, stretched by idle SMs of the last wave;
 * clusters of two only where there are two waves. m: rows of one group as the caller expects them
 * (masked), all rows (contiguous). Equal to what DeepGEMM printed in every row of
 * deepgemm_h200_tiles.csv. */
struct law_tile law_deepgemm_tile(const struct law_grouped *in, int m);

/* Will DeepGEMM run it without clusters? It does where one wave takes all tiles; that is so where
 * its widest tiles fit into one. */
bool law_grouped_unclustered(int groups, int m, int n, int sms);

struct law_grouped {
    enum plan_gemm layout; /* GEMM_MASKED or GEMM_CONTIGUOUS */
    enum plan_dtype dtype; /* of the operands; the output is BF16 */
    const int32_t *rows;   /* [groups] */
    int groups, n, k;
    int expected_m; /* masked: rows per group the caller expects; 0 = their mean (tile rule 3:
                       the caller knows the rows of each) */
    int block_m;    /* the validator's kernel: rows of a tile, forced; 0 = its own choice */
    int sms, num_sms;
    const struct law_tile *tile; /* DeepGEMM's, chosen before; NULL = chosen here */
    struct law_memo *memo;       /* of choices, model/law/memo.h; NULL = none */
    bool sustained; /* the GPU has been busy for over 70 ms: tensor clocks have fallen */
};
/* The validator's own grouped GEMM by GROUPED_TILE_RULE, m rows expected in the fullest group. 1:
 * 128 columns; 64 rows up to 64 expected, 128 up to 128, beyond that 256 where its fewer tiles make
 * up for each taking 1.7 times as long. 2: the same (BF16: 1.6 times), but BF16's large tiles are
 * 128 x 256 where n allows, and the last pass's large tiles may be halved: kernels/tiles.h. 3: the
 * same, but a launch that knows each group's rows (expected_m 0) gives those of few rows tiles of
 * their own where others have more than 128. */
struct law_tile law_own_tile(int rule, const struct law_grouped *in, int m);
void law_grouped_work(const double *v, const struct law_grouped *in, struct cost_work *out);

/* What no GEMM of these laws passes: the nominal rate, or what a fitted one has above it. */
double law_most_TFLOPS(const double *v, enum plan_dtype dtype);
/* The least that these groups take in however many grouped GEMMs, on any SMs (plan/cost.h). Of
 * DeepGEMM's kernels by the tile that suits each group best; of others by FLOPs at nominal rate. */
void law_grouped_least(const double *v, const struct law_grouped *asked, struct cost_least *out);

struct hw_table;
enum law_dense_dtype {
    LAW_DENSE_BF16,
    LAW_DENSE_FP8,
    LAW_DENSE_FP8_BLOCK,
    LAW_DENSE_NVFP4,
    LAW_DENSE_COUNT
};

struct law_dense {
    enum law_dense_dtype dtype;
    int m, n, k;
    int sms, num_sms;
    const struct hw_table *table; /* dense_table.h; NULL = the law alone */
    bool quantise;                /* an activation quantisation kernel runs in front */
};
void law_dense_work(const double *v, const struct law_dense *in, struct cost_work *out);

/* Element-wise kernel over rows that moves `bytes` through HBM. */
void law_copy_work(const double *v, double rows, double bytes, int sms, struct cost_work *out);
/* The same for rows that are gathered back to tokens, at act.gather_eff of HBM's rate. */
void law_gather_work(const double *v, double rows, double bytes, int sms, struct cost_work *out);
/* The same: SiLU*mul of 2*inter BF16 to inter values of `dtype`, the rows of `groups` experts. */
void law_act_work(const double *v, double rows, int groups, int inter, enum plan_dtype dtype,
                  int sms, struct cost_work *out);
/* Element-wise kernels that run one after another beside an op and move `bytes` through HBM, at the
 * activation kernel's share of its bandwidth. Adds to *out's tail. */
void law_stream_add(const double *v, double bytes, int sms, struct cost_work *out);
/* Top-k selection over experts, behind the gate GEMM. Adds to *out's tail. */
void law_topk_add(const double *v, int tokens, int sms, struct cost_work *out);

struct law_attn {
    double rows;          /* query tokens on this rank */
    double context;       /* mean number of keys a query attends to */
    double heads;         /* on this rank */
    double qk_dim, v_dim; /* per head, as computed (absorbed MLA: the latent widths) */
    double kv_bytes;      /* read from the cache */
    bool prefill;
    int sms, num_sms;
};
void law_attn_work(const double *v, const struct law_attn *in, struct cost_work *out);

#endif
