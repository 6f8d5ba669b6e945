#include "hw/profile.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

struct field_info {
    const char *name, *unit, *help;
    double min, max, def;
    enum hw_scale scale;
};

static const struct field_info fields[HW_FIELD_COUNT] = {
#define FIELD_INFO(id, path, unit, min, max, def, scale, help)                                     \
    [HW_##id] = {path, unit, help, min, max, def, HW_SCALE_##scale},
    HW_FIELDS(FIELD_INFO)
#undef FIELD_INFO
};

const char *hw_field_name(enum hw_field_id id)
{
    return fields[id].name;
}

const char *hw_field_unit(enum hw_field_id id)
{
    return fields[id].unit;
}

const char *hw_field_help(enum hw_field_id id)
{
    return fields[id].help;
}

void hw_field_bounds(enum hw_field_id id, double *min, double *max)
{
    *min = fields[id].min;
    *max = fields[id].max;
}

double hw_field_default(enum hw_field_id id)
{
    return fields[id].def;
}

int hw_field_find(const char *name)
{
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        if (strcmp(fields[i].name, name) == 0)
            return i;
    return -1;
}

const char *hw_origin_name(enum hw_origin origin)
{
    static const char *const names[] = {"default", "datasheet", "measured",
                                        "fitted",  "assumed",   "transferred"};

    return (unsigned)origin < sizeof names / sizeof *names ? names[origin] : "unknown";
}

static int string_set(char **dst, const char *src)
{
    char *copy = strdup(src ? src : "");

    if (!copy)
        return ERR_NOMEM;
    free(*dst);
    *dst = copy;
    return 0;
}

int hw_profile_new(const char *name, struct hw_profile **out)
{
    struct hw_profile *p = calloc(1, sizeof *p);
    char **text[] = {&p->path, &p->description, &p->date,   &p->driver,
                     &p->cuda, &p->nccl,        &p->commit, &p->nic_choices};
    int rc = p ? string_set(&p->name, name) : ERR_NOMEM;

    for (size_t i = 0; rc == 0 && i < sizeof text / sizeof *text; i++)
        rc = string_set(text[i], "");
    for (int i = 0; rc == 0 && i < HW_FIELD_COUNT; i++) {
        p->f[i].value = fields[i].def;
        rc = string_set(&p->f[i].source, "");
    }
    if (rc != 0) {
        hw_profile_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

static void free_curves(struct hw_profile *p)
{
    for (int i = 0; i < p->num_tables; i++) {
        free(p->tables[i].name);
        free(p->tables[i].source);
        free(p->tables[i].x);
        free(p->tables[i].y);
    }
    for (int i = 0; i < p->num_covs; i++) {
        free(p->covs[i].law);
        free(p->covs[i].field);
        free(p->covs[i].cov);
    }
    for (int i = 0; i < p->num_ranges; i++) {
        free(p->ranges[i].law);
        free(p->ranges[i].variable);
    }
    free(p->tables);
    free(p->covs);
    free(p->ranges);
    p->tables = NULL;
    p->covs = NULL;
    p->ranges = NULL;
    p->num_tables = p->num_covs = p->num_ranges = 0;
}

void hw_profile_free(struct hw_profile *p)
{
    if (!p)
        return;
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        free(p->f[i].source);
    free_curves(p);
    free(p->name);
    free(p->path);
    free(p->description);
    free(p->date);
    free(p->driver);
    free(p->cuda);
    free(p->nccl);
    free(p->commit);
    free(p->nic_choices);
    free(p);
}

int hw_field_set(struct hw_profile *p, enum hw_field_id id, double value, double std_err,
                 enum hw_origin origin, const char *source)
{
    struct hw_field *f = &p->f[id];

    f->value = value;
    f->std_err = std_err;
    f->origin = origin;
    return string_set(&f->source, source);
}

static struct hw_table *table_find(const struct hw_profile *p, const char *name)
{
    for (int i = 0; i < p->num_tables; i++)
        if (strcmp(p->tables[i].name, name) == 0)
            return &p->tables[i];
    return NULL;
}

const struct hw_table *hw_table_find(const struct hw_profile *p, const char *name)
{
    return table_find(p, name);
}

static int table_append(struct hw_profile *p, const char *name, struct hw_table **out)
{
    struct hw_table *grown = realloc(p->tables, (size_t)(p->num_tables + 1) * sizeof *grown);
    struct hw_table *t;

    if (!grown)
        return ERR_NOMEM;
    p->tables = grown;
    t = &grown[p->num_tables];
    memset(t, 0, sizeof *t);
    if (!(t->name = strdup(name)))
        return ERR_NOMEM;
    p->num_tables++;
    *out = t;
    return 0;
}

int hw_table_set(struct hw_profile *p, const char *name, const double *x, const double *y, size_t n,
                 enum hw_origin origin, const char *source)
{
    struct hw_table *t = table_find(p, name);
    double *nx = malloc(n * sizeof *nx + 1), *ny = malloc(n * sizeof *ny + 1);
    int rc = nx && ny ? 0 : ERR_NOMEM;

    if (rc == 0 && !t)
        rc = table_append(p, name, &t);
    if (rc == 0)
        rc = string_set(&t->source, source);
    if (rc != 0) {
        free(nx);
        free(ny);
        return rc;
    }
    memcpy(nx, x, n * sizeof *nx);
    memcpy(ny, y, n * sizeof *ny);
    free(t->x);
    free(t->y);
    t->x = nx;
    t->y = ny;
    t->n = n;
    t->origin = origin;
    return 0;
}

/* Index of the segment that x falls into, 0..n-2; the outer ones reach to infinity. */
static size_t table_segment(const struct hw_table *t, double x)
{
    size_t lo = 0, hi = t->n - 1;

    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;

        if (t->x[mid] <= x)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

double hw_table_at(const struct hw_table *t, double x, bool *extrapolated)
{
    size_t i;
    double slope;

    assert(t->n > 0);
    *extrapolated = x < t->x[0] || x > t->x[t->n - 1];
    if (t->n == 1)
        return t->y[0];
    if (x <= 0)
        return t->y[0];
    i = table_segment(t, x);
    slope = log(t->y[i + 1] / t->y[i]) / log(t->x[i + 1] / t->x[i]);
    return t->y[i] * exp(slope * log(x / t->x[i]));
}

static struct hw_covariance *covariance_find(const struct hw_profile *p, const char *law)
{
    for (int i = 0; i < p->num_covs; i++)
        if (strcmp(p->covs[i].law, law) == 0)
            return &p->covs[i];
    return NULL;
}

static int covariance_append(struct hw_profile *p, const char *law, struct hw_covariance **out)
{
    struct hw_covariance *grown = realloc(p->covs, (size_t)(p->num_covs + 1) * sizeof *grown);
    struct hw_covariance *c;

    if (!grown)
        return ERR_NOMEM;
    p->covs = grown;
    c = &grown[p->num_covs];
    memset(c, 0, sizeof *c);
    if (!(c->law = strdup(law)))
        return ERR_NOMEM;
    p->num_covs++;
    *out = c;
    return 0;
}

static void covariance_remove(struct hw_profile *p, int i)
{
    free(p->covs[i].law);
    free(p->covs[i].field);
    free(p->covs[i].cov);
    p->num_covs--;
    memmove(&p->covs[i], &p->covs[i + 1], (size_t)(p->num_covs - i) * sizeof *p->covs);
}

/* Leaves out row and column `at`: what is left is the marginal distribution of the others. */
static void covariance_shrink(struct hw_covariance *c, int at)
{
    int n = c->n, to = 0;

    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (i != at && j != at)
                c->cov[to++] = c->cov[i * n + j];
    for (int i = at; i + 1 < n; i++)
        c->field[i] = c->field[i + 1];
    c->n--;
}

void hw_covariance_drop(struct hw_profile *p, int field)
{
    for (int b = p->num_covs - 1; b >= 0; b--) {
        struct hw_covariance *c = &p->covs[b];

        for (int i = c->n - 1; i >= 0; i--)
            if (c->field[i] == field)
                covariance_shrink(c, i);
        if (c->n == 0)
            covariance_remove(p, b);
    }
}

int hw_covariance_set(struct hw_profile *p, const char *law, const int *field, int n,
                      const double *cov)
{
    struct hw_covariance *c = covariance_find(p, law);
    size_t num = (size_t)n;
    int *nf = malloc(num * sizeof *nf + 1);
    double *nc = malloc(num * num * sizeof *nc + 1);
    int rc = nf && nc ? 0 : ERR_NOMEM;

    if (rc == 0 && c)
        covariance_remove(p, (int)(c - p->covs));
    for (int i = 0; i < n && rc == 0; i++)
        hw_covariance_drop(p, field[i]);
    if (rc == 0 && n > 0)
        rc = covariance_append(p, law, &c);
    if (rc != 0 || n == 0) {
        free(nf);
        free(nc);
        return rc;
    }
    memcpy(nf, field, num * sizeof *nf);
    memcpy(nc, cov, num * num * sizeof *nc);
    c->field = nf;
    c->cov = nc;
    c->n = n;
    return 0;
}

const struct hw_range *hw_range_find(const struct hw_profile *p, const char *law,
                                     const char *variable)
{
    for (int i = 0; i < p->num_ranges; i++)
        if (strcmp(p->ranges[i].law, law) == 0 && strcmp(p->ranges[i].variable, variable) == 0)
            return &p->ranges[i];
    return NULL;
}

int hw_range_set(struct hw_profile *p, const char *law, const char *variable, double min,
                 double max)
{
    struct hw_range *r = (struct hw_range *)hw_range_find(p, law, variable);
    struct hw_range *grown;

    if (r) {
        r->min = min;
        r->max = max;
        return 0;
    }
    grown = realloc(p->ranges, (size_t)(p->num_ranges + 1) * sizeof *grown);
    if (!grown)
        return ERR_NOMEM;
    p->ranges = grown;
    r = &grown[p->num_ranges];
    *r = (struct hw_range){strdup(law), strdup(variable), min, max};
    if (!r->law || !r->variable) {
        free(r->law);
        free(r->variable);
        return ERR_NOMEM;
    }
    p->num_ranges++;
    return 0;
}

static int profile_copy_texts(const struct hw_profile *p, struct hw_profile *q)
{
    const char *from[] = {p->path, p->description, p->date,   p->driver,
                          p->cuda, p->nccl,        p->commit, p->nic_choices};
    char **to[] = {&q->path, &q->description, &q->date,   &q->driver,
                   &q->cuda, &q->nccl,        &q->commit, &q->nic_choices};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof from / sizeof *from; i++)
        rc = string_set(to[i], from[i]);
    return rc;
}

int hw_profile_copy(const struct hw_profile *p, struct hw_profile **out)
{
    struct hw_profile *q = NULL;
    int rc = hw_profile_new(p->name, &q);

    if (rc == 0)
        rc = profile_copy_texts(p, q);
    for (int i = 0; rc == 0 && i < HW_FIELD_COUNT; i++)
        rc = hw_field_set(q, (enum hw_field_id)i, p->f[i].value, p->f[i].std_err, p->f[i].origin,
                          p->f[i].source);
    for (int i = 0; rc == 0 && i < p->num_tables; i++) {
        const struct hw_table *t = &p->tables[i];

        rc = hw_table_set(q, t->name, t->x, t->y, t->n, t->origin, t->source);
    }
    for (int i = 0; rc == 0 && i < p->num_covs; i++)
        rc = hw_covariance_set(q, p->covs[i].law, p->covs[i].field, p->covs[i].n, p->covs[i].cov);
    for (int i = 0; rc == 0 && i < p->num_ranges; i++)
        rc = hw_range_set(q, p->ranges[i].law, p->ranges[i].variable, p->ranges[i].min,
                          p->ranges[i].max);
    if (rc != 0) {
        hw_profile_free(q);
        return rc;
    }
    *out = q;
    return 0;
}

int hw_profile_forget(struct hw_profile *p)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < HW_FIELD_COUNT; i++)
        if (p->f[i].origin == HW_FITTED || p->f[i].origin == HW_ASSUMED ||
            p->f[i].origin == HW_TRANSFERRED)
            rc = hw_field_set(p, (enum hw_field_id)i, fields[i].def, 0, HW_UNSET, "");
    free_curves(p);
    return rc;
}

static double scale_ratio(const struct hw_profile *p, const struct hw_profile *from,
                          enum hw_scale scale)
{
    static const int nominal[] = {[HW_SCALE_SAME] = -1,
                                  [HW_SCALE_NVLINK] = HW_NET_NVLINK_GBPS,
                                  [HW_SCALE_HBM] = HW_GPU_HBM_GBPS,
                                  [HW_SCALE_FP8] = HW_GPU_FP8_TFLOPS,
                                  [HW_SCALE_BF16] = HW_GPU_BF16_TFLOPS};
    int id = nominal[scale];

    return id < 0 ? 1 : p->f[id].value / from->f[id].value;
}

/* What a vendor says of a machine (its rates, the GPUs of a host) is of that machine alone. */
static int assume_field(struct hw_profile *p, const struct hw_profile *from, enum hw_field_id id)
{
    const struct hw_field *src = &from->f[id];
    char source[320];
    double ratio;

    if (hw_origin_is_own(p->f[id].origin) || !hw_origin_is_own(src->origin) ||
        src->origin == HW_DATASHEET)
        return 0;
    ratio = scale_ratio(p, from, fields[id].scale);
    snprintf(source, sizeof source, "from %s%s: %s", from->name,
             ratio == 1 ? "" : ", scaled by nominal rates", src->source ? src->source : "");
    return hw_field_set(p, id, fmin(fmax(src->value * ratio, fields[id].min), fields[id].max), 0,
                        HW_TRANSFERRED, source);
}

/* Of kernels, not of links: families of attention and of fused expert layers, and what the laws of
 * dense GEMMs leave. */
static bool is_kernel_table(const char *name)
{
    return strncmp(name, "attn.", 5) == 0 || strncmp(name, "dense.", 6) == 0 ||
           strncmp(name, "ffn.", 4) == 0;
}

/* Collectives are bound by latency when small and by NVLink when large: the part of each point
 * above the smallest is scaled. Parameters of kernels are times, shares of nominal rates
 * and factors: they carry over as they stand. */
static int assume_table(struct hw_profile *p, const struct hw_profile *from,
                        const struct hw_table *t)
{
    bool scales = !is_kernel_table(t->name);
    double ratio = scales ? from->f[HW_NET_NVLINK_GBPS].value / p->f[HW_NET_NVLINK_GBPS].value : 1;
    double *y = malloc(t->n * sizeof *y + 1);
    char source[320];
    int rc;

    if (!y)
        return ERR_NOMEM;
    for (size_t i = 0; i < t->n; i++)
        y[i] = t->y[0] + (t->y[i] - t->y[0]) * ratio;
    snprintf(source, sizeof source, "from %s%s: %s", from->name,
             ratio == 1 ? "" : ", scaled by nvlink_GBps", t->source ? t->source : "");
    rc = hw_table_set(p, t->name, t->x, y, t->n, HW_TRANSFERRED, source);
    free(y);
    return rc;
}

/* Kernels are written for one architecture: Hopper's say nothing of Blackwell's. */
static bool carries_over(const struct hw_profile *p, const struct hw_profile *from,
                         const char *name)
{
    return !is_kernel_table(name) ||
           floor(p->f[HW_GPU_ARCH].value / 10) == floor(from->f[HW_GPU_ARCH].value / 10);
}

/* What stood behind a field that is taken over stands behind it here too: ranges are joined. */
static int assume_range(struct hw_profile *p, const struct hw_range *r)
{
    const struct hw_range *own = hw_range_find(p, r->law, r->variable);

    return hw_range_set(p, r->law, r->variable, own ? fmin(own->min, r->min) : r->min,
                        own ? fmax(own->max, r->max) : r->max);
}

int hw_profile_assume(struct hw_profile *p, const struct hw_profile *from)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < HW_FIELD_COUNT; i++)
        rc = assume_field(p, from, (enum hw_field_id)i);
    for (int i = 0; rc == 0 && i < from->num_tables; i++) {
        const struct hw_table *have = hw_table_find(p, from->tables[i].name);

        if (!carries_over(p, from, from->tables[i].name))
            continue;
        if (hw_origin_is_own(from->tables[i].origin) && (!have || !hw_origin_is_own(have->origin)))
            rc = assume_table(p, from, &from->tables[i]);
    }
    for (int i = 0; rc == 0 && from != p && i < from->num_ranges; i++)
        if (carries_over(p, from, from->ranges[i].law))
            rc = assume_range(p, &from->ranges[i]);
    return rc;
}
