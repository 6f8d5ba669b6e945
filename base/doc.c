#include "base/doc.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>
#include <yaml.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"

struct doc_builder {
    const char *name;
    struct arena *arena;
    int num_nodes;
};

static int doc_node_new(struct doc_builder *b, enum doc_type type, int line, int depth,
                        struct doc_node **out)
{
    struct doc_node *n;

    if (depth > DOC_MAX_DEPTH) {
        log_error_at(b->name, line, "nested deeper than %d levels", DOC_MAX_DEPTH);
        return ERR_RANGE;
    }
    if (++b->num_nodes > DOC_MAX_NODES) {
        log_error_at(b->name, line, "more than %d values", DOC_MAX_NODES);
        return ERR_RANGE;
    }
    n = arena_alloc(b->arena, sizeof *n);
    if (!n)
        return ERR_NOMEM;
    n->type = type;
    n->line = line;
    *out = n;
    return 0;
}

static int doc_copy_text(struct doc_builder *b, const char *text, size_t len, int line,
                         const char **out)
{
    if (memchr(text, '\0', len)) {
        log_error_at(b->name, line, "a text holds a NUL character");
        return ERR_PARSE;
    }
    *out = arena_copy(b->arena, text, len);
    return *out ? 0 : ERR_NOMEM;
}

static struct doc_node **doc_append(struct doc_node *parent, struct doc_node **tail,
                                    struct doc_node *child)
{
    *tail = child;
    parent->num_children++;
    return &child->next;
}

static int doc_compare_keys(const void *a, const void *b)
{
    const struct doc_node *x = *(struct doc_node *const *)a, *y = *(struct doc_node *const *)b;
    int c = strcmp(x->key, y->key);

    return c ? c : (x->line > y->line) - (x->line < y->line);
}

/* By sorting: comparing all pairs would take hours on a hostile file. */
static int doc_check_keys(struct doc_builder *b, const struct doc_node *map)
{
    size_t n = 0;
    const struct doc_node **all;
    int rc = 0;

    if (map->num_children < 2)
        return 0;
    all = malloc((size_t)map->num_children * sizeof *all);
    if (!all)
        return ERR_NOMEM;
    for (const struct doc_node *c = map->child; c; c = c->next)
        all[n++] = c;
    qsort(all, n, sizeof *all, doc_compare_keys);
    for (size_t i = 1; i < n && rc == 0; i++) {
        if (strcmp(all[i - 1]->key, all[i]->key) == 0) {
            log_error_at(b->name, all[i]->line, "key '%.80s' appears twice (first on line %d)",
                         all[i]->key, all[i - 1]->line);
            rc = ERR_PARSE;
        }
    }
    free(all);
    return rc;
}

/* YAML: one event at a time, so nothing is expanded before it is counted. */

struct doc_yaml {
    struct doc_builder b;
    yaml_parser_t parser;
    yaml_event_t ev; /* the current one */
    const char *text;
};

static int doc_line_at(const char *text, size_t offset)
{
    int line = 1;

    for (size_t i = 0; i < offset; i++)
        line += text[i] == '\n';
    return line;
}

static int doc_yaml_error(struct doc_yaml *y)
{
    const yaml_parser_t *p = &y->parser;
    int line = (int)p->problem_mark.line + 1;

    if (p->error == YAML_MEMORY_ERROR)
        return ERR_NOMEM;
    if (p->error == YAML_READER_ERROR)
        line = doc_line_at(y->text, p->problem_offset);
    log_error_at(y->b.name, line, "not YAML: %s%s%s", p->context ? p->context : "",
                 p->context ? ": " : "", p->problem ? p->problem : "unreadable");
    return ERR_PARSE;
}

static int doc_yaml_advance(struct doc_yaml *y)
{
    yaml_event_delete(&y->ev);
    memset(&y->ev, 0, sizeof y->ev);
    return yaml_parser_parse(&y->parser, &y->ev) ? 0 : doc_yaml_error(y);
}

static int doc_yaml_refuse(struct doc_yaml *y, const char *what)
{
    log_error_at(y->b.name, (int)y->ev.start_mark.line + 1, "%s", what);
    return ERR_PARSE;
}

static bool doc_yaml_is_null(const char *text)
{
    return !text[0] || strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0;
}

static int doc_yaml_scalar(struct doc_yaml *y, struct doc_node *n)
{
    const char *text = (const char *)y->ev.data.scalar.value;
    size_t len = y->ev.data.scalar.length;

    n->quoted = y->ev.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (!n->quoted && doc_yaml_is_null(text))
        return 0;
    return doc_copy_text(&y->b, text, len, n->line, &n->text);
}

static int doc_yaml_value(struct doc_yaml *y, int depth, struct doc_node **out);

static int doc_yaml_list(struct doc_yaml *y, int depth, struct doc_node *list)
{
    struct doc_node **tail = &list->child, *child;
    int rc = doc_yaml_advance(y);

    while (rc == 0 && y->ev.type != YAML_SEQUENCE_END_EVENT) {
        rc = doc_yaml_value(y, depth + 1, &child);
        if (rc == 0) {
            tail = doc_append(list, tail, child);
            rc = doc_yaml_advance(y);
        }
    }
    return rc;
}

static int doc_yaml_pair(struct doc_yaml *y, int depth, struct doc_node **child)
{
    int line = (int)y->ev.start_mark.line + 1, rc;
    const char *key;

    if (y->ev.type != YAML_SCALAR_EVENT || y->ev.data.scalar.anchor || y->ev.data.scalar.tag)
        return doc_yaml_refuse(y, "a key must be plain text");
    rc = doc_copy_text(&y->b, (const char *)y->ev.data.scalar.value, y->ev.data.scalar.length, line,
                       &key);
    if (rc == 0)
        rc = doc_yaml_advance(y);
    if (rc == 0)
        rc = doc_yaml_value(y, depth + 1, child);
    if (rc == 0) {
        (*child)->key = key;
        (*child)->line = line;
    }
    return rc;
}

static int doc_yaml_map(struct doc_yaml *y, int depth, struct doc_node *map)
{
    struct doc_node **tail = &map->child, *child;
    int rc = doc_yaml_advance(y);

    while (rc == 0 && y->ev.type != YAML_MAPPING_END_EVENT) {
        rc = doc_yaml_pair(y, depth, &child);
        if (rc == 0) {
            tail = doc_append(map, tail, child);
            rc = doc_yaml_advance(y);
        }
    }
    return rc ? rc : doc_check_keys(&y->b, map);
}

/* The node that begins at the current event; leaves its last event current. */
static int doc_yaml_value(struct doc_yaml *y, int depth, struct doc_node **out)
{
    const yaml_event_t *ev = &y->ev;
    int line = (int)ev->start_mark.line + 1, rc;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    enum doc_type type = DOC_SCALAR;

    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        anchor = ev->data.scalar.anchor;
        tag = ev->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        type = DOC_LIST;
        anchor = ev->data.sequence_start.anchor;
        tag = ev->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        type = DOC_MAP;
        anchor = ev->data.mapping_start.anchor;
        tag = ev->data.mapping_start.tag;
        break;
    default:
        anchor = ev->data.alias.anchor;
        break;
    }
    if (anchor)
        return doc_yaml_refuse(y, "YAML anchors and aliases are not read: write the value out");
    if (tag)
        return doc_yaml_refuse(y, "YAML tags are not read");
    rc = doc_node_new(&y->b, type, line, depth, out);
    if (rc)
        return rc;
    if (type == DOC_LIST)
        return doc_yaml_list(y, depth, *out);
    return type == DOC_MAP ? doc_yaml_map(y, depth, *out) : doc_yaml_scalar(y, *out);
}

static int doc_yaml_document(struct doc_yaml *y, struct doc_node **root)
{
    int rc = doc_yaml_advance(y); /* stream start */

    if (rc == 0)
        rc = doc_yaml_advance(y);
    if (rc == 0 && y->ev.type == YAML_STREAM_END_EVENT)
        return doc_yaml_refuse(y, "the file is empty");
    if (rc == 0)
        rc = doc_yaml_advance(y);
    if (rc == 0)
        rc = doc_yaml_value(y, 1, root);
    if (rc == 0)
        rc = doc_yaml_advance(y); /* document end */
    if (rc == 0)
        rc = doc_yaml_advance(y);
    if (rc == 0 && y->ev.type != YAML_STREAM_END_EVENT)
        return doc_yaml_refuse(y, "a second YAML document in one file is not read");
    return rc;
}

static int doc_build_yaml(struct doc_builder *b, const char *text, size_t len,
                          struct doc_node **root)
{
    struct doc_yaml y = {.b = *b, .text = text};
    int rc;

    if (!yaml_parser_initialize(&y.parser))
        return ERR_NOMEM;
    yaml_parser_set_encoding(&y.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&y.parser, (const unsigned char *)text, len);
    rc = doc_yaml_document(&y, root);
    yaml_event_delete(&y.ev);
    yaml_parser_delete(&y.parser);
    return rc;
}

/* JSON: jansson checks and decodes but keeps no lines and no spelling of numbers, so a cursor
 * walks the (by then valid) text in step with its tree, whose objects keep the order of the file.
 */

struct doc_json {
    struct doc_builder b;
    const char *p, *end;
    int line;
};

static void doc_json_skip(struct doc_json *j)
{
    while (j->p < j->end && strchr(" \t\r\n,:", *j->p))
        j->line += *j->p++ == '\n';
}

static void doc_json_skip_string(struct doc_json *j)
{
    for (j->p++; j->p < j->end && *j->p != '"'; j->p++)
        j->p += *j->p == '\\';
    j->p += j->p < j->end;
}

static int doc_json_value(struct doc_json *j, json_t *v, int depth, struct doc_node **out);

static int doc_json_children(struct doc_json *j, json_t *v, int depth, struct doc_node *n)
{
    struct doc_node **tail = &n->child, *child;
    void *iter = json_object_iter(v);
    size_t count = n->type == DOC_MAP ? json_object_size(v) : json_array_size(v);
    int rc = 0;

    j->p++;
    for (size_t i = 0; i < count && rc == 0; i++) {
        const char *key = NULL;
        int line;
        doc_json_skip(j);
        line = j->line;
        if (n->type == DOC_MAP) {
            const char *k = json_object_iter_key(iter);
            rc = doc_copy_text(&j->b, k, strlen(k), line, &key);
            doc_json_skip_string(j);
        }
        if (rc == 0)
            rc = doc_json_value(j, iter ? json_object_iter_value(iter) : json_array_get(v, i),
                                depth + 1, &child);
        if (rc == 0) {
            child->key = key;
            child->line = line;
            tail = doc_append(n, tail, child);
        }
        iter = iter ? json_object_iter_next(v, iter) : NULL;
    }
    doc_json_skip(j);
    j->p += j->p < j->end;
    return rc;
}

static int doc_json_scalar(struct doc_json *j, json_t *v, struct doc_node *n)
{
    const char *start = j->p;

    if (json_is_string(v)) {
        doc_json_skip_string(j);
        n->quoted = true;
        return doc_copy_text(&j->b, json_string_value(v), json_string_length(v), n->line, &n->text);
    }
    while (j->p < j->end && !strchr(" \t\r\n,]}", *j->p))
        j->p++;
    if (json_is_null(v))
        return 0;
    return doc_copy_text(&j->b, start, (size_t)(j->p - start), n->line, &n->text);
}

static int doc_json_value(struct doc_json *j, json_t *v, int depth, struct doc_node **out)
{
    enum doc_type type = json_is_object(v) ? DOC_MAP : json_is_array(v) ? DOC_LIST : DOC_SCALAR;
    int rc;

    doc_json_skip(j);
    rc = doc_node_new(&j->b, type, j->line, depth, out);
    if (rc)
        return rc;
    if (type == DOC_SCALAR)
        return doc_json_scalar(j, v, *out);
    return doc_json_children(j, v, depth, *out);
}

/* Python writes Infinity, -Infinity and NaN, which JSON does not know: they become null and an
 * empty list, each in the room of its word. */
static void doc_json_tame(char *text, size_t len)
{
    static const struct {
        const char *word, *instead;
    } words[] = {{"-Infinity", "null     "}, {"Infinity", "null    "}, {"NaN", "[] "}};
    bool inside = false;

    for (size_t i = 0; i < len; i++) {
        if (inside && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            inside = !inside;
        for (size_t w = 0; !inside && i < len && w < sizeof words / sizeof *words; w++) {
            size_t n = strlen(words[w].word);

            if (len - i >= n && !memcmp(text + i, words[w].word, n))
                memcpy(text + i, words[w].instead, n);
        }
    }
}

static int doc_build_json(struct doc_builder *b, const char *raw, size_t len,
                          struct doc_node **root)
{
    char *text = malloc(len + 1);
    struct doc_json j = {.b = *b, .p = text, .end = text + len, .line = 1};
    json_error_t err;
    json_t *v = NULL;
    int rc = ERR_PARSE;

    if (!text)
        return ERR_NOMEM;
    memcpy(text, raw, len);
    text[len] = '\0';
    if (strspn(text, " \t\r\n") >= len) {
        log_error_at(b->name, 1, "the file is empty");
        goto out;
    }
    if (strlen(text) == len) /* jansson names the place of a NUL */
        doc_json_tame(text, len);
    v = json_loadb(strlen(text) == len ? text : raw, len, JSON_REJECT_DUPLICATES, &err);
    if (v && strlen(text) < len) /* where jansson let one pass between its tokens */
        log_error_at(b->name, 1, "not JSON: a NUL byte");
    else if (v)
        rc = doc_json_value(&j, v, 1, root);
    else
        log_error_at(b->name, err.line > 0 ? err.line : 1, "not JSON: %s", err.text);
out:
    json_decref(v);
    free(text);
    return rc;
}

typedef int doc_build_fn(struct doc_builder *b, const char *text, size_t len,
                         struct doc_node **root);

/* `text` is NUL-terminated. */
static int doc_build(const char *text, size_t len, const char *name, doc_build_fn *build,
                     struct doc **out)
{
    struct doc *doc = calloc(1, sizeof *doc);
    struct doc_builder b = {.name = name};
    int rc = ERR_NOMEM;

    if (!doc)
        goto out;
    doc->path = strdup(name);
    doc->arena = b.arena = arena_new();
    if (!doc->path || !b.arena)
        goto out;
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        len -= 3;
    }
    rc = build(&b, text, len, &doc->root);
out:
    if (rc) {
        if (rc == ERR_NOMEM)
            log_error_at(name, 0, "%s", err_text(rc));
        doc_free(doc);
        doc = NULL;
    }
    *out = doc;
    return rc;
}

static int doc_parse(const char *text, size_t len, const char *name, doc_build_fn *build,
                     struct doc **out)
{
    char *copy;
    int rc;

    *out = NULL;
    if (len > DOC_MAX_BYTES) {
        log_error_at(name, 0, "is too big: at most %u bytes are read", DOC_MAX_BYTES);
        return ERR_RANGE;
    }
    copy = malloc(len + 1);
    if (!copy)
        return ERR_NOMEM;
    if (len)
        memcpy(copy, text, len);
    copy[len] = '\0';
    rc = doc_build(copy, len, name, build, out);
    free(copy);
    return rc;
}

int doc_parse_yaml(const char *text, size_t len, const char *name, struct doc **out)
{
    return doc_parse(text, len, name, doc_build_yaml, out);
}

int doc_parse_json(const char *text, size_t len, const char *name, struct doc **out)
{
    return doc_parse(text, len, name, doc_build_json, out);
}

int doc_read(const char *path, struct doc **out)
{
    size_t len, n = strlen(path);
    bool json = n >= 5 && strcasecmp(path + n - 5, ".json") == 0;
    char *text;
    int rc;

    *out = NULL;
    rc = file_read(path, DOC_MAX_BYTES, &text, &len);
    if (rc)
        return rc;
    rc = doc_build(text, len, path, json ? doc_build_json : doc_build_yaml, out);
    free(text);
    return rc;
}

void doc_free(struct doc *doc)
{
    if (!doc)
        return;
    arena_free(doc->arena);
    free(doc->path);
    free(doc);
}

const struct doc_node *doc_get(const struct doc_node *map, const char *key)
{
    if (!map || map->type != DOC_MAP)
        return NULL;
    for (const struct doc_node *c = map->child; c; c = c->next) {
        if (strcmp(c->key, key) == 0)
            return c;
    }
    return NULL;
}

static const char *doc_plain_text(const struct doc_node *node)
{
    return node && node->type == DOC_SCALAR && !node->quoted ? node->text : NULL;
}

int doc_to_double(const struct doc_node *node, double *out)
{
    return num_double(doc_plain_text(node), out);
}

int doc_to_int(const struct doc_node *node, long long *out)
{
    return num_int(doc_plain_text(node), out);
}

int doc_to_bool(const struct doc_node *node, bool *out)
{
    return num_bool(doc_plain_text(node), out);
}
