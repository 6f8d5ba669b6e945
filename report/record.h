/* report/record.h: one writer of results for every output format. A command says what it found
 * once: members (version, configuration, ...), tables of rows, notes between them. A format (a row
 * of report/formats.h) turns these calls into bytes.
 *
 * A row is a struct; a table of columns says, as option tables do, where in it each value lies,
 * what programs call it, and how wide people see it. Formats differ in what they can hold: people
 * want a few rounded columns and sentences, a flat file wants one table, a nested one wants
 * everything. So tables and columns name the views that they are part of, and a format is of one
 * view. */
#ifndef PEOSIM_REPORT_RECORD_H
#define PEOSIM_REPORT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct json_t;

enum record_view {
    RECORD_PEOPLE = 1, /* rounded, with heads, units and notes; the rows worth reading */
    RECORD_FLAT = 2,   /* one table, every row, full precision */
    RECORD_NESTED = 4, /* every table and member; values may be objects */
    RECORD_DATA = RECORD_FLAT | RECORD_NESTED,
    RECORD_ALL = 7
};

enum record_type {
    RECORD_STRING, /* char[] in the row */
    RECORD_WORDS,  /* const char * in the row */
    RECORD_INT,
    RECORD_INT64,
    RECORD_REAL, /* double */
    RECORD_BOOL,
    RECORD_CELL,  /* const char * out of a file: a number where it reads as one; "": none */
    RECORD_OBJECT /* struct json_t *, which the row owns; nested formats only; NULL: left out */
};

struct record_column {
    const char *key;  /* for programs; NULL: not for them */
    const char *head; /* over the column, for people */
    enum record_type type;
    size_t offset;    /* in the row */
    int width;        /* for people: at least so many characters; below 0: to the left */
    int digits;       /* behind the point */
    bool plus;        /* a sign even where it is positive */
    const char *unit; /* right behind the number, as "%" (inside the width); NULL = none */
    bool wide;        /* for people: two blanks before it */
    const char *none; /* for people: stands for NAN; NULL = blanks */
    unsigned views;
};

struct record_table {
    const char *key; /* its name in nested formats */
    unsigned views;
    const struct record_column *column;
    int num_columns;
};

struct record;

/* A format: callbacks that write. NULL: the format has no such thing. */
struct record_format {
    const char *name; /* --format NAME */
    const char *help;
    enum record_view view;
    void (*open)(struct record *r);
    void (*title)(struct record *r, const char *line); /* once per line of the title */
    void (*member)(struct record *r, const char *key, const struct json_t *value);
    void (*table)(struct record *r); /* r->table begins */
    void (*row)(struct record *r, const void *row);
    void (*note)(struct record *r, const char *text); /* whole lines, or what follows a row */
    void (*end)(struct record *r);                    /* r->table ends */
    void (*close)(struct record *r);
};

struct record {
    const struct record_format *format;
    FILE *f;
    const struct record_table *table; /* NULL: none is open */
    size_t members, rows, tables;     /* rows: of this table */
    struct json_t *line;              /* a format's own, freed by its close */
};

size_t record_format_count(void);
const struct record_format *record_format_at(size_t i);
const struct record_format *record_format_find(const char *name); /* NULL if there is none */

void record_open(struct record *r, const struct record_format *format, FILE *f);
bool record_is_for(const struct record *r, unsigned views);
/* What stands above the results: for people, and as a comment in flat files. */
void record_title(struct record *r, const char *text);
/* Takes the value over (NULL: nothing is written). */
void record_member(struct record *r, const char *key, struct json_t *value);
void record_member_text(struct record *r, const char *key, const char *text);
/* A table of another view than the format's is left out with its rows. Ends the one before. */
void record_table(struct record *r, const struct record_table *table);
void record_row(struct record *r, const void *row);
void record_table_end(struct record *r);
/* A sentence or a line of a table of another form, for people. */
void record_note(struct record *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int record_close(struct record *r); /* ERR_IO */

/* For formats: the columns of r's view in turn, from i on; NULL behind the last. */
const struct record_column *record_column_next(const struct record *r, int *i);
/* As people see it, without padding; and as programs do: all digits that are sure. */
void record_text(const struct record_column *c, const void *row, char *buf, size_t size);
void record_plain(const struct record_column *c, const void *row, char *buf, size_t size);
/* The row as an object of the columns of r's view; the caller frees. */
struct json_t *record_object(const struct record *r, const void *row);
/* A cell of a flat file: quoted where it must be. */
void record_csv_cell(const char *text, FILE *f);

#endif
