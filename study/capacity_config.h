/* study/capacity_config.h: the question of `peosim capacity`: traffic, promises, what may be
 * bought. Keys of its own (lists where it says so), and every scenario key of study/config.h but
 * those that the search chooses: batch, phase, cluster.profile, cluster.nodes, lengths. */
#ifndef PEOSIM_STUDY_CAPACITY_CONFIG_H
#define PEOSIM_STUDY_CAPACITY_CONFIG_H

#include "study/config.h"

enum { POOLS_SEPARATE, POOLS_SHARED, POOLS_EITHER };
enum { CAPACITY_MAX_LIST = 64 };

struct capacity_list {
    int v[CAPACITY_MAX_LIST], n;
};

struct capacity_gpu {
    char *profile;
    double usd_per_hour; /* of one GPU; from the file, else from the profile */
    int line;
};

struct capacity_policy {
    const struct policy *policy;
    struct knobs knobs;
    int line;
};

struct capacity_numbers {
    int isl, osl; /* mean prompt and answer, tokens */
    double requests_s, tokens_s;
    double ttft_ms, tpot_ms, percentile;
    int max_nodes, pools, draft_tokens, draws;
    bool mix_gpus;
    double acceptance, reserve_GB, utilization, step_overhead_us, prefix_hit;
};

struct capacity_config {
    char *path, *name;
    char hash[65];
    struct scenario base;
    struct capacity_numbers num; /* requests_s is set even where the file gives tokens_s */
    struct capacity_gpu gpus[CAPACITY_MAX_LIST];
    int num_gpus;
    struct capacity_list decode_ep, decode_batch, prefill_ep, prefill_tokens;
    struct capacity_policy policies[CAPACITY_MAX_LIST];
    int num_policies;
};

extern const struct opt capacity_options[], capacity_lists[];

/* sets: as config_read; lists with commas, usd_per_hour.h800=2, policies=none,tbo. Every mistake is
 * one line with file and line: ERR_CONFIG, ERR_RANGE, ERR_PARSE, ERR_NOTFOUND, ERR_USAGE. */
int capacity_config_read(const char *path, const char *const *sets, size_t num_sets,
                         struct capacity_config **out);
void capacity_config_free(struct capacity_config *c); /* accepts NULL */

#endif
