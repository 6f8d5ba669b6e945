#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/doc.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/opt.h"
#include "hw/profile.h"

struct reader {
    const char *path;
    struct hw_profile *p;
};

static int fail(const struct reader *r, const struct doc_node *node, const char *what,
                const char *detail)
{
    log_error_at(r->path, node->line, "%s%s%s", what, detail ? " " : "", detail ? detail : "");
    return ERR_CONFIG;
}

static int fail_unknown(const struct reader *r, const struct doc_node *node, const char *word,
                        const char *const *names, size_t n)
{
    const char *near = opt_nearest(word, names, n);

    if (near)
        log_error_at(r->path, node->line, "unknown field '%s'; did you mean '%s'?", word, near);
    else
        log_error_at(r->path, node->line, "unknown field '%s'", word);
    return ERR_CONFIG;
}

static int fail_unknown_field(const struct reader *r, const struct doc_node *node, const char *word)
{
    const char *names[HW_FIELD_COUNT];

    for (int i = 0; i < HW_FIELD_COUNT; i++)
        names[i] = hw_field_name((enum hw_field_id)i);
    return fail_unknown(r, node, word, names, HW_FIELD_COUNT);
}

static int read_origin(const struct reader *r, const struct doc_node *node, enum hw_origin *out)
{
    for (int i = HW_DATASHEET; i <= HW_TRANSFERRED; i++) {
        if (node->type == DOC_SCALAR && node->text &&
            strcmp(node->text, hw_origin_name((enum hw_origin)i)) == 0) {
            *out = (enum hw_origin)i;
            return 0;
        }
    }
    return fail(r, node, "origin must be datasheet, measured, fitted, transferred or assumed",
                NULL);
}

struct entry {
    double value, std_err;
    bool has_value;
    enum hw_origin origin;
    const char *source;
};

/* An architecture is written as CUDA names it: sm_90. */
static int read_arch(const struct reader *r, const struct doc_node *node, double *out)
{
    char *end = NULL;

    if (node->type == DOC_SCALAR && node->text && strncmp(node->text, "sm_", 3) == 0)
        *out = (double)strtol(node->text + 3, &end, 10);
    if (!end || end == node->text + 3 || *end)
        return fail(r, node, "gpu.arch must be named as CUDA does: sm_90, sm_100, sm_103", NULL);
    return 0;
}

static int read_entry_key(const struct reader *r, const struct doc_node *node, int id,
                          struct entry *e)
{
    static const char *const keys[] = {"value", "std_err", "origin", "source"};

    if (strcmp(node->key, "value") == 0) {
        e->has_value = true;
        if (id == HW_GPU_ARCH)
            return read_arch(r, node, &e->value);
        return doc_to_double(node, &e->value) ? fail(r, node, "value must be a number", NULL) : 0;
    }
    if (strcmp(node->key, "std_err") == 0) {
        if (doc_to_double(node, &e->std_err) || e->std_err < 0)
            return fail(r, node, "std_err must be a number, 0 or more", NULL);
        return 0;
    }
    if (strcmp(node->key, "origin") == 0)
        return read_origin(r, node, &e->origin);
    if (strcmp(node->key, "source") == 0) {
        if (node->type != DOC_SCALAR || !node->text)
            return fail(r, node, "source must be text", NULL);
        e->source = node->text;
        return 0;
    }
    return fail_unknown(r, node, node->key, keys, 4);
}

static int read_field(const struct reader *r, const struct doc_node *node, int id)
{
    struct entry e = {.origin = HW_UNSET};
    const char *name = hw_field_name((enum hw_field_id)id);
    double min, max;
    int rc = 0;

    if (node->type != DOC_MAP)
        return fail(r, node, "expected {value: ..., origin: ..., source: ...} for", name);
    for (const struct doc_node *c = node->child; c && rc == 0; c = c->next)
        rc = read_entry_key(r, c, id, &e);
    if (rc != 0)
        return rc;
    if (!e.has_value)
        return fail(r, node, "no value for", name);
    if (e.origin == HW_UNSET || !e.source)
        return fail(r, node, "every field needs an origin and a source:", name);
    hw_field_bounds((enum hw_field_id)id, &min, &max);
    if (!(e.value >= min && e.value <= max)) {
        log_error_at(r->path, node->line, "%s = %g is outside %g..%g %s", name, e.value, min, max,
                     hw_field_unit((enum hw_field_id)id));
        return ERR_RANGE;
    }
    return hw_field_set(r->p, (enum hw_field_id)id, e.value, e.std_err, e.origin, e.source);
}

static bool group_known(const char *group)
{
    size_t len = strlen(group);

    for (int i = 0; i < HW_FIELD_COUNT; i++) {
        const char *name = hw_field_name((enum hw_field_id)i);

        if (strncmp(name, group, len) == 0 && name[len] == '.')
            return true;
    }
    return false;
}

static int read_group(const struct reader *r, const struct doc_node *group)
{
    char name[128];
    int rc = 0;

    if (!group_known(group->key))
        return fail_unknown_field(r, group, group->key);
    if (group->type != DOC_MAP)
        return fail(r, group, "expected a map of fields in", group->key);
    for (const struct doc_node *c = group->child; c && rc == 0; c = c->next) {
        int id;

        snprintf(name, sizeof name, "%s.%s", group->key, c->key);
        id = hw_field_find(name);
        rc = id < 0 ? fail_unknown_field(r, c, name) : read_field(r, c, id);
    }
    return rc;
}

/* A list of finite numbers; the caller frees *out. */
static int read_numbers(const struct reader *r, const struct doc_node *node, double **out,
                        size_t *n)
{
    size_t i = 0;

    if (node->type != DOC_LIST)
        return fail(r, node, "expected a list of numbers", NULL);
    *out = malloc(((size_t)node->num_children + 1) * sizeof **out);
    if (!*out)
        return ERR_NOMEM;
    for (const struct doc_node *c = node->child; c; c = c->next)
        if (doc_to_double(c, &(*out)[i++]))
            return fail(r, c, "expected a number", NULL);
    *n = i;
    return 0;
}

/* No size, and no time in microseconds, that anyone measures. */
#define TABLE_MOST_X 1e16
#define TABLE_MOST_Y 1e9

static int check_table(const struct reader *r, const struct doc_node *node, const double *x,
                       const double *y, size_t nx, size_t ny)
{
    if (nx == 0 || nx != ny)
        return fail(r, node, "x and y must have the same number of points, at least one", NULL);
    for (size_t i = 0; i < nx; i++)
        if (!(x[i] > 0 && y[i] > 0) || (i > 0 && x[i] <= x[i - 1]))
            return fail(r, node, "x must rise and x and y must be positive", NULL);
        else if (x[i] > TABLE_MOST_X || y[i] > TABLE_MOST_Y)
            return fail(r, node, "x (at most 1e16) or y (at most 1e9) is absurdly large", NULL);
    return 0;
}

static int read_table(const struct reader *r, const struct doc_node *node)
{
    double *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;
    enum hw_origin origin = HW_ASSUMED;
    const char *source = "";
    int rc = node->type == DOC_MAP ? 0 : fail(r, node, "expected a map in table", node->key);

    for (const struct doc_node *c = rc ? NULL : node->child; c && rc == 0; c = c->next) {
        if (strcmp(c->key, "x") == 0)
            rc = read_numbers(r, c, &x, &nx);
        else if (strcmp(c->key, "y") == 0)
            rc = read_numbers(r, c, &y, &ny);
        else if (strcmp(c->key, "origin") == 0)
            rc = read_origin(r, c, &origin);
        else if (strcmp(c->key, "source") == 0 && c->type == DOC_SCALAR && c->text)
            source = c->text;
        else
            rc = fail(r, c, "a table has x, y, origin and source, not", c->key);
    }
    if (rc == 0)
        rc = check_table(r, node, x, y, nx, ny);
    if (rc == 0)
        rc = hw_table_set(r->p, node->key, x, y, nx, origin, source);
    free(x);
    free(y);
    return rc;
}

static int read_range(const struct reader *r, const struct doc_node *law)
{
    int rc = law->type == DOC_MAP ? 0 : fail(r, law, "expected a map in", law->key);

    for (const struct doc_node *c = rc ? NULL : law->child; c && rc == 0; c = c->next) {
        double *x = NULL;
        size_t n = 0;

        rc = read_numbers(r, c, &x, &n);
        if (rc == 0 && (n != 2 || x[0] > x[1]))
            rc = fail(r, c, "expected [smallest, largest] for", c->key);
        if (rc == 0)
            rc = hw_range_set(r->p, law->key, c->key, x[0], x[1]);
        free(x);
    }
    return rc;
}

static int read_field_list(const struct reader *r, const struct doc_node *node, int **out, int *n)
{
    int i = 0;

    if (node->type != DOC_LIST)
        return fail(r, node, "expected a list of field names", NULL);
    *out = malloc(((size_t)node->num_children + 1) * sizeof **out);
    if (!*out)
        return ERR_NOMEM;
    for (const struct doc_node *c = node->child; c; c = c->next) {
        int id = c->type == DOC_SCALAR && c->text ? hw_field_find(c->text) : -1;

        if (id < 0)
            return fail_unknown_field(r, c, c->text ? c->text : "");
        (*out)[i++] = id;
    }
    *n = i;
    return 0;
}

static int read_covariance(const struct reader *r, const struct doc_node *law)
{
    int *field = NULL, n = 0;
    double *cov = NULL;
    size_t num = 0;
    int rc = law->type == DOC_MAP ? 0 : fail(r, law, "expected a map in", law->key);

    for (const struct doc_node *c = rc ? NULL : law->child; c && rc == 0; c = c->next) {
        if (strcmp(c->key, "fields") == 0 && !field)
            rc = read_field_list(r, c, &field, &n);
        else if (strcmp(c->key, "cov") == 0 && !cov)
            rc = read_numbers(r, c, &cov, &num);
        else
            rc = fail(r, c, "a covariance has fields and cov, not", c->key);
    }
    if (rc == 0 && (n == 0 || num != (size_t)n * (size_t)n))
        rc = fail(r, law, "cov must have (number of fields)^2 numbers", NULL);
    for (int i = 0; rc == 0 && i < n; i++)
        if (!(cov[i * n + i] >= 0))
            rc = fail(r, law, "cov has a negative variance", NULL);
    if (rc == 0)
        rc = hw_covariance_set(r->p, law->key, field, n, cov);
    free(field);
    free(cov);
    return rc;
}

static int read_each(const struct reader *r, const struct doc_node *map,
                     int (*one)(const struct reader *r, const struct doc_node *node))
{
    int rc = map->type == DOC_MAP ? 0 : fail(r, map, "expected a map in", map->key);

    for (const struct doc_node *c = rc ? NULL : map->child; c && rc == 0; c = c->next)
        rc = one(r, c);
    return rc;
}

static int read_text(const struct reader *r, const struct doc_node *node, char **out)
{
    char *copy;

    if (node->type != DOC_SCALAR)
        return fail(r, node, "expected text for", node->key);
    copy = strdup(node->text ? node->text : "");
    if (!copy)
        return ERR_NOMEM;
    free(*out);
    *out = copy;
    return 0;
}

static int read_top(const struct reader *r, const struct doc_node *node)
{
    struct hw_profile *p = r->p;
    const struct {
        const char *key;
        char **text;
    } texts[] = {{"name", &p->name},     {"description", &p->description},
                 {"date", &p->date},     {"driver", &p->driver},
                 {"cuda", &p->cuda},     {"nccl", &p->nccl},
                 {"commit", &p->commit}, {"nic_choices", &p->nic_choices}};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(node->key, texts[i].key) == 0)
            return read_text(r, node, texts[i].text);
    if (strcmp(node->key, "tables") == 0)
        return read_each(r, node, read_table);
    if (strcmp(node->key, "ranges") == 0)
        return read_each(r, node, read_range);
    if (strcmp(node->key, "covariance") == 0)
        return read_each(r, node, read_covariance);
    return read_group(r, node);
}

static int check_required(const struct reader *r)
{
    for (int i = 0; i < HW_FIELD_COUNT; i++) {
        enum hw_field_id id = (enum hw_field_id)i;

        if (r->p->f[i].origin == HW_UNSET && hw_field_default(id) == HW_REQUIRED) {
            log_error_at(r->path, 0, "the profile lacks %s (%s, %s)", hw_field_name(id),
                         hw_field_unit(id), hw_field_help(id));
            return ERR_CONFIG;
        }
    }
    return 0;
}

int hw_profile_parse(const struct doc *doc, struct hw_profile **out)
{
    struct reader r = {.path = doc->path};
    int rc = hw_profile_new("", &r.p);

    if (rc != 0)
        return rc;
    free(r.p->path);
    r.p->path = strdup(doc->path);
    if (!r.p->path)
        rc = ERR_NOMEM;
    else if (!doc->root || doc->root->type != DOC_MAP) {
        log_error_at(doc->path, 1, "a profile is a map of groups (gpu:, net:, ...)");
        rc = ERR_CONFIG;
    }
    for (const struct doc_node *c = rc ? NULL : doc->root->child; c && rc == 0; c = c->next)
        rc = read_top(&r, c);
    if (rc == 0)
        rc = check_required(&r);
    if (rc == 0 && !r.p->name[0]) {
        log_error_at(doc->path, 0, "the profile lacks a name");
        rc = ERR_CONFIG;
    }
    if (rc != 0) {
        hw_profile_free(r.p);
        return rc;
    }
    *out = r.p;
    return 0;
}

static int find_profile(const char *name, char **path)
{
    char shipped[512];
    size_t len = strlen(name);

    if (strchr(name, '/') || (len > 5 && strcmp(name + len - 5, ".yaml") == 0))
        return file_find_shipped(name, path);
    snprintf(shipped, sizeof shipped, "hw/profiles/%s.yaml", name);
    return file_find_shipped(shipped, path);
}

static void say_what_there_is(const char *name)
{
    char *names = file_names_text("hw/profiles/h200.yaml", ".yaml");

    log_error("no hardware profile '%s': a path, or one of %s", name,
              names ? names : "hw/profiles/");
    free(names);
}

int hw_profile_read(const char *name, struct hw_profile **out)
{
    char *path = NULL;
    struct doc *doc = NULL;
    int rc = find_profile(name, &path);

    if (rc == ERR_NOTFOUND)
        say_what_there_is(name);
    if (rc == 0)
        rc = doc_read(path, &doc);
    if (rc == 0)
        rc = hw_profile_parse(doc, out);
    doc_free(doc);
    free(path);
    return rc;
}
