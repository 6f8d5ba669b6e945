#include "model/moe_read.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

void moe_scope_add(struct moe_reader *r, const struct doc_node *map)
{
    if (map && map->type == DOC_MAP && r->num_scopes < MOE_MAX_SCOPES)
        r->scope[r->num_scopes++] = map;
}

static void scopes_find(struct moe_reader *r)
{
    static const char *const nested[] = {"text_config", "language_config", "llm_config"};
    const struct doc_node *root = r->doc->root, *thinker = doc_get(root, "thinker_config");

    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++) {
        moe_scope_add(r, doc_get(root, nested[i]));
        moe_scope_add(r, doc_get(thinker, nested[i]));
    }
    moe_scope_add(r, root);
    for (int i = 0, n = r->num_scopes; i < n; i++) {
        moe_scope_add(r, doc_get(r->scope[i], "ffn_config"));
        moe_scope_add(r, doc_get(r->scope[i], "attn_config"));
    }
}

void moe_reader_open(struct moe_reader *r, const struct doc *doc, const struct doc *quant,
                     const char *ignore, struct moe_model *m)
{
    const char *type;

    *r = (struct moe_reader){.doc = doc, .quant = quant, .ignore = ignore ? ignore : "", .m = m};
    if (doc->root->type != DOC_MAP)
        return;
    scopes_find(r);
    type = moe_string(r, "model_type");
    snprintf(r->type, sizeof r->type, "%s", type ? type : "");
}

void moe_reader_close(struct moe_reader *r)
{
    free(r->used);
}

static void mark(struct moe_reader *r, const struct doc_node *node)
{
    if (r->num_used == r->cap_used) {
        size_t cap = r->cap_used ? 2 * r->cap_used : 256;
        const struct doc_node **used = realloc(r->used, cap * sizeof *used);

        if (!used) {
            r->err = ERR_NOMEM;
            return;
        }
        r->used = used;
        r->cap_used = cap;
    }
    r->used[r->num_used++] = node;
}

/* The next of "a|b|c" in name; false after the last. */
static bool name_next(const char **names, char name[64])
{
    size_t len;

    if (!*names || !**names)
        return false;
    len = strcspn(*names, "|");
    snprintf(name, 64, "%.*s", (int)len, *names);
    *names += len + ((*names)[len] == '|');
    return true;
}

const struct doc_node *moe_find(struct moe_reader *r, const char *names)
{
    const struct doc_node *found = NULL;
    char name[64];

    for (int i = 0; i < r->num_scopes; i++)
        for (const char *at = names; name_next(&at, name);) {
            const struct doc_node *node = doc_get(r->scope[i], name);

            if (!node)
                continue;
            mark(r, node);
            if (!found && (node->type != DOC_SCALAR || node->text))
                found = node;
        }
    return found;
}

bool moe_type_is(const struct moe_reader *r, const char *start)
{
    return !strncmp(r->type, start, strlen(start));
}

bool moe_ignored(const struct moe_reader *r, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = r->ignore; *at;) {
        size_t n = strcspn(at, ", ");

        if (n == len && !strncmp(at, name, n))
            return true;
        at += n + (at[n] != '\0');
    }
    return false;
}

static int number(const struct moe_reader *r, const struct doc_node *node, const char *key,
                  const struct moe_ask *ask, int *out)
{
    long long v;

    if (doc_to_int(node, &v))
        return moe_fault(r, node, "%s is not a whole number", key);
    if (v < ask->min || v > ask->max)
        return moe_fault(r, node, "%s is %lld, outside %d..%d", key, v, ask->min, ask->max);
    *out = (int)v;
    return 0;
}

/* A list: one number for each layer, or the same number however often. */
static int numbers(struct moe_reader *r, const struct doc_node *node, const struct moe_ask *ask,
                   int layers, struct moe_num *out)
{
    bool each = layers > 0 && node->num_children == layers, differ = false;
    int rc = 0, i = 0, first = 0, v = 0;

    if (each && !(out->each = malloc((size_t)layers * sizeof *out->each)))
        return ERR_NOMEM;
    for (const struct doc_node *c = node->child; c && !rc; c = c->next, i++) {
        rc = number(r, c, node->key, ask, &v);
        first = i ? first : v;
        differ = differ || v != first;
        out->value = v > out->value || !i ? v : out->value;
        if (each)
            out->each[i] = v;
    }
    if (!rc && !i)
        rc = moe_fault(r, node, "%s is not a whole number", node->key);
    if (!rc && differ && !each)
        rc = moe_fault(r, node, "%s lists %d numbers that differ, but there are %d layers",
                       node->key, i, layers);
    if (!rc && !differ) {
        free(out->each);
        out->each = NULL;
    }
    return rc;
}

/* Another name for the same thing in the same map must say the same. */
static int aliases_agree(struct moe_reader *r, const struct moe_ask *ask,
                         const struct doc_node *node)
{
    char name[64];
    long long a, b;

    if (doc_to_int(node, &a))
        return 0;
    for (int i = 0; i < r->num_scopes; i++) {
        if (doc_get(r->scope[i], node->key) != node)
            continue;
        for (const char *at = ask->names; name_next(&at, name);) {
            const struct doc_node *other = doc_get(r->scope[i], name);

            if (other && !doc_to_int(other, &b) && b != a)
                return moe_fault(r, other, "%s is %lld, but another key, %s, says %lld", name, b,
                                 node->key, a);
        }
    }
    return 0;
}

int moe_num(struct moe_reader *r, const struct moe_ask *ask, int layers, struct moe_num *out)
{
    const struct doc_node *node = moe_find(r, ask->names);
    int rc;

    *out = (struct moe_num){.value = ask->def, .node = node};
    if (!node && ask->def == MOE_REQUIRED)
        return moe_fault(r, NULL, "%s is missing; looked for %s", ask->what, ask->names);
    if (!node)
        return 0;
    if (node->type == DOC_LIST)
        rc = numbers(r, node, ask, layers, out);
    else
        rc = number(r, node, node->key, ask, &out->value);
    if (!rc)
        rc = aliases_agree(r, ask, node);
    if (!rc)
        moe_says(r, "%s: %d%s (%s, line %d)", ask->what, out->value,
                 out->each ? " at most, by layer" : "", node->key, node->line);
    return rc;
}

int moe_int(struct moe_reader *r, const struct moe_ask *ask, int *out)
{
    struct moe_num n;
    int rc = moe_num(r, ask, 0, &n);

    *out = n.value;
    return rc;
}

int moe_bool(struct moe_reader *r, const char *names, bool def, bool *out)
{
    const struct doc_node *node = moe_find(r, names);

    *out = def;
    if (node && doc_to_bool(node, out))
        return moe_fault(r, node, "%s is neither true nor false", node->key);
    if (node)
        moe_says(r, "%s: %s (line %d)", node->key, *out ? "true" : "false", node->line);
    return 0;
}

const char *moe_string(struct moe_reader *r, const char *names)
{
    const struct doc_node *node = moe_find(r, names);

    return node && node->type == DOC_SCALAR ? node->text : NULL;
}

int moe_fault(const struct moe_reader *r, const struct doc_node *node, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_error_at(r->doc->path, node ? node->line : 0, "%s", text);
    return ERR_CONFIG;
}

static void line_add(struct moe_reader *r, char **all, const char *fmt, va_list ap)
{
    char line[512], *longer;

    vsnprintf(line, sizeof line, fmt, ap);
    if (asprintf(&longer, "%s%s\n", *all ? *all : "", line) < 0) {
        r->err = ERR_NOMEM;
        return;
    }
    free(*all);
    *all = longer;
}

void moe_says(struct moe_reader *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    line_add(r, &r->m->read, fmt, ap);
    va_end(ap);
}

void moe_note(struct moe_reader *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    line_add(r, &r->m->notes, fmt, ap);
    va_end(ap);
}
