#include "calib/accuracy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "calib/fit_predict.h"

void accuracy_free(struct accuracy *a)
{
    if (!a)
        return;
    free(a->profile);
    free(a->law);
    free(a->group);
    free(a->predicted_us);
    free(a->is_outside);
    free(a);
}

static void predict_all(struct accuracy *a, const struct hw_profile *profile)
{
    struct predictor p;

    predictor_init(&p, profile);
    for (size_t i = 0; i < a->set->n; i++) {
        const struct data_row *r = &a->set->rows[i];

        a->predicted_us[i] = NAN;
        if (!predict_system(profile, r->system)) {
            a->other++;
            continue;
        }
        a->predicted_us[i] = predict_us(&p, r);
        if (!isfinite(a->predicted_us[i])) {
            a->predicted_us[i] = NAN;
            a->no_law++;
            continue;
        }
        a->is_outside[i] = predict_outside(profile, r);
        a->outside += a->is_outside[i];
        a->n++;
    }
}

struct scratch {
    double *predicted, *measured;
    size_t n;
};

static void scratch_add(struct scratch *s, const struct accuracy *a, size_t i)
{
    s->predicted[s->n] = a->predicted_us[i];
    s->measured[s->n++] = a->set->rows[i].latency_us;
}

static void total_error(struct accuracy *a, struct scratch *s)
{
    s->n = 0;
    for (size_t i = 0; i < a->set->n; i++)
        if (!isnan(a->predicted_us[i]))
            scratch_add(s, a, i);
    stats_error_of(s->predicted, s->measured, s->n, &a->err);
}

static int law_errors(struct accuracy *a, struct scratch *s)
{
    a->law = calloc(DATA_LAW_COUNT, sizeof *a->law);
    if (!a->law)
        return ERR_NOMEM;
    for (int law = 0; law < DATA_LAW_COUNT; law++) {
        struct accuracy_group *g = &a->law[a->num_laws];

        s->n = 0;
        g->outside = 0;
        for (size_t i = 0; i < a->set->n; i++) {
            if (a->set->rows[i].law != (enum data_law)law || isnan(a->predicted_us[i]))
                continue;
            scratch_add(s, a, i);
            g->outside += a->is_outside[i];
        }
        if (s->n == 0)
            continue;
        g->law = (enum data_law)law;
        stats_error_of(s->predicted, s->measured, s->n, &g->err);
        a->num_laws++;
    }
    return 0;
}

/* Sorted so that equal groups are neighbours, first seen first inside. */
struct ref {
    const struct data_row *row;
    size_t index;
};

static int ref_compare(const void *x, const void *y)
{
    const struct ref *a = x, *b = y;
    int c = (a->row->law > b->row->law) - (a->row->law < b->row->law);

    if (c == 0)
        c = strcmp(a->row->group, b->row->group);
    return c ? c : (a->index > b->index) - (a->index < b->index);
}

static size_t refs_gather(const struct accuracy *a, struct ref *refs)
{
    size_t n = 0;

    for (size_t i = 0; i < a->set->n; i++)
        if (!isnan(a->predicted_us[i]))
            refs[n++] = (struct ref){&a->set->rows[i], i};
    qsort(refs, n, sizeof *refs, ref_compare);
    return n;
}

static int group_errors(struct accuracy *a, struct scratch *s)
{
    struct ref *refs = malloc((a->set->n + 1) * sizeof *refs);
    size_t n;

    a->group = calloc(a->n + 1, sizeof *a->group);
    if (!refs || !a->group) {
        free(refs);
        return ERR_NOMEM;
    }
    n = refs_gather(a, refs);
    for (size_t i = 0, j; i < n; i = j) {
        struct accuracy_group *g = &a->group[a->num_groups++];

        s->n = 0;
        g->law = refs[i].row->law;
        memcpy(g->name, refs[i].row->group, sizeof g->name);
        for (j = i; j < n && refs[j].row->law == g->law && strcmp(refs[j].row->group, g->name) == 0;
             j++) {
            scratch_add(s, a, refs[j].index);
            g->outside += a->is_outside[refs[j].index];
        }
        stats_error_of(s->predicted, s->measured, s->n, &g->err);
    }
    free(refs);
    return 0;
}

/* Does any fitted value of the profile name this very file as its source? */
static bool fitted_to(const struct hw_profile *p, const struct data_set *set)
{
    char mark[32];

    snprintf(mark, sizeof mark, "sha256:%.12s", set->sha256);
    for (int i = 0; i < HW_FIELD_COUNT; i++)
        if (p->f[i].origin == HW_FITTED && p->f[i].source && strstr(p->f[i].source, mark))
            return true;
    for (int i = 0; i < p->num_tables; i++)
        if (hw_origin_is_own(p->tables[i].origin) && p->tables[i].source &&
            strstr(p->tables[i].source, mark))
            return true;
    return false;
}

#define PAIR_DIFFERS 0.05

/* A fused layer with the same layer of split kernels right behind it, as both were run. */
static bool is_pair(const struct data_row *fused, const struct data_row *split)
{
    return fused->law == DATA_MEGA && split->law == DATA_SPLIT && fused->ranks == split->ranks &&
           fused->tokens == split->tokens && fused->experts == split->experts &&
           strcmp(fused->system, split->system) == 0;
}

static void pairs_count(struct accuracy *a)
{
    for (size_t i = 1; i < a->set->n; i++) {
        const struct data_row *fused = &a->set->rows[i - 1], *split = &a->set->rows[i];
        double gain = split->latency_us - fused->latency_us;

        if (!is_pair(fused, split) || isnan(a->predicted_us[i]) || isnan(a->predicted_us[i - 1]) ||
            fabs(gain) <= PAIR_DIFFERS * fused->latency_us)
            continue;
        a->pairs++;
        a->pairs_right += (a->predicted_us[i] > a->predicted_us[i - 1]) == (gain > 0);
    }
}

int accuracy_open(const struct hw_profile *profile, const struct data_set *set,
                  struct accuracy **out)
{
    struct accuracy *a = calloc(1, sizeof *a);
    struct scratch s = {0};
    int rc = 0;

    if (!a)
        return ERR_NOMEM;
    a->set = set;
    a->is_fitted = fitted_to(profile, set);
    a->profile = strdup(profile->name);
    a->predicted_us = malloc((set->n + 1) * sizeof *a->predicted_us);
    a->is_outside = calloc(set->n + 1, 1);
    s.predicted = malloc((set->n + 1) * sizeof *s.predicted);
    s.measured = malloc((set->n + 1) * sizeof *s.measured);
    if (!a->profile || !a->predicted_us || !a->is_outside || !s.predicted || !s.measured)
        rc = ERR_NOMEM;
    if (rc == 0) {
        predict_all(a, profile);
        pairs_count(a);
        total_error(a, &s);
        rc = law_errors(a, &s);
    }
    if (rc == 0)
        rc = group_errors(a, &s);
    free(s.predicted);
    free(s.measured);
    if (rc != 0) {
        accuracy_free(a);
        return rc;
    }
    *out = a;
    return 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

int accuracy_split(const struct accuracy *a, enum data_law law, bool reference,
                   struct accuracy_group *out)
{
    struct scratch s = {0};
    int rc = 0;

    memset(out, 0, sizeof *out);
    out->law = law;
    s.predicted = malloc((a->n + 1) * sizeof *s.predicted);
    s.measured = malloc((a->n + 1) * sizeof *s.measured);
    for (size_t i = 0; s.predicted && s.measured && i < a->set->n; i++)
        if (!isnan(a->predicted_us[i]) && a->set->rows[i].law == law &&
            a->set->rows[i].reference == reference) {
            scratch_add(&s, a, i);
            out->outside += a->is_outside[i];
        }
    if (s.n > 0)
        stats_error_of(s.predicted, s.measured, s.n, &out->err);
    if (!s.predicted || !s.measured)
        rc = ERR_NOMEM;
    free(s.predicted);
    free(s.measured);
    return rc;
}

int accuracy_write_rows(struct accuracy *const *all, size_t num, const char *path)
{
    struct file_out out;
    int rc = file_create(&out, path);

    if (rc != 0)
        return rc;
    fputs("file,line,system,law,group,measured_us,predicted_us,error,outside,reference\n", out.f);
    for (size_t a = 0; a < num; a++)
        for (size_t i = 0; i < all[a]->set->n; i++) {
            const struct data_row *r = &all[a]->set->rows[i];
            double p = all[a]->predicted_us[i];

            if (isnan(p))
                continue;
            fprintf(out.f, "%s,%d,%s,%s,\"%s\",%.6g,%.6g,%.4f,%d,%d\n",
                    base_name(all[a]->set->path), r->line, r->system[0] ? r->system : "-",
                    data_law_name(r->law), r->group, r->latency_us, p, p / r->latency_us - 1,
                    all[a]->is_outside[i], r->reference);
        }
    rc = file_commit(&out);
    file_abort(&out);
    return rc;
}
