#include "report/record.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "report/formats.h"

#define DECLARE(name) extern const struct record_format record_format_##name;
RECORD_FORMATS(DECLARE)
#undef DECLARE

#define ADDRESS(name) &record_format_##name,
static const struct record_format *const formats[] = {RECORD_FORMATS(ADDRESS)};
#undef ADDRESS

size_t record_format_count(void)
{
    return sizeof formats / sizeof *formats;
}

const struct record_format *record_format_at(size_t i)
{
    return formats[i];
}

const struct record_format *record_format_find(const char *name)
{
    for (size_t i = 0; i < record_format_count(); i++)
        if (!strcmp(formats[i]->name, name))
            return formats[i];
    return NULL;
}

void record_open(struct record *r, const struct record_format *format, FILE *f)
{
    *r = (struct record){.format = format, .f = f};
    if (format->open)
        format->open(r);
}

bool record_is_for(const struct record *r, unsigned views)
{
    return (r->format->view & views) != 0;
}

void record_title(struct record *r, const char *text)
{
    for (const char *at = text; r->format->title && *at;) {
        size_t n = strcspn(at, "\n");
        char *line = strndup(at, n);

        if (line)
            r->format->title(r, line);
        free(line);
        at += n + (at[n] == '\n');
    }
}

void record_member(struct record *r, const char *key, struct json_t *value)
{
    if (value && r->format->member)
        r->format->member(r, key, value);
    r->members += value != NULL;
    json_decref(value);
}

void record_member_text(struct record *r, const char *key, const char *text)
{
    record_member(r, key, json_string(text));
}

void record_table(struct record *r, const struct record_table *table)
{
    record_table_end(r);
    if (!record_is_for(r, table->views))
        return;
    r->table = table;
    r->rows = 0;
    if (r->format->table)
        r->format->table(r);
}

void record_row(struct record *r, const void *row)
{
    if (!r->table)
        return;
    r->format->row(r, row);
    r->rows++;
}

void record_table_end(struct record *r)
{
    if (!r->table)
        return;
    if (r->format->end)
        r->format->end(r);
    r->tables++;
    r->members++;
    r->table = NULL;
}

void record_note(struct record *r, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    if (!r->format->note)
        return;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) >= 0)
        r->format->note(r, text);
    va_end(ap);
    free(text);
}

int record_close(struct record *r)
{
    record_table_end(r);
    if (r->format->close)
        r->format->close(r);
    return ferror(r->f) ? ERR_IO : 0;
}

const struct record_column *record_column_next(const struct record *r, int *i)
{
    while (*i < r->table->num_columns) {
        const struct record_column *c = &r->table->column[(*i)++];

        if (c->views & r->format->view)
            return c;
    }
    return NULL;
}

static const void *value_of(const struct record_column *c, const void *row)
{
    return (const char *)row + c->offset;
}

static void real_text(const struct record_column *c, double x, char *buf, size_t size)
{
    if (isnan(x))
        snprintf(buf, size, "%s", c->none ? c->none : "");
    else if (c->plus)
        snprintf(buf, size, "%+.*f%s", c->digits, x, c->unit ? c->unit : "");
    else
        snprintf(buf, size, "%.*f%s", c->digits, x, c->unit ? c->unit : "");
}

void record_text(const struct record_column *c, const void *row, char *buf, size_t size)
{
    if (c->type == RECORD_REAL)
        real_text(c, *(const double *)value_of(c, row), buf, size);
    else
        record_plain(c, row, buf, size);
}

void record_plain(const struct record_column *c, const void *row, char *buf, size_t size)
{
    const void *v = value_of(c, row);
    const char *words;

    switch (c->type) {
    case RECORD_STRING:
        snprintf(buf, size, "%s", (const char *)v);
        break;
    case RECORD_WORDS:
    case RECORD_CELL:
        words = *(const char *const *)v;
        snprintf(buf, size, "%s", words ? words : "");
        break;
    case RECORD_INT:
        snprintf(buf, size, "%d", *(const int *)v);
        break;
    case RECORD_INT64:
        snprintf(buf, size, "%" PRId64, *(const int64_t *)v);
        break;
    case RECORD_REAL:
        snprintf(buf, size, "%.6g", *(const double *)v);
        if (isnan(*(const double *)v))
            buf[0] = '\0';
        break;
    case RECORD_BOOL:
        snprintf(buf, size, "%d", *(const bool *)v);
        break;
    case RECORD_OBJECT:
        snprintf(buf, size, "%s", "");
        break;
    }
}

static json_t *cell_json(const char *cell)
{
    char *end;
    double v = cell ? strtod(cell, &end) : 0;

    if (!cell || !*cell)
        return NULL;
    if (*end)
        return json_string(cell);
    return strpbrk(cell, ".eEnN") ? json_real(v) : json_integer(strtoll(cell, NULL, 10));
}

static json_t *value_json(const struct record_column *c, const void *row)
{
    const void *v = value_of(c, row);

    switch (c->type) {
    case RECORD_STRING:
        return json_string(v);
    case RECORD_WORDS:
        return json_string(*(const char *const *)v);
    case RECORD_CELL:
        return cell_json(*(const char *const *)v);
    case RECORD_INT:
        return json_integer(*(const int *)v);
    case RECORD_INT64:
        return json_integer(*(const int64_t *)v);
    case RECORD_REAL:
        return json_real(*(const double *)v);
    case RECORD_BOOL:
        return json_boolean(*(const bool *)v);
    case RECORD_OBJECT:
        return json_incref(*(json_t *const *)v);
    }
    return NULL;
}

struct json_t *record_object(const struct record *r, const void *row)
{
    const struct record_column *c;
    json_t *o = json_object();

    for (int i = 0; (c = record_column_next(r, &i));)
        json_object_set_new(o, c->key, value_json(c, row)); /* nothing for what has no value */
    return o;
}

void record_csv_cell(const char *text, FILE *f)
{
    if (!strpbrk(text, ",\"\n")) {
        fputs(text, f);
        return;
    }
    fputc('"', f);
    for (; *text; text++)
        fprintf(f, "%s%c", *text == '"' ? "\"" : "", *text);
    fputc('"', f);
}
