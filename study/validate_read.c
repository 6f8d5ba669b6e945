/* study/validate_read.c: the measurements that an earlier run left. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"
#include "base/err.h"
#include "base/log.h"
#include "study/validate.h"

#define CSV_BYTES ((size_t)64 << 20)

static double column(const struct csv *c, size_t row, const char *name)
{
    double value = 0;
    int col = csv_col(c, name);

    return col >= 0 && csv_double(c, row, col, &value) == 0 ? value : -1;
}

static const char *text_column(const struct csv *c, size_t row, const char *name)
{
    int col = csv_col(c, name);

    return col >= 0 ? csv_at(c, row, col) : "";
}

/* Files from before there was a choice have no such column: all GEMMs were grouped. */
static bool gemms_match(const struct csv *c, size_t row, const struct validate_point *p)
{
    char gemms[16];

    if (!validate_gemms(p, gemms)[0])
        return true;
    return strcmp(csv_col(c, "gemms") < 0 ? "group+group" : text_column(c, row, "gemms"), gemms) ==
           0;
}

static int batch_of(const struct validate_set *v, const struct validate_point *p)
{
    struct scenario s;
    int batch;

    if (config_scenario(v->config, p->scenario, &s))
        return -1;
    batch = s.batch;
    scenario_free(&s);
    return batch;
}

/* The point of a row: in files as in the grid, points of equal columns keep their order. */
static struct validate_point *point_find(const struct validate_set *v, const struct csv *c,
                                         size_t row, size_t *from)
{
    for (size_t i = *from; i < v->num_points; i++) {
        struct validate_point *p = &v->point[i];

        if (strcmp(text_column(c, row, "policy"), p->policy->name) != 0 ||
            (int)column(c, row, "method") != validate_method(p) ||
            (int)column(c, row, "num_rounds") != validate_rounds(p) ||
            (int)column(c, row, "num_sms") != validate_sms(p) ||
            (int)column(c, row, "batch") != batch_of(v, p) || !gemms_match(c, row, p))
            continue;
        *from = i;
        return p;
    }
    log_error_at(c->path, c->line[row], "this is no point of %s, or not in its order",
                 v->config->path);
    return NULL;
}

/* A column that is missing would read as -1 everywhere. */
static int columns_check(const struct csv *c)
{
    static const char *const needed[] = {"policy", "method",     "num_rounds", "num_sms",
                                         "batch",  "experts",    "hidden",     "inter",
                                         "ranks",  "measured_us"};

    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (csv_col(c, needed[i]) < 0) {
            log_error_at(c->path, 1, "there is no column %s", needed[i]);
            return ERR_DATA;
        }
    return 0;
}

/* Runs from before CUPTI was used have none of these columns. */
static void cupti_read(const struct csv *c, size_t row, struct gpu_cupti_result *out)
{
    if (csv_col(c, "cupti_version") < 0)
        return;
    out->version = (int)column(c, row, "cupti_version");
    out->ok = column(c, row, "cupti_ok") > 0;
    out->total_us = column(c, row, "cupti_us");
    out->spread_us = column(c, row, "cupti_spread_us");
    out->kernels = (int)column(c, row, "cupti_kernels");
    csv_double(c, row, csv_col(c, "cupti_longer_us"), &out->longer_us);
    csv_double(c, row, csv_col(c, "cupti_longer_most_us"), &out->longer_most_us);
}

/* Times tell the spread again; what else disturbed a point is written beside it. */
static unsigned disturbed_read(const struct csv *c, size_t row)
{
    const char *noise = text_column(c, row, "noise");

    return (strstr(noise, "shared") ? GPU_SHARED : 0u) |
           (strstr(noise, "throttled") ? GPU_THROTTLED : 0u);
}

static int layers_read(struct validate_set *v, const char *folder)
{
    char path[1024];
    struct csv *c = NULL;
    size_t from = 0;
    int err;

    snprintf(path, sizeof path, "%s/layers.csv", folder);
    err = csv_read(path, CSV_BYTES, &c);
    if (!err)
        err = columns_check(c);
    for (size_t row = 0; !err && row < c->num_rows; row++) {
        struct validate_point *p = point_find(v, c, row, &from);

        if (!p) {
            err = ERR_DATA;
            break;
        }
        from++;
        p->measured = true;
        p->batch = (int)column(c, row, "batch");
        p->experts = (int)column(c, row, "experts");
        p->hidden = (int)column(c, row, "hidden");
        p->inter = (int)column(c, row, "inter");
        p->ranks = (int)column(c, row, "ranks");
        p->gpu.median_us = column(c, row, "measured_us");
        if (!(p->gpu.median_us > 0)) {
            log_error_at(c->path, c->line[row], "measured_us is no time");
            err = ERR_DATA;
        }
        p->gpu.p95_us = column(c, row, "p95_us");
        p->gpu.min_us = column(c, row, "min_us");
        p->gpu.n = (int)column(c, row, "n");
        p->gpu.traced_us = column(c, row, "traced_us");
        p->gpu.spans_ok = column(c, row, "spans_ok") > 0;
        p->gpu.worst_error = column(c, row, "worst_error");
        p->gpu.disturbed = disturbed_read(c, row);
        p->gpu.checked = (int)column(c, row, "checked");
        p->gpu.emulated_ranks = (int)column(c, row, "emulated_ranks");
        cupti_read(c, row, &p->gpu.cupti);
        p->gpu.clock_residual_us = fmax(column(c, row, "clock_residual_us"), 0);
        if (column(c, row, "pace_GBps") > 0)
            v->pace_GBps = column(c, row, "pace_GBps");
        p->gpu.hash = strtoull(text_column(c, row, "hash"), NULL, 16);
    }
    csv_free(c);
    return err;
}

/* "stamp", "cupti" or "inferred"; files of earlier versions say "stamped" in a column `times`. */
static enum gpu_source source_read(const struct csv *c, size_t row)
{
    const char *text = text_column(c, row, csv_col(c, "source") >= 0 ? "source" : "times");

    for (int s = GPU_SOURCE_CUPTI; s <= GPU_SOURCE_INFERRED; s++)
        if (strcmp(text, gpu_source_name((enum gpu_source)s)) == 0)
            return (enum gpu_source)s;
    return GPU_SOURCE_STAMP;
}

static int ops_read(struct validate_set *v, const char *folder)
{
    char path[1024];
    struct csv *c = NULL;
    size_t from = 0;
    int err;

    snprintf(path, sizeof path, "%s/ops.csv", folder);
    err = csv_read(path, CSV_BYTES, &c);
    if (!err)
        err = columns_check(c);
    for (size_t row = 0; !err && row < c->num_rows; row++) {
        struct validate_point *p = point_find(v, c, row, &from);

        for (int k = 0; p && k < OP_KIND_COUNT; k++) {
            if (!p->kinds)
                p->gpu.kind_us[k] = p->gpu.kind_wait_us[k] = -1;
            if (strcmp(text_column(c, row, "kind"), plan_op_kind_name((enum plan_op_kind)k)) != 0)
                continue;
            p->gpu.kind_us[k] = column(c, row, "measured_us");
            p->gpu.kind_wait_us[k] = column(c, row, "wait_us");
            p->gpu.kind_source[k] = source_read(c, row);
        }
        if (p)
            p->kinds = true;
        else
            err = ERR_DATA;
    }
    csv_free(c);
    return err;
}

int validate_read(struct validate_set *v, const char *folder)
{
    int err = layers_read(v, folder);

    snprintf(v->versions, sizeof v->versions, "an earlier run, read from %.200s", folder);
    return err ? err : ops_read(v, folder);
}

int validate_key_check(const char *folder, const char *want)
{
    char path[1024], have[256] = "";
    FILE *f;

    snprintf(path, sizeof path, "%s/" VALIDATE_KEY_FILE, folder);
    f = fopen(path, "r");
    if (f && fgets(have, sizeof have, f))
        have[strcspn(have, "\n")] = '\0';
    if (f)
        fclose(f);
    if (strcmp(have, want) == 0)
        return 0;
    log_error("%s: what is there was measured as '%s', this run measures as '%s'; without --resume "
              "it begins anew",
              path, have, want);
    return ERR_USAGE;
}
