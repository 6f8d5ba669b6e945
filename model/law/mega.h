/* model/law/mega.h: what the parts of a fused expert kernel take (DeepGEMM's MegaMoE; schedule and
 * block sizes: its scheduler and heuristics at 891d57b and 54e2261).
 *
 * A GEMM part is blocks of block_m x block_n, dealt to the CTAs one after another without a gap
 * between experts; a block takes tile_ns, and of each 128 bytes of k kblock_ns and the product of
 * its valid rows (whole sixteens) at the tensor cores' rate. Weights stream through HBM meanwhile:
 *     t = (sm^c + hbm^c)^(1/c)
 * Pulls and stores are bytes over NVLink by warps that compute nothing.
 *
 * On Hopper (pulls 323 and 383, and 36 of SGLang's fork) the products are WGMMA's, of 64 rows
 * however few are valid: blocks of 64 rows, of 128 where an expert has more than 64 on average; the
 * two launches each go through all local experts, and each shows its last pass whole. A block costs
 * what it does in DeepGEMM's masked GEMM, the same main loop. */
#ifndef PEOSIM_MODEL_LAW_MEGA_H
#define PEOSIM_MODEL_LAW_MEGA_H

#include <stdint.h>

#include "model/law/law.h"

/* Rules of three versions: pull 304 (April 2026), 316 (April) and 364 (June); and Hopper's. */
enum law_mega_rules { LAW_MEGA_304, LAW_MEGA_316, LAW_MEGA_364, LAW_MEGA_SM90 };
/* Architectures below this one (as CUDA names them) are Hopper's. */
enum { LAW_MEGA_BLACKWELL = 100 };

struct law_mega {
    enum law_mega_rules rules;
    enum plan_dtype dtype; /* of the weights; activations are FP8 but beside BF16 weights */
    const int32_t *rows;   /* [local]: of the local experts */
    int local, experts;    /* experts of this rank, of all */
    int hidden, inter, topk, tokens, ranks;
    int sms, num_sms;
};

/* Rows of a block, by the rows that an expert has on average over all ranks' tokens. */
int law_mega_block_m(enum law_mega_rules rules, double rows_per_expert);
/* Experts that a rank works through together: first all their gate+up blocks, then all their down
 * blocks. n_blocks: gate+up blocks across the columns of one expert. */
int law_mega_wave(enum law_mega_rules rules, const struct law_mega *in, int block_m, int n_blocks);
enum { LAW_MEGA_BLOCK_N = 128 };

struct law_mega_gemm {
    enum plan_dtype dtype;
    const int32_t *rows; /* [groups] */
    int groups, n, k;
    int block_m, block_n;
    int sms, num_sms;
};
/* `follows`: its rows are on their way while it runs: the last pass of blocks is its tail, behind
 * the last of them. */
void law_mega_gemm_work(const double *v, const struct law_mega_gemm *in, bool follows,
                        struct cost_work *out);
/* Dispatch warps pull rows; the first of them once all ranks have exchanged their counts: `open`
 * tokens to be quantised (0: not the first). */
void law_mega_pull_work(const double *v, int ranks, double open_tokens, bool first, int sms,
                        struct cost_work *out);
/* The second GEMM's epilogue stores rows into their owners' buffers. */
void law_mega_store_work(const double *v, int sms, struct cost_work *out);
/* The barrier after the last store, and the sum of topk rows of each token. */
void law_mega_reduce_work(const double *v, double tokens, int topk, int hidden, int sms,
                          struct cost_work *out);

/* The whole kernel on a rank whose peers have as many rows: its parts one after another where they
 * depend on each other, side by side else. What calibration compares with measured kernels; plans
 * are simulated part by part. */
double law_mega_alone_ns(const double *v, const struct law_mega *in);

#endif
