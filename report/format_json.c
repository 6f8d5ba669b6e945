/* One JSON object: members, and an array per table. Written row by row, so that long tables take no
 * memory. */
#include "report/record.h"

#include <stdlib.h>

#include <jansson.h>

static void value_write(struct record *r, const json_t *value, int depth)
{
    char *text = json_dumps(value, JSON_INDENT(1) | JSON_REAL_PRECISION(9) | JSON_ENCODE_ANY);

    for (const char *at = text; at && *at; at++) {
        fputc(*at, r->f);
        for (int i = 0; i < depth && *at == '\n'; i++)
            fputc(' ', r->f);
    }
    free(text);
}

static void open_write(struct record *r)
{
    fputc('{', r->f);
}

static void key_write(struct record *r, const char *key)
{
    fprintf(r->f, "%s\n \"%s\": ", r->members ? "," : "", key);
}

static void member_write(struct record *r, const char *key, const json_t *value)
{
    key_write(r, key);
    value_write(r, value, 1);
}

static void table_write(struct record *r)
{
    key_write(r, r->table->key);
    fputc('[', r->f);
}

static void row_write(struct record *r, const void *row)
{
    json_t *o = record_object(r, row);

    fputs(r->rows ? ",\n  " : "\n  ", r->f);
    value_write(r, o, 2);
    json_decref(o);
}

static void end_write(struct record *r)
{
    fputs(r->rows ? "\n ]" : "]", r->f);
}

static void close_write(struct record *r)
{
    fputs("\n}\n", r->f);
}

const struct record_format record_format_json = {
    .name = "json",
    .help = "one JSON object",
    .view = RECORD_NESTED,
    .open = open_write,
    .member = member_write,
    .table = table_write,
    .row = row_write,
    .end = end_write,
    .close = close_write,
};
