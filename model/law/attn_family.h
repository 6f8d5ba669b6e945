/* model/law/attn_family.h: which measured kernel family prices an attention module.
 *
 * A family's name says what was measured: "<kind>.<engine>-<kernel>.<phase>[.<cache>][.<more>]",
 * more: d128 a head's width, w_fp8 the type of the projections' weights, h7168 the model's hidden
 * size (a trailing s: layers that share an indexer's choice). Of those of the right kind and phase
 * the nearest is taken: type of the cache first, then the engine asked for, weights, widths. */
#ifndef PEOSIM_MODEL_LAW_ATTN_FAMILY_H
#define PEOSIM_MODEL_LAW_ATTN_FAMILY_H

#include "model/law/attention.h"

struct law_attn_family_entry {
    const struct hw_table *table;
    bool assumed; /* taken over from another GPU */
    bool prefill, module, expanded, shares_index, conv;
    enum attn_kind kind;
    bool csa; /* COMPRESSED with an indexer */
    enum plan_attn_engine engine;
    int rank;             /* among kernels of one engine: smaller is preferred */
    double cache_bytes;   /* of an element; 0 = keeps a state */
    int head_dim, hidden; /* 0 = any */
    bool weights_said;
    enum plan_dtype weights;
};

struct law_attn_families {
    struct law_attn_family_entry *entry;
    int num;
};

/* The attention tables of a profile, which must outlive *out. ERR_NOMEM. */
int law_attn_families_open(const struct hw_profile *p, struct law_attn_families *out);
void law_attn_families_close(struct law_attn_families *f);

/* The nearest family, or NULL: no data of this kind and phase, the usual values stand in. part
 * tells a convolution from the kernel behind it; a module's family is found with part CORE. Sets
 * in->expanded and in->part to what the family measured. *stands_in: it was measured with another
 * type of cache or weights, or for heads of another width. */
const struct law_attn_family_entry *law_attn_choose(const struct law_attn_families *f,
                                                    enum plan_attn_engine engine,
                                                    struct law_attn_load *in, bool *stands_in);

#endif
