/* One table with commas; what stands above it begins with '#'. */
#include "report/record.h"

static void title_write(struct record *r, const char *line)
{
    fprintf(r->f, "# %s\n", line);
}

static void table_write(struct record *r)
{
    const struct record_column *c;

    for (int i = 0, n = 0; (c = record_column_next(r, &i)); n++) {
        fputs(n ? "," : "", r->f);
        record_csv_cell(c->key, r->f);
    }
    fputc('\n', r->f);
}

static void row_write(struct record *r, const void *row)
{
    const struct record_column *c;

    for (int i = 0, n = 0; (c = record_column_next(r, &i)); n++) {
        char text[1024];

        record_plain(c, row, text, sizeof text);
        fputs(n ? "," : "", r->f);
        record_csv_cell(text, r->f);
    }
    fputc('\n', r->f);
}

const struct record_format record_format_csv = {
    .name = "csv",
    .help = "one table with commas",
    .view = RECORD_FLAT,
    .title = title_write,
    .table = table_write,
    .row = row_write,
};
