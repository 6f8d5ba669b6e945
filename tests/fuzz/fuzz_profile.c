/* Hardware profiles from any bytes: what reads must also copy, sample and be usable. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/doc.h"
#include "hw/profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct hw_profile *p)
{
    struct hw_profile *q = NULL;
    bool outside;

    for (int i = 0; i < HW_FIELD_COUNT; i++)
        if (!isfinite(p->f[i].value))
            abort();
    for (int i = 0; i < p->num_tables; i++)
        hw_table_at(&p->tables[i], 12345, &outside);
    if (hw_profile_sample(p, 1, &q) == 0)
        hw_profile_free(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hw_profile *p = NULL;
    struct doc *doc = NULL;

    if (doc_parse_yaml((const char *)data, size, "fuzz.yaml", &doc) == 0 &&
        hw_profile_parse(doc, &p) == 0)
        use(p);
    hw_profile_free(p);
    doc_free(doc);
    return 0;
}
