/* base/csv.h: comma-separated files with a header line. Quotes ("") and CRLF are understood. */
#ifndef PEOSIM_BASE_CSV_H
#define PEOSIM_BASE_CSV_H

#include <stddef.h>

struct csv {
    char *path;
    int num_cols;
    char **header;
    size_t num_rows;
    char **cell;        /* [num_rows * num_cols], never NULL; "" where a short row ends early */
    int *line;          /* [num_rows]: line in the file */
    unsigned char *bad; /* [num_rows]: 1 = wrong number of cells */
    char sha256[65];
    void *arena;
};

#define CSV_MAX_COLS 4096

/* The first line is the header; blank lines and lines that start with # are skipped. ERR_NOTFOUND,
 * ERR_IO, ERR_PARSE (no header, binary, open quote), ERR_RANGE (too big), ERR_NOMEM; logged. A file
 * with a header and no rows is fine (num_rows 0). */
int csv_read(const char *path, size_t max_bytes, struct csv **out);
int csv_parse(const char *text, size_t len, const char *name, struct csv **out);
void csv_free(struct csv *csv);
int csv_col(const struct csv *csv, const char *name); /* index or -1 */
const char *csv_at(const struct csv *csv, size_t row, int col);
/* 0 or ERR_DATA (empty, not a finite number); silent. */
int csv_double(const struct csv *csv, size_t row, int col, double *out);

#endif
