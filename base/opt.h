/* base/opt.h: one option table gives YAML keys, --flags, --set key=value, --help, defaults, units,
 * ranges and "did you mean". A table describes fields of a plain struct by offset. */
#ifndef PEOSIM_BASE_OPT_H
#define PEOSIM_BASE_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/doc.h"

enum opt_type {
    OPT_INT,    /* int */
    OPT_DOUBLE, /* double */
    OPT_BOOL,   /* bool */
    OPT_STRING, /* char *, owned by the struct (opt_free_strings) */
    OPT_ENUM    /* int: index into choices */
};

struct opt {
    const char *key; /* "num_rounds", or dotted: "cluster.nodes" */
    enum opt_type type;
    size_t offset;       /* of the field in the target struct */
    double min, max;     /* numbers: inclusive range */
    const char *def;     /* default as text; NULL = leave as it is */
    const char *unit;    /* "us", "GB/s", "tokens"; NULL = none */
    const char *choices; /* OPT_ENUM: "uniform|zipf|..." */
    const char *help;
    bool list; /* a list in a config means every combination (the expander reads this) */
};
/* A table ends with an entry whose key is NULL. */

/* *target must be zeroed before. A default that does not pass its own table is a bug (assert). */
int opt_set_defaults(const struct opt *table, void *target);
/* Sets one key from text ('-' counts as '_' in keys). Messages carry file:line (file may be
 * "--set"). A number may carry the option's own unit ("10 us"). text NULL (a null in YAML) has no
 * value: an error. ERR_CONFIG for an unknown key (the nearest key is offered), a wrong type, unit
 * or choice; ERR_RANGE. */
int opt_set(const struct opt *table, void *target, const char *key, const char *text,
            const char *file, int line);
/* Sets every scalar of a map (nested maps become dotted keys). Unknown keys are errors. Where the
 * option allows a list, every member is checked and the first one stays set. */
int opt_set_map(const struct opt *table, void *target, const struct doc *doc,
                const struct doc_node *map);
/* The value as text, as --help and the result header print it. ERR_RANGE when buf is too small. */
int opt_format(const struct opt *opt, const void *target, char *buf, size_t size);
void opt_free_strings(const struct opt *table, void *target);
const struct opt *opt_find(const struct opt *table, const char *key);
/* The closest of n names by edit distance when close enough to be meant, or the name whose last
 * dotted part is the word; else NULL. */
const char *opt_nearest(const char *word, const char *const *names, size_t n);
const char *opt_type_name(enum opt_type type); /* "int", "number", "bool", "text", "choice" */
/* One line per option: key, type, default, unit, range, help. */
void opt_print_help(const struct opt *table, FILE *f);

#endif
