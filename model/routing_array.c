#include "model/routing_array.h"

#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/doc.h"
#include "base/err.h"
#include "base/log.h"
#include "model/routing.h"

#define MAX_VALUES ((size_t)1 << 27)

void routing_array_free(struct routing_array *a)
{
    free(a->value);
    a->value = NULL;
}

static int refuse(const char *path, int line, const char *text)
{
    log_error_at(path, line, "%s", text);
    return ERR_PARSE;
}

/* 0 when there are more than anyone records. */
static size_t num_values(const struct routing_array *a)
{
    size_t n = 1;

    for (int i = 0; i < a->dims; i++) {
        if (a->shape[i] == 0 || a->shape[i] > MAX_VALUES / n)
            return 0;
        n *= a->shape[i];
    }
    return n;
}

bool routing_is_npy(const char *text, size_t len)
{
    return len > 10 && memcmp(text, "\x93NUMPY", 6) == 0;
}

/* "{'descr': '<i8', 'fortran_order': False, 'shape': (4096, 8), }" */
static int npy_header(const char *head, const char *path, struct routing_array *out, char *kind,
                      int *size)
{
    const char *descr = strstr(head, "'descr':"), *shape = strstr(head, "'shape':");
    char order;

    if (!descr || !shape || !(shape = strchr(shape, '(')) ||
        sscanf(descr, "'descr': '%c%c%d'", &order, kind, size) != 3)
        return refuse(path, 0, "an .npy file whose header is not understood");
    if (strstr(head, "'fortran_order': True"))
        return refuse(path, 0, "an .npy file in Fortran order; save it after np.ascontiguousarray");
    if (order == '>' || !strchr("iuf", *kind) || *size < 1 || *size > 8 ||
        (*size & (*size - 1)) != 0 || (*kind == 'f' && *size < 4))
        return refuse(path, 0,
                      "an .npy file of another type than (little-endian) int8 to int64, "
                      "uint8 to uint64, float32 or float64");
    for (shape++; isdigit((unsigned char)*shape); shape += *shape == ',', shape += *shape == ' ') {
        char *end;

        if (out->dims == ROUTING_MAX_DIMS)
            return refuse(path, 0, "an .npy file of more than four dimensions");
        out->shape[out->dims++] = strtoull(shape, &end, 10);
        shape = end;
    }
    return out->dims && *shape == ')' ? 0 : refuse(path, 0, "an .npy file without a shape");
}

static double npy_value(const char *at, char kind, int size)
{
    uint64_t bits = 0;
    double d;
    float f;

    memcpy(&bits, at, (size_t)size); /* little-endian hosts only, as the rest of the program */
    if (kind == 'f' && size == 4) {
        memcpy(&f, at, 4);
        return f;
    }
    if (kind == 'f') {
        memcpy(&d, at, 8);
        return d;
    }
    if (kind == 'i' && size < 8 && bits >> (8 * size - 1))
        bits |= ~0ull << (8 * size);
    return kind == 'i' ? (double)(int64_t)bits : (double)bits;
}

int routing_npy_read(const char *text, size_t len, const char *path, struct routing_array *out)
{
    const unsigned char *u = (const unsigned char *)text;
    size_t at = u[6] == 1 ? 10 : 12, head_len = u[8] | (size_t)u[9] << 8, n;
    char kind = 0, *head;
    int size = 0, rc;

    memset(out, 0, sizeof *out);
    if (u[6] > 1 && len > 12)
        head_len |= (size_t)u[10] << 16 | (size_t)u[11] << 24;
    if (len < at || head_len > len - at)
        return refuse(path, 0, "an .npy file that ends in its header");
    head = strndup(text + at, head_len);
    if (!head)
        return ERR_NOMEM;
    rc = npy_header(head, path, out, &kind, &size);
    free(head);
    if (rc)
        return rc;
    n = num_values(out);
    if (n == 0 || (len - at - head_len) / (size_t)size < n)
        return refuse(path, 0, "an .npy file whose shape and size do not go together");
    out->value = malloc(n * sizeof *out->value);
    if (!out->value)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        out->value[i] = npy_value(text + at + head_len + i * (size_t)size, kind, size);
    return 0;
}

bool routing_is_json(const char *text, size_t len)
{
    size_t i = 0;

    while (i < len && isspace((unsigned char)text[i]))
        i++;
    return i < len && (text[i] == '{' || text[i] == '[');
}

/* Depth and shape by the first of each list; filling checks that all are alike. */
static int json_shape(const struct doc_node *node, const char *path, struct routing_array *out)
{
    for (; node && node->type == DOC_LIST; node = node->child) {
        if (out->dims == ROUTING_MAX_DIMS)
            return refuse(path, node->line, "lists more than four deep");
        out->shape[out->dims++] = (size_t)node->num_children;
    }
    if (out->dims == 0 || num_values(out) == 0)
        return refuse(path, node ? node->line : 0, "no list of numbers, or an empty one");
    return 0;
}

static int json_fill(const struct doc_node *node, const char *path, struct routing_array *out,
                     int depth, size_t *at)
{
    int rc = 0;

    if (node->type != DOC_LIST)
        return doc_to_double(node, &out->value[(*at)++])
                   ? refuse(path, node->line, "not a number where one must be")
                   : 0;
    if ((size_t)node->num_children != out->shape[depth])
        return refuse(path, node->line, "a list of another length than those beside it");
    for (const struct doc_node *c = node->child; c && rc == 0; c = c->next) {
        if ((c->type == DOC_LIST) != (depth + 1 < out->dims) || c->type == DOC_MAP)
            return refuse(path, c->line, "lists of different depths");
        rc = json_fill(c, path, out, depth + 1, at);
    }
    return rc;
}

static int json_array(const struct doc_node *node, const char *path, struct routing_array *out)
{
    size_t at = 0;
    int rc = json_shape(node, path, out);

    if (rc)
        return rc;
    out->value = malloc(num_values(out) * sizeof *out->value);
    return out->value ? json_fill(node, path, out, 0, &at) : ERR_NOMEM;
}

/* Loads of physical experts -> of logical ones: [layers][physical] and a map of the same shape. */
static int sum_physical(const struct doc_node *map, const char *path, int experts,
                        struct routing_array *a)
{
    struct routing_array to = {0};
    size_t rows, cols = a->shape[a->dims - 1], logical = (size_t)experts;
    double *sum = NULL;
    int rc = json_array(map, path, &to);

    if (rc == 0 && (to.dims != 2 || a->dims < 2 || to.shape[1] != cols ||
                    to.shape[0] != a->shape[a->dims - 2]))
        rc = refuse(path, map->line, "physical_to_logical_map is not of the loads' shape");
    rows = rc == 0 ? num_values(a) / cols : 0;
    if (rc == 0 && !(sum = calloc(rows * logical, sizeof *sum)))
        rc = ERR_NOMEM;
    for (size_t i = 0; i < rows && rc == 0; i++)
        for (size_t j = 0; j < cols && rc == 0; j++) {
            double e = to.value[i % to.shape[0] * cols + j];

            if (!(e >= 0 && e < experts) || e != floor(e))
                rc = refuse(path, map->line,
                            "physical_to_logical_map names an expert that the "
                            "model does not have");
            else
                sum[i * logical + (size_t)e] += a->value[i * cols + j];
        }
    routing_array_free(&to);
    if (rc) {
        free(sum);
        return rc;
    }
    free(a->value);
    a->value = sum;
    a->shape[a->dims - 1] = logical;
    return 0;
}

/* {"3": [counts]} or {"3": {"0": count}}: one layer of a map of layers. */
static int json_layer(const struct doc_node *root, const char *path,
                      const struct routing_spec *spec, int experts, struct routing_array *out)
{
    const struct doc_node *layer = root->child;
    char name[32], *end;
    int rc = 0;

    snprintf(name, sizeof name, "%d", spec->layer);
    if (spec->layer >= 0)
        layer = doc_get(root, name);
    if (!layer || !isdigit((unsigned char)layer->key[0]))
        return refuse(path, layer ? layer->line : root->line,
                      layer ? "none of the names logical_count, expert_load, weight, topk_ids ... "
                              "and no number of a layer"
                            : "the layer asked for is not in it");
    out->one_layer = true;
    if (layer->type == DOC_LIST)
        return json_array(layer, path, out);
    if (layer->type != DOC_MAP)
        return refuse(path, layer->line, "a layer must be a list or a map of experts");
    out->dims = 1;
    out->shape[0] = (size_t)experts;
    out->value = calloc((size_t)experts, sizeof *out->value);
    if (!out->value)
        return ERR_NOMEM;
    for (const struct doc_node *c = layer->child; c && rc == 0; c = c->next) {
        long e = strtol(c->key, &end, 10);

        if (*end || end == c->key || e < 0 || e >= experts)
            rc = refuse(path, c->line, "this expert does not exist in the model");
        else if (c->type != DOC_SCALAR || doc_to_double(c, &out->value[e]))
            rc = refuse(path, c->line, "the count is not a number");
    }
    return rc;
}

int routing_json_read(const char *text, size_t len, const char *path,
                      const struct routing_spec *spec, int experts, struct routing_array *out)
{
    static const char *const names[] = {
        "logical_count", "expert_load",      "expert_loads",      "expert_count",
        "expert_counts", "weight",           "weights",           "load",
        "counts",        "topk_ids",         "topk_idx",          "physical_count",
        "physical_load", "expert_load_pass", "expert_load_window"};
    const struct doc_node *found = NULL, *map = NULL;
    struct doc *doc = NULL;
    int rc = doc_parse_json(text, len, path, &doc);

    memset(out, 0, sizeof *out);
    if (rc)
        return rc;
    if (doc->root->type == DOC_LIST)
        found = doc->root;
    for (size_t i = 0; !found && doc->root->type == DOC_MAP && i < sizeof names / sizeof *names;
         i++)
        found = doc_get(doc->root, names[i]);
    if (found) {
        rc = json_array(found, path, out);
        map = doc->root->type == DOC_MAP ? doc_get(doc->root, "physical_to_logical_map") : NULL;
        /* SGLang writes its map beside counts of logical experts too. */
        if (rc == 0 && map && map->type == DOC_LIST && found->key &&
            strcmp(found->key, "logical_count") != 0)
            rc = sum_physical(map, path, experts, out);
    } else if (doc->root->type == DOC_MAP) {
        rc = json_layer(doc->root, path, spec, experts, out);
    } else {
        rc = refuse(path, 1, "neither a list nor a map");
    }
    doc_free(doc);
    if (rc)
        routing_array_free(out);
    return rc;
}
