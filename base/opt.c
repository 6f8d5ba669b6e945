#include "base/opt.h"

#include <assert.h>
#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/log.h"
#include "base/num.h"

#define OPT_MAX_WORD 63

/* Keys are written with '_' in files and often with '-' on the command line. */
static bool opt_same_key(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        if (*a != *b && !(*a == '-' && *b == '_') && !(*a == '_' && *b == '-'))
            return false;
    }
    return *a == *b;
}

const struct opt *opt_find(const struct opt *table, const char *key)
{
    for (; table->key; table++) {
        if (opt_same_key(table->key, key))
            return table;
    }
    return NULL;
}

/* Levenshtein, case ignored, both words at most OPT_MAX_WORD long. */
static int opt_distance(const char *a, const char *b)
{
    size_t n = strlen(b);
    int row[OPT_MAX_WORD + 1];

    for (size_t j = 0; j <= n; j++)
        row[j] = (int)j;
    for (size_t i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= n; j++) {
            int best =
                diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

const char *opt_nearest(const char *word, const char *const *names, size_t n)
{
    size_t len = strlen(word);
    const char *best = NULL;
    int best_d = len < 3 ? 2 : (int)(len / 3) + 2; /* beyond: not meant */

    if (len > OPT_MAX_WORD)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        const char *dot = strrchr(names[i], '.');
        int d;
        if (strlen(names[i]) > OPT_MAX_WORD)
            continue;
        d = opt_distance(word, names[i]);
        if (d > 1 && dot && opt_same_key(dot + 1, word))
            d = 1;
        if (d < best_d) {
            best_d = d;
            best = names[i];
        }
    }
    return best;
}

static int opt_unknown(const struct opt *table, const char *key, const char *file, int line)
{
    const char *near, **names;
    size_t n = 0;

    for (const struct opt *o = table; o->key; o++)
        n++;
    names = malloc((n + 1) * sizeof *names);
    if (!names)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        names[i] = table[i].key;
    near = opt_nearest(key, names, n);
    if (near)
        log_error_at(file, line, "unknown key '%.80s'; did you mean '%s'?", key, near);
    else
        log_error_at(file, line, "unknown key '%.80s'", key);
    free(names);
    return ERR_CONFIG;
}

/* Copies the number out of "10 us" when the unit is the option's own; else leaves text as it is,
 * and the parse of it fails. */
static const char *opt_strip_unit(const struct opt *o, const char *text, char *buf, size_t size)
{
    size_t n = strlen(text), u = o->unit ? strlen(o->unit) : 0;

    if (u == 0 || n <= u || n - u >= size || strcmp(text + n - u, o->unit) != 0)
        return text;
    n -= u;
    while (n > 0 && text[n - 1] == ' ')
        n--;
    memcpy(buf, text, n);
    buf[n] = '\0';
    return buf;
}

static int opt_wrong(const struct opt *o, const char *text, const char *want, const char *file,
                     int line)
{
    log_error_at(file, line, "%s: '%.80s' is not %s%s%s%s", o->key, text, want,
                 o->unit ? " (in " : "", o->unit ? o->unit : "", o->unit ? ")" : "");
    return ERR_CONFIG;
}

static int opt_check_range(const struct opt *o, double v, const char *text, const char *file,
                           int line)
{
    bool fits = o->type != OPT_INT || (v >= INT_MIN && v <= INT_MAX);

    if (v >= o->min && v <= o->max && fits)
        return 0;
    log_error_at(file, line, "%s: %.80s is outside %.10g..%.10g%s%s", o->key, text, o->min, o->max,
                 o->unit ? " " : "", o->unit ? o->unit : "");
    return ERR_RANGE;
}

static int opt_set_int(const struct opt *o, int *field, const char *text, const char *file,
                       int line)
{
    char buf[64];
    long long v;
    int rc;

    if (num_int(opt_strip_unit(o, text, buf, sizeof buf), &v))
        return opt_wrong(o, text, "a whole number", file, line);
    rc = opt_check_range(o, (double)v, text, file, line);
    if (rc)
        return rc;
    *field = (int)v;
    return 0;
}

static int opt_set_double(const struct opt *o, double *field, const char *text, const char *file,
                          int line)
{
    char buf[64];
    double v;
    int rc;

    if (num_double(opt_strip_unit(o, text, buf, sizeof buf), &v))
        return opt_wrong(o, text, "a number", file, line);
    rc = opt_check_range(o, v, text, file, line);
    if (rc == 0)
        *field = v;
    return rc;
}

/* The index of text in "a|b|c", or -1. */
static int opt_choice(const char *choices, const char *text)
{
    size_t n = strlen(text);
    int i = 0;

    for (const char *c = choices; c; i++) {
        size_t len = strcspn(c, "|");
        if (len == n && strncmp(c, text, n) == 0)
            return i;
        c = c[len] ? c + len + 1 : NULL;
    }
    return -1;
}

static int opt_set_enum(const struct opt *o, int *field, const char *text, const char *file,
                        int line)
{
    int i = opt_choice(o->choices, text);

    if (i < 0) {
        log_error_at(file, line, "%s: '%.80s' is none of %s", o->key, text, o->choices);
        return ERR_CONFIG;
    }
    *field = i;
    return 0;
}

static int opt_set_string(char **field, const char *text)
{
    char *copy = strdup(text);

    if (!copy)
        return ERR_NOMEM;
    free(*field);
    *field = copy;
    return 0;
}

static int opt_set_one(const struct opt *o, void *target, const char *text, const char *file,
                       int line)
{
    void *field = (char *)target + o->offset;

    if (!text) {
        log_error_at(file, line, "%s: has no value", o->key);
        return ERR_CONFIG;
    }
    switch (o->type) {
    case OPT_INT:
        return opt_set_int(o, field, text, file, line);
    case OPT_DOUBLE:
        return opt_set_double(o, field, text, file, line);
    case OPT_BOOL:
        return num_bool(text, field) ? opt_wrong(o, text, "true or false", file, line) : 0;
    case OPT_ENUM:
        return opt_set_enum(o, field, text, file, line);
    case OPT_STRING:
        return opt_set_string(field, text);
    }
    return ERR_INTERNAL;
}

int opt_set_defaults(const struct opt *table, void *target)
{
    int rc = 0;

    for (; table->key && rc == 0; table++) {
        if (table->def)
            rc = opt_set_one(table, target, table->def, "default", 0);
        assert(rc == 0 || rc == ERR_NOMEM);
    }
    return rc;
}

int opt_set(const struct opt *table, void *target, const char *key, const char *text,
            const char *file, int line)
{
    const struct opt *o = opt_find(table, key);

    return o ? opt_set_one(o, target, text, file, line) : opt_unknown(table, key, file, line);
}

static int opt_set_list(const struct opt *o, void *target, const char *file,
                        const struct doc_node *list)
{
    int rc = 0;

    if (!o->list || !list->child) {
        log_error_at(file, list->line,
                     o->list ? "%s: the list is empty" : "%s: takes one value, not a list", o->key);
        return ERR_CONFIG;
    }
    for (const struct doc_node *c = list->child; c && rc == 0; c = c->next) {
        if (c->type != DOC_SCALAR) {
            log_error_at(file, c->line, "%s: a list of plain values is wanted", o->key);
            rc = ERR_CONFIG;
        } else {
            rc = opt_set_one(o, target, c->text, file, c->line);
        }
    }
    return rc ? rc : opt_set_one(o, target, list->child->text, file, list->child->line);
}

static int opt_set_tree(const struct opt *table, void *target, const char *file,
                        const struct doc_node *map, const char *prefix)
{
    int rc = 0;

    for (const struct doc_node *c = map->child; c && rc == 0; c = c->next) {
        const struct opt *o;
        char key[256];
        int n = snprintf(key, sizeof key, "%s%s%s", prefix, prefix[0] ? "." : "", c->key);
        if (n < 0 || (size_t)n >= sizeof key) {
            log_error_at(file, c->line, "unknown key '%.80s...'", key);
            return ERR_CONFIG;
        }
        o = opt_find(table, key);
        if (c->type == DOC_MAP && !o && c->child)
            rc = opt_set_tree(table, target, file, c, key);
        else if (!o)
            rc = opt_unknown(table, key, file, c->line);
        else if (c->type == DOC_LIST)
            rc = opt_set_list(o, target, file, c);
        else if (c->type == DOC_MAP)
            rc = opt_wrong(o, "{...}", "a single value", file, c->line);
        else
            rc = opt_set_one(o, target, c->text, file, c->line);
    }
    return rc;
}

int opt_set_map(const struct opt *table, void *target, const struct doc *doc,
                const struct doc_node *map)
{
    if (!map || map->type != DOC_MAP) {
        log_error_at(doc->path, map ? map->line : 0, "key: value lines are wanted here");
        return ERR_CONFIG;
    }
    return opt_set_tree(table, target, doc->path, map, "");
}

static int opt_format_choice(const char *choices, int index, char *buf, size_t size)
{
    for (; index > 0; index--)
        choices += strcspn(choices, "|") + 1;
    return snprintf(buf, size, "%.*s", (int)strcspn(choices, "|"), choices);
}

int opt_format(const struct opt *opt, const void *target, char *buf, size_t size)
{
    const void *field = (const char *)target + opt->offset;
    const char *s;
    int n = -1;

    switch (opt->type) {
    case OPT_INT:
        n = snprintf(buf, size, "%d", *(const int *)field);
        break;
    case OPT_DOUBLE:
        n = snprintf(buf, size, "%.10g", *(const double *)field);
        break;
    case OPT_BOOL:
        n = snprintf(buf, size, "%s", *(const bool *)field ? "true" : "false");
        break;
    case OPT_ENUM:
        n = opt_format_choice(opt->choices, *(const int *)field, buf, size);
        break;
    case OPT_STRING:
        s = *(char *const *)field;
        n = snprintf(buf, size, "%s", s ? s : "");
        break;
    }
    return n >= 0 && (size_t)n < size ? 0 : ERR_RANGE;
}

void opt_free_strings(const struct opt *table, void *target)
{
    for (; table->key; table++) {
        if (table->type == OPT_STRING) {
            char **field = (char **)((char *)target + table->offset);
            free(*field);
            *field = NULL;
        }
    }
}

static void opt_print_range(const struct opt *o, FILE *f)
{
    if (o->min > -1e300 && o->max < 1e300 && o->max < INT_MAX)
        fprintf(f, ", %.10g..%.10g", o->min, o->max);
    else if (o->min > -1e300 && o->min > INT_MIN)
        fprintf(f, ", at least %.10g", o->min);
}

const char *opt_type_name(enum opt_type type)
{
    static const char *const types[] = {"int", "number", "bool", "text", "choice"};

    return types[type];
}

void opt_print_help(const struct opt *table, FILE *f)
{
    int width = 0;

    for (const struct opt *o = table; o->key; o++)
        width = (int)strlen(o->key) > width ? (int)strlen(o->key) : width;
    for (const struct opt *o = table; o->key; o++) {
        fprintf(f, "  %-*s  %s (%s", width, o->key, o->help ? o->help : "", opt_type_name(o->type));
        if (o->choices)
            fprintf(f, " %s", o->choices);
        if (o->unit)
            fprintf(f, ", %s", o->unit);
        if (o->type == OPT_INT || o->type == OPT_DOUBLE)
            opt_print_range(o, f);
        if (o->def)
            fprintf(f, ", default %s", o->def[0] ? o->def : "none");
        fprintf(f, "%s)\n", o->list ? ", list allowed" : "");
    }
}
