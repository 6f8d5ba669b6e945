/* Tables and sentences for people. */
#include "report/record.h"

static void line_write(struct record *r, const char *line)
{
    fprintf(r->f, "%s\n", line);
}

static const char *gap(const struct record_column *c, int n)
{
    return n == 0 || c->wide ? "  " : " ";
}

static void table_write(struct record *r)
{
    const struct record_column *c;

    for (int i = 0, n = 0; (c = record_column_next(r, &i)); n++)
        if (*c->head || c->width) /* a mark behind the row needs no head */
            fprintf(r->f, "%s%*s", gap(c, n), c->width, c->head);
    fputc('\n', r->f);
}

static void row_write(struct record *r, const void *row)
{
    const struct record_column *c;

    for (int i = 0, n = 0; (c = record_column_next(r, &i)); n++) {
        char text[512];

        record_text(c, row, text, sizeof text);
        if (!*text && !c->width && c->wide) /* the last one: no blanks at the line's end */
            continue;
        fprintf(r->f, "%s%*s", gap(c, n), c->width, text);
    }
    fputc('\n', r->f);
}

static void note_write(struct record *r, const char *text)
{
    fputs(text, r->f);
}

const struct record_format record_format_text = {
    .name = "text",
    .help = "tables and sentences for people",
    .view = RECORD_PEOPLE,
    .title = line_write,
    .table = table_write,
    .row = row_write,
    .note = note_write,
};
