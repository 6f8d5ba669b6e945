/* model/routing_array.h: recorded routing that comes as an array: NumPy's .npy files, and JSON. */
#ifndef PEOSIM_MODEL_ROUTING_ARRAY_H
#define PEOSIM_MODEL_ROUTING_ARRAY_H

#include <stdbool.h>
#include <stddef.h>

struct plan_routing;
struct routing_spec;

#define ROUTING_MAX_DIMS 4

struct routing_array {
    int dims;
    size_t shape[ROUTING_MAX_DIMS];
    double *value;  /* the last index runs fastest; owned */
    bool one_layer; /* the layer that was asked for is all it holds */
};
void routing_array_free(struct routing_array *a);

bool routing_is_npy(const char *text, size_t len);
/* Whole numbers and floats of any size, little-endian, C order. ERR_PARSE, ERR_NOMEM; logged. */
int routing_npy_read(const char *text, size_t len, const char *path, struct routing_array *out);

bool routing_is_json(const char *text, size_t len);
/* Nested lists; or a map that holds them under a name that SGLang, vLLM or EPLB use
 * (logical_count, expert_load, weight, topk_ids ...; with physical_to_logical_map, loads of
 * physical experts are summed); or a map of layers: "3": [counts] or "3": {"0": count}. Errors as
 * above. */
int routing_json_read(const char *text, size_t len, const char *path,
                      const struct routing_spec *spec, int experts, struct routing_array *out);

#endif
