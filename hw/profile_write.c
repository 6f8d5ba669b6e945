#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "hw/profile.h"

/* A double-quoted YAML scalar. */
static void put_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(f, "\\%c", *c);
        else if (*c < 0x20 || *c == 0x7f)
            fprintf(f, "\\x%02x", *c);
        else
            fputc(*c, f);
    }
    fputc('"', f);
}

static void put_head(FILE *f, const struct hw_profile *p)
{
    const char *key[] = {"name", "description", "date",   "driver",
                         "cuda", "nccl",        "commit", "nic_choices"};
    const char *text[] = {p->name, p->description, p->date,   p->driver,
                          p->cuda, p->nccl,        p->commit, p->nic_choices};

    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        if (i > 0 && !text[i][0])
            continue;
        fprintf(f, "%s: ", key[i]);
        put_text(f, text[i]);
        fputc('\n', f);
    }
}

static void put_field(FILE *f, int id, const struct hw_field *field)
{
    const char *name = strchr(hw_field_name((enum hw_field_id)id), '.') + 1;

    fprintf(f, "  %s: {value: %s%.6g", name, id == HW_GPU_ARCH ? "sm_" : "", field->value);
    if (field->std_err > 0)
        fprintf(f, ", std_err: %.3g", field->std_err);
    fprintf(f, ", origin: %s, source: ", hw_origin_name(field->origin));
    put_text(f, field->source);
    fputs("}\n", f);
}

static void put_fields(FILE *f, const struct hw_profile *p)
{
    const char *group = "";
    size_t group_len = 0;

    for (int i = 0; i < HW_FIELD_COUNT; i++) {
        const char *name = hw_field_name((enum hw_field_id)i);
        size_t len = strcspn(name, ".");

        if (p->f[i].origin == HW_UNSET)
            continue;
        if (len != group_len || strncmp(name, group, len) != 0) {
            fprintf(f, "\n%.*s:\n", (int)len, name);
            group = name;
            group_len = len;
        }
        put_field(f, i, &p->f[i]);
    }
}

static void put_numbers(FILE *f, const char *key, const double *x, size_t n, const char *fmt)
{
    fprintf(f, "    %s: [", key);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? ", " : "", f);
        fprintf(f, fmt, x[i]);
    }
    fputs("]\n", f);
}

static void put_tables(FILE *f, const struct hw_profile *p)
{
    if (p->num_tables > 0)
        fputs("\ntables:\n", f);
    for (int i = 0; i < p->num_tables; i++) {
        const struct hw_table *t = &p->tables[i];

        fprintf(f, "  %s:\n    origin: %s\n    source: ", t->name, hw_origin_name(t->origin));
        put_text(f, t->source);
        fputc('\n', f);
        put_numbers(f, "x", t->x, t->n, "%.10g");
        put_numbers(f, "y", t->y, t->n, "%.5g");
    }
}

static bool range_law_seen(const struct hw_profile *p, int i)
{
    for (int j = 0; j < i; j++)
        if (strcmp(p->ranges[j].law, p->ranges[i].law) == 0)
            return true;
    return false;
}

/* Ranges are kept in the order in which they came; here they stand law by law. */
static void put_ranges(FILE *f, const struct hw_profile *p)
{
    if (p->num_ranges > 0)
        fputs("\nranges:\n", f);
    for (int i = 0; i < p->num_ranges; i++) {
        if (range_law_seen(p, i))
            continue;
        fprintf(f, "  %s:\n", p->ranges[i].law);
        for (int j = i; j < p->num_ranges; j++)
            if (strcmp(p->ranges[j].law, p->ranges[i].law) == 0)
                fprintf(f, "    %s: [%.10g, %.10g]\n", p->ranges[j].variable, p->ranges[j].min,
                        p->ranges[j].max);
    }
}

static void put_covariances(FILE *f, const struct hw_profile *p)
{
    if (p->num_covs > 0)
        fputs("\ncovariance:\n", f);
    for (int i = 0; i < p->num_covs; i++) {
        const struct hw_covariance *c = &p->covs[i];

        fprintf(f, "  %s:\n    fields: [", c->law);
        for (int j = 0; j < c->n; j++)
            fprintf(f, "%s%s", j ? ", " : "", hw_field_name((enum hw_field_id)c->field[j]));
        fputs("]\n", f);
        put_numbers(f, "cov", c->cov, (size_t)(c->n * c->n), "%.9g");
    }
}

int hw_profile_write(const struct hw_profile *p, const char *path)
{
    struct file_out out;
    int rc = file_create(&out, path);

    if (rc != 0)
        return rc;
    fputs(
        "# A hardware profile; see hw/fields.h for what each field means.\n"
        "# origin: datasheet, measured, fitted (by `peosim calibrate`), transferred or assumed.\n",
        out.f);
    put_head(out.f, p);
    put_fields(out.f, p);
    put_tables(out.f, p);
    put_ranges(out.f, p);
    put_covariances(out.f, p);
    rc = file_commit(&out);
    file_abort(&out);
    return rc;
}
