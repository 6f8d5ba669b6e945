/* What a finished sweep says: read back from its files, a scenario at a time. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "report/points_line.h"
#include "report/report.h"
#include "report/sweep.h"
#include "study/journal.h"

/* Scenarios in the table for people; the rest are in best.csv. */
enum { TABLE_MAX = 40 };

/* A line of points.csv or best.csv. */
struct row {
    char *cell[CELLS_MAX];
    double gain_pct; /* for people, of a scenario's best */
    char words[512];
    json_t *knobs; /* nested: by name, as run has them */
};

struct reader {
    const struct config *c;
    struct record *r;
    char head[JOURNAL_ROW_MAX], *keys[CELLS_MAX];
    struct record_column column[CELLS_MAX + 1];
    struct record_table table;
    /* Of consecutive lines with equal first cells, the one that gains most. */
    char where[512], best[JOURNAL_ROW_MAX];
    double gain_pct;
    size_t scenarios;
};

static size_t cell_offset(int i)
{
    return offsetof(struct row, cell) + (size_t)i * sizeof(char *);
}

/* The knobs that are worth a reader's time: those that are not at their defaults, and not the
 * method, which stands in the policy's name. */
static void knob_words(const char *name, const char *text, char *buf, size_t size)
{
    char policy_name[32], usual[512];
    const struct policy *policy;
    struct knobs dflt;
    size_t used = 0;

    snprintf(policy_name, sizeof policy_name, "%.*s", (int)strcspn(name, " "), name);
    policy = policy_find(policy_name);
    usual[0] = buf[0] = '\0';
    if (policy) {
        knobs_default(policy, &dflt);
        usual[0] = ' ';
        policy_knobs_text(policy, &dflt, usual + 1, sizeof usual - 1);
    }
    for (const char *at = text; *at && used < size; at += strspn(at, " ")) {
        char word[80];
        int len = (int)strcspn(at, " ");
        bool main_knob = !strncmp(at, "num_", 4) || !strncmp(at, "combine_num_sms", 15);

        snprintf(word, sizeof word, " %.*s", len, at);
        if (!policy || main_knob ||
            (strncmp(at, "overlap_method", 14) != 0 && !strstr(usual, word)))
            used += (size_t)snprintf(buf + used, size - used, "%s%.*s", used ? " " : "", len, at);
        at += len;
    }
}

static json_t *knobs_json(const char *name, char *text)
{
    const struct policy *policy = policy_find(name);
    json_t *out = json_object();
    char *word;

    while ((word = strsep(&text, " ")) != NULL) {
        char *value = strchr(word, '=');
        const struct opt *o;

        if (!value)
            continue;
        *value++ = '\0';
        o = policy ? opt_find(policy->knobs, word) : NULL;
        json_object_set_new(out, word,
                            o && o->type == OPT_INT    ? json_integer(atoll(value))
                            : o && o->type == OPT_BOOL ? json_boolean(!strcmp(value, "true"))
                                                       : json_string(value));
    }
    return out;
}

static void column_add(struct reader *t, struct record_column column)
{
    t->column[t->table.num_columns++] = column;
}

static void table_begin(struct reader *t)
{
    t->table.column = t->column;
    t->table.key = "results";
    t->table.views = RECORD_ALL;
    record_table(t->r, &t->table);
}

static void people_columns(struct reader *t, int vary)
{
    for (int i = 0; i < vary; i++) {
        const char *dot = strrchr(t->keys[i], '.');

        column_add(t, (struct record_column){.head = dot ? dot + 1 : t->keys[i],
                                             .type = RECORD_WORDS,
                                             .offset = cell_offset(i),
                                             .width = i ? 16 : 7,
                                             .views = RECORD_PEOPLE});
    }
    column_add(t, (struct record_column){.head = "best policy",
                                         .type = RECORD_WORDS,
                                         .offset = cell_offset(vary + CELL_POLICY),
                                         .width = -20,
                                         .wide = true,
                                         .views = RECORD_PEOPLE});
    column_add(t, (struct record_column){.head = "layer us",
                                         .type = RECORD_WORDS,
                                         .offset = cell_offset(vary + CELL_LAYER_US),
                                         .width = 10,
                                         .views = RECORD_PEOPLE});
    column_add(t, (struct record_column){.head = "gain",
                                         .type = RECORD_REAL,
                                         .offset = offsetof(struct row, gain_pct),
                                         .width = 8,
                                         .digits = 1,
                                         .plus = true,
                                         .unit = "%",
                                         .views = RECORD_PEOPLE});
    column_add(t, (struct record_column){.head = "knobs",
                                         .type = RECORD_STRING,
                                         .offset = offsetof(struct row, words),
                                         .wide = true,
                                         .views = RECORD_PEOPLE});
}

/* As the file has them; nested formats have the knobs by name. */
static void data_columns(struct reader *t, int vary, int n)
{
    for (int i = 0; i < n; i++)
        column_add(
            t, (struct record_column){.key = t->keys[i],
                                      .type = RECORD_CELL,
                                      .offset = cell_offset(i),
                                      .views = i == vary + CELL_KNOBS ? RECORD_FLAT : RECORD_DATA});
    column_add(t, (struct record_column){.key = "knobs",
                                         .type = RECORD_OBJECT,
                                         .offset = offsetof(struct row, knobs),
                                         .views = RECORD_NESTED});
}

static void head_read(struct reader *t, const char *line)
{
    int vary = points_line_vary(t->c), n;

    snprintf(t->head, sizeof t->head, "%s", line);
    n = points_line_split(t->head, t->keys);
    if (record_is_for(t->r, RECORD_PEOPLE))
        people_columns(t, vary);
    else
        data_columns(t, vary, n < CELLS_MAX ? n : CELLS_MAX - 1);
    table_begin(t);
}

static int data_line(void *self, char *line, bool head)
{
    struct reader *t = self;
    struct row row = {0};
    int vary = points_line_vary(t->c), n;

    if (head) {
        head_read(t, line);
        return 0;
    }
    n = points_line_split(line, row.cell);
    for (int i = 0; i < n; i++)
        points_line_unquote(row.cell[i]);
    if (n > vary + CELL_KNOBS && record_is_for(t->r, RECORD_NESTED))
        row.knobs = knobs_json(row.cell[vary + CELL_POLICY], row.cell[vary + CELL_KNOBS]);
    record_row(t->r, &row);
    json_decref(row.knobs);
    return 0;
}

static void best_flush(struct reader *t)
{
    struct row row = {.gain_pct = t->gain_pct};
    int vary = points_line_vary(t->c);

    if (*t->best && t->scenarios++ < TABLE_MAX) {
        points_line_split(t->best, row.cell);
        snprintf(row.words, sizeof row.words, "do not overlap with the values tried");
        if (t->gain_pct > 0)
            knob_words(row.cell[vary + CELL_POLICY], row.cell[vary + CELL_KNOBS], row.words,
                       sizeof row.words);
        record_row(t->r, &row);
    }
    *t->best = '\0';
}

static int best_line(void *self, char *line, bool head)
{
    struct reader *t = self;
    char copy[JOURNAL_ROW_MAX], where[512] = "", *cells[CELLS_MAX];
    int vary = points_line_vary(t->c), n;
    double gain;
    size_t at = 0;

    if (head) {
        head_read(t, line);
        return 0;
    }
    snprintf(copy, sizeof copy, "%s", line);
    n = points_line_split(copy, cells);
    if (n <= vary + CELL_KNOBS)
        return ERR_DATA;
    for (int i = 0; i < vary && at < sizeof where; i++)
        at += (size_t)snprintf(where + at, sizeof where - at, "%s,", cells[i]);
    if (strcmp(where, t->where))
        best_flush(t);
    memcpy(t->where, where, sizeof where);
    gain = strtod(cells[vary + CELL_GAIN_PCT], NULL);
    if (!*t->best || gain > t->gain_pct) {
        snprintf(t->best, sizeof t->best, "%s", line);
        t->gain_pct = gain;
    }
    return 0;
}

static void people_title(const struct config *c, struct record *r)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return;
    report_head(c, f);
    report_basis(c, false, f);
    fclose(f);
    record_title(r, text);
    free(text);
}

int sweep_report(const struct config *c, const char *folder, struct record *r)
{
    struct reader *t = calloc(1, sizeof *t);
    bool people = record_is_for(r, RECORD_PEOPLE);
    int err;

    if (!t)
        return ERR_NOMEM;
    t->c = c;
    t->r = r;
    report_members(c, r);
    if (people)
        people_title(c, r);
    err = points_line_each(folder, people ? "best.csv" : "points.csv",
                           people ? best_line : data_line, t);
    best_flush(t);
    record_table_end(r);
    if (t->scenarios > TABLE_MAX)
        record_note(r, "  ... and %zu more: %s/best.csv\n", t->scenarios - TABLE_MAX, folder);
    report_tail_record(c, r);
    free(t);
    return err;
}
