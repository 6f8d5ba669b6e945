/* Bad rows: the first few by what is wrong with each, all others counted by reason and named by
 * their lines, so that a file of many faults can be mended in one go. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "calib/read.h"

#define BAD_NAMED   10
#define MAX_REASONS 16 /* what does not fit counts with the last */

struct data_reason {
    char text[96];
    size_t rows; /* all of them */
    int *line;   /* those not named one by one */
    size_t num, cap;
};

/* "latency_us '-1' is too small" -> "latency_us is too small": values differ, the reason does not.
 */
static void reason_of(const char *text, char *out, size_t size)
{
    bool quoted = false;
    size_t at = 0;

    for (; *text && at + 1 < size; text++) {
        if (*text == '\'') {
            quoted = !quoted;
            text += !quoted && text[1] == ' ';
        } else if (!quoted && isdigit((unsigned char)*text)) {
            at -= at > 0 && out[at - 1] == '#';
            out[at++] = '#';
        } else if (!quoted) {
            out[at++] = *text;
        }
    }
    out[at] = '\0';
}

static struct data_reason *reason_find(struct data_set *set, const char *text)
{
    char key[sizeof set->reasons->text];
    size_t i = 0;

    reason_of(text, key, sizeof key);
    if (!set->reasons && !(set->reasons = calloc(MAX_REASONS, sizeof *set->reasons)))
        return NULL;
    while (i < set->num_reasons && strcmp(set->reasons[i].text, key) != 0)
        i++;
    if (i == MAX_REASONS) {
        i = MAX_REASONS - 1;
        snprintf(set->reasons[i].text, sizeof key, "other reasons");
    } else if (i == set->num_reasons) {
        set->num_reasons++;
        snprintf(set->reasons[i].text, sizeof key, "%s", key);
    }
    return &set->reasons[i];
}

static void reason_line(struct data_reason *r, int line)
{
    if (r->num == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 64;
        int *grown = realloc(r->line, cap * sizeof *grown);

        if (!grown)
            return; /* the row still counts */
        r->line = grown;
        r->cap = cap;
    }
    r->line[r->num++] = line;
}

void data_bad(struct data_set *set, int line, const char *fmt, ...)
{
    struct data_reason *reason;
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    reason = reason_find(set, text);
    set->bad++;
    if (reason)
        reason->rows++;
    if (set->bad <= BAD_NAMED)
        log_warn_at(set->path, line, "%s; row skipped", text);
    else if (reason)
        reason_line(reason, line);
}

static int line_compare(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

/* "12-40, 44" from line[*next] on, as much as fits. */
static void line_ranges(const struct data_reason *r, size_t *next, char *buf, size_t size)
{
    size_t at = 0;

    while (*next < r->num && at + 32 < size) {
        size_t last = *next;

        while (last + 1 < r->num && r->line[last + 1] <= r->line[last] + 1)
            last++;
        at += (size_t)snprintf(buf + at, size - at,
                               r->line[last] > r->line[*next] ? "%s%d-%d" : "%s%d", at ? ", " : "",
                               r->line[*next], r->line[last]);
        *next = last + 1;
    }
}

void data_bad_summary(const struct data_set *set, bool strict)
{
    for (size_t i = 0; i < set->num_reasons && (strict || set->bad > BAD_NAMED); i++) {
        struct data_reason *r = &set->reasons[i];
        char list[512];
        size_t next = 0;

        log_warn_at(set->path, 0, "%zu row%s: %s", r->rows, r->rows == 1 ? "" : "s", r->text);
        if (r->num > 0)
            qsort(r->line, r->num, sizeof *r->line, line_compare);
        while (next < r->num) {
            line_ranges(r, &next, list, sizeof list);
            log_warn_at(set->path, 0, "  lines not named above: %s", list);
        }
    }
}

void data_bad_free(struct data_set *set)
{
    for (size_t i = 0; i < set->num_reasons; i++)
        free(set->reasons[i].line);
    free(set->reasons);
}
