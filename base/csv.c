#include "base/csv.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"

/* Cells that any file may have, whatever its size. */
#define CSV_MIN_CELLS ((size_t)1 << 20)

/* Cells are unquoted in place and point into the text, so a file costs its size once. */
struct csv_reader {
    const char *name;
    char *p, *end;
    int line;
    char *row[CSV_MAX_COLS + 1]; /* the last takes what is too much */
    size_t cap_rows, max_cells;
};

/* Reads one cell, ends it with NUL and steps over its separator. *last = it ended its row. */
static int csv_cell(struct csv_reader *r, char **cell, bool *last)
{
    char *w = r->p;
    bool quoted = r->p < r->end && *r->p == '"';
    int first_line = r->line;
    char sep;

    *cell = w;
    r->p += quoted;
    while (r->p < r->end) {
        char c = *r->p;
        if (quoted && c == '"') {
            r->p++;
            if (r->p >= r->end || *r->p != '"') {
                quoted = false;
                continue;
            }
        } else if (!quoted && (c == ',' || c == '\n')) {
            break;
        }
        r->line += c == '\n';
        *w++ = *r->p++;
    }
    if (quoted) {
        log_error_at(r->name, first_line, "a quote is opened and never closed");
        return ERR_PARSE;
    }
    sep = r->p < r->end ? *r->p : '\n';
    if (r->p < r->end)
        r->p++;
    *last = sep == '\n';
    r->line += *last;
    if (*last && w > *cell && w[-1] == '\r')
        w--;
    *w = '\0';
    return 0;
}

static void csv_skip_idle_lines(struct csv_reader *r)
{
    while (r->p < r->end) {
        char *eol = memchr(r->p, '\n', (size_t)(r->end - r->p));
        char *stop = eol ? eol : r->end;
        size_t blank = strspn(r->p, " \t\r");
        if (r->p[0] != '#' && r->p + blank < stop)
            break;
        r->p = eol ? eol + 1 : r->end;
        r->line += eol != NULL;
    }
}

/* Cells of the next row in r->row; a row too long for any table counts CSV_MAX_COLS. */
static int csv_row(struct csv_reader *r, int *n)
{
    bool last = false;
    int rc = 0;

    for (*n = 0; rc == 0 && !last;) {
        rc = csv_cell(r, &r->row[*n], &last);
        *n += *n < CSV_MAX_COLS;
    }
    return rc;
}

static int csv_read_header(struct csv_reader *r, struct csv *csv)
{
    int rc, line;

    csv_skip_idle_lines(r);
    line = r->line;
    if (r->p >= r->end) {
        log_error_at(r->name, line, "no header line");
        return ERR_PARSE;
    }
    rc = csv_row(r, &csv->num_cols);
    if (rc)
        return rc;
    if (csv->num_cols >= CSV_MAX_COLS) {
        log_error_at(r->name, line, "more than %d columns", CSV_MAX_COLS - 1);
        return ERR_RANGE;
    }
    csv->header = malloc((size_t)csv->num_cols * sizeof *csv->header);
    if (!csv->header)
        return ERR_NOMEM;
    memcpy(csv->header, r->row, (size_t)csv->num_cols * sizeof *csv->header);
    return 0;
}

static int csv_grow(struct csv_reader *r, struct csv *csv)
{
    size_t cols = (size_t)csv->num_cols, cap = r->cap_rows ? r->cap_rows * 2 : 64;
    void *cell, *line, *bad;

    /* Whole rows have no more cells than bytes; only the filling up of short ones is unbounded. */
    if (cols * csv->num_rows > r->max_cells) {
        log_error_at(r->name, r->line, "too many rows are shorter than the header");
        return ERR_RANGE;
    }
    cell = realloc(csv->cell, cap * cols * sizeof *csv->cell);
    if (cell)
        csv->cell = cell;
    line = realloc(csv->line, cap * sizeof *csv->line);
    if (line)
        csv->line = line;
    bad = realloc(csv->bad, cap);
    if (bad)
        csv->bad = bad;
    if (!cell || !line || !bad)
        return ERR_NOMEM;
    r->cap_rows = cap;
    return 0;
}

static int csv_read_rows(struct csv_reader *r, struct csv *csv)
{
    int rc = 0, n, line;

    for (csv_skip_idle_lines(r); r->p < r->end; csv_skip_idle_lines(r)) {
        char **cell;
        line = r->line;
        rc = csv_row(r, &n);
        if (rc == 0 && csv->num_rows == r->cap_rows)
            rc = csv_grow(r, csv);
        if (rc)
            break;
        cell = csv->cell + csv->num_rows * (size_t)csv->num_cols;
        for (int c = 0; c < csv->num_cols; c++)
            cell[c] = c < n ? r->row[c] : r->end; /* the NUL at the end serves as "" */
        csv->line[csv->num_rows] = line;
        csv->bad[csv->num_rows++] = n != csv->num_cols;
    }
    return rc;
}

/* Takes over `text` (from malloc, NUL-terminated), also on failure. */
static int csv_build(char *text, size_t len, const char *name, struct csv **out)
{
    struct csv *csv = calloc(1, sizeof *csv);
    struct csv_reader *r = calloc(1, sizeof *r);
    size_t bom = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    int rc = ERR_NOMEM;

    if (!csv || !r) {
        free(text);
        goto out;
    }
    csv->arena = text;
    csv->path = strdup(name);
    if (!csv->path)
        goto out;
    file_hash_text(text, len, csv->sha256);
    if (memchr(text, '\0', len)) {
        log_error_at(name, 0, "is not a text file");
        rc = ERR_PARSE;
        goto out;
    }
    *r = (struct csv_reader){.name = name, .p = text + bom, .end = text + len, .line = 1};
    r->max_cells = len > CSV_MIN_CELLS ? len : CSV_MIN_CELLS;
    rc = csv_read_header(r, csv);
    if (rc == 0)
        rc = csv_read_rows(r, csv);
out:
    free(r);
    if (rc) {
        csv_free(csv);
        csv = NULL;
    }
    *out = csv;
    return rc;
}

int csv_read(const char *path, size_t max_bytes, struct csv **out)
{
    char *text;
    size_t len;
    int rc;

    *out = NULL;
    rc = file_read(path, max_bytes, &text, &len);
    return rc ? rc : csv_build(text, len, path, out);
}

int csv_parse(const char *text, size_t len, const char *name, struct csv **out)
{
    char *copy = malloc(len + 1);

    *out = NULL;
    if (!copy)
        return ERR_NOMEM;
    if (len)
        memcpy(copy, text, len);
    copy[len] = '\0';
    return csv_build(copy, len, name, out);
}

void csv_free(struct csv *csv)
{
    if (!csv)
        return;
    free(csv->path);
    free(csv->header);
    free(csv->cell);
    free(csv->line);
    free(csv->bad);
    free(csv->arena);
    free(csv);
}

int csv_col(const struct csv *csv, const char *name)
{
    for (int c = 0; c < csv->num_cols; c++) {
        if (strcmp(csv->header[c], name) == 0)
            return c;
    }
    return -1;
}

const char *csv_at(const struct csv *csv, size_t row, int col)
{
    return csv->cell[row * (size_t)csv->num_cols + (size_t)col];
}

int csv_double(const struct csv *csv, size_t row, int col, double *out)
{
    return num_double(csv_at(csv, row, col), out) ? ERR_DATA : 0;
}
