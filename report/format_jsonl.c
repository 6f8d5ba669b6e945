/* JSON lines: an object a line. Members stand together in lines of their own, rows say by "table"
 * where a command has more than one kind. */
#include "report/record.h"

#include <jansson.h>

static void line_write(struct record *r, const json_t *o)
{
    json_dumpf(o, r->f, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', r->f);
}

static void members_write(struct record *r)
{
    if (r->line)
        line_write(r, r->line);
    json_decref(r->line);
    r->line = NULL;
}

static void member_keep(struct record *r, const char *key, const json_t *value)
{
    if (!r->line)
        r->line = json_object();
    json_object_set_new(r->line, key, json_deep_copy(value));
}

static void row_write(struct record *r, const void *row)
{
    json_t *o = json_object(), *values = record_object(r, row);

    json_object_set_new(o, "table", json_string(r->table->key));
    json_object_update(o, values);
    line_write(r, o);
    json_decref(values);
    json_decref(o);
}

const struct record_format record_format_jsonl = {
    .name = "jsonl",
    .help = "JSON lines, an object a row",
    .view = RECORD_NESTED,
    .member = member_keep,
    .table = members_write,
    .row = row_write,
    .close = members_write,
};
