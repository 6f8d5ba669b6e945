/* base/doc.h: a YAML or JSON file as a tree that remembers the line of every node.
 *
 * Reading is bounded: at most DOC_MAX_BYTES of input, DOC_MAX_NODES nodes, DOC_MAX_DEPTH levels;
 * YAML aliases, anchors, tags and second documents are refused (no bombs), duplicate keys are an
 * error. JSON (a name that ends in .json) goes through jansson, YAML through libyaml. Every failure
 * is logged once with file and line. */
#ifndef PEOSIM_BASE_DOC_H
#define PEOSIM_BASE_DOC_H

#include <stdbool.h>
#include <stddef.h>

#define DOC_MAX_BYTES (8u << 20)
#define DOC_MAX_NODES 1000000
#define DOC_MAX_DEPTH 64

enum doc_type { DOC_SCALAR, DOC_LIST, DOC_MAP };

struct doc_node {
    enum doc_type type;
    int line;               /* 1-based; inside a map: the line of its key */
    const char *key;        /* inside a map: its key; else NULL */
    const char *text;       /* scalar: its text (no type guessing); NULL for a null scalar */
    bool quoted;            /* scalar: was a quoted string */
    struct doc_node *child; /* list, map: first */
    struct doc_node *next;  /* sibling */
    int num_children;
};

struct doc {
    char *path; /* as the user named it, for messages */
    struct doc_node *root;
    void *arena; /* owns all nodes and strings */
};

/* ERR_NOTFOUND, ERR_IO, ERR_PARSE, ERR_RANGE (too big), ERR_NOMEM. */
int doc_read(const char *path, struct doc **out);
int doc_parse_yaml(const char *text, size_t len, const char *name, struct doc **out);
int doc_parse_json(const char *text, size_t len, const char *name, struct doc **out);
void doc_free(struct doc *doc); /* accepts NULL */

/* The child with that key, or NULL. Only for maps. */
const struct doc_node *doc_get(const struct doc_node *map, const char *key);
/* Numbers as users write them; 0 or ERR_PARSE, silent (the caller words the message). Accepts 1e6,
 * and 1_000 is refused; NaN and infinities are refused. */
int doc_to_double(const struct doc_node *node, double *out);
int doc_to_int(const struct doc_node *node, long long *out);
int doc_to_bool(const struct doc_node *node, bool *out); /* true/false/yes/no/on/off */

#endif
