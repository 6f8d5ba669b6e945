/* YAML and JSON trees from any bytes. */
#include <stdint.h>
#include <stdlib.h>

#include "base/doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t fuzz_walk(const struct doc_node *n)
{
    size_t sum = 1;
    double d;
    long long i;
    bool b;

    doc_to_double(n, &d);
    doc_to_int(n, &i);
    doc_to_bool(n, &b);
    for (const struct doc_node *c = n->child; c; c = c->next)
        sum += fuzz_walk(c) + (c->key != NULL);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct doc *doc;

    if (doc_parse_yaml((const char *)data, size, "fuzz.yaml", &doc) == 0 && !fuzz_walk(doc->root))
        abort();
    doc_free(doc);
    if (doc_parse_json((const char *)data, size, "fuzz.json", &doc) == 0 && !fuzz_walk(doc->root))
        abort();
    doc_free(doc);
    return 0;
}
