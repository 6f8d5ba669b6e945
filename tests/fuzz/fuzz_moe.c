/* Model files from any bytes: what is read must be a model that plans can be made of. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/moe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_model *m;

    if (moe_model_parse((const char *)data, size, "fuzz.json", &m) == 0) {
        if (m->topk < 1 || m->topk > m->experts || m->hidden < 1 || m->inter < 1 ||
            m->experts % m->n_group != 0 || m->moe_layers < 1 || m->moe_layers > m->num_layers)
            abort();
        if (!isfinite(moe_params_total(m)) || moe_params_active(m) <= 0)
            abort();
    }
    moe_model_free(m);
    return 0;
}
