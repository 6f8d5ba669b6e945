/* model/law/ffn_family.h: which measured kernel family prices an engine's fused expert layer.
 *
 * A family's name says what was measured: "ffn.<engine>-<kernel>.<weights>" (law/fused.h). Engines
 * choose among their kernels by trying them, so of an engine's own families for the type the
 * fastest is taken, and with them those whose kernels every engine has; where there is none, the
 * fastest of the others', and the answer is assumed.
 * Families of wide expert parallelism (their input is sorted already) and of experts without a gate
 * are left out. */
#ifndef PEOSIM_MODEL_LAW_FFN_FAMILY_H
#define PEOSIM_MODEL_LAW_FFN_FAMILY_H

#include "hw/profile.h"
#include "model/law/fused.h"

struct law_ffn_family {
    const double *param; /* [LAW_FUSED_PARAMS] */
    enum plan_attn_engine engine;
    enum plan_dtype dtype;
    int rank;     /* among the type's: 0 = that type itself, above: what stands in for it */
    bool shared;  /* its kernels are in every engine */
    bool assumed; /* taken over from another GPU */
};

struct law_ffn_families {
    struct law_ffn_family *entry;
    int num;
};

/* The fused layers of a profile, which must outlive *out. ERR_NOMEM. */
int law_ffn_families_open(const struct hw_profile *p, struct law_ffn_families *out);
void law_ffn_families_close(struct law_ffn_families *f);

/* v: the profile's fields. *assumed: another engine's or type's law stands in, or the usual
 * values where the profile has no family at all. */
double law_ffn_us(const struct law_ffn_families *f, const double *v, enum plan_attn_engine engine,
                  const struct law_fused *in, bool *assumed);

#endif
