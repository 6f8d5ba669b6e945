#include "report/html.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "model/policy/policy.h"
#include "trace/log.h"

#define HTML_MAX_BYTES ((size_t)256 << 20)
#define HTML_PATH_MAX  2048

/* Whether FOLDER/NAME is there; its path either way. */
static bool in_folder(const char *folder, const char *name, char path[HTML_PATH_MAX])
{
    FILE *f;

    if (snprintf(path, HTML_PATH_MAX, "%s/%s", folder, name) >= HTML_PATH_MAX)
        return false;
    f = fopen(path, "rb");
    if (f)
        fclose(f);
    return f != NULL;
}

/* NULL where the file is absent; ERR_PARSE (logged) where it is not JSON. */
static int json_in(const char *folder, const char *name, json_t **out)
{
    char path[HTML_PATH_MAX];
    json_error_t error;

    *out = NULL;
    if (!in_folder(folder, name, path))
        return 0;
    *out = json_load_file(path, 0, &error);
    if (*out)
        return 0;
    log_error("%s:%d: not JSON: %s", path, error.line, error.text);
    return ERR_PARSE;
}

/* The columns of a timeline: integers, times in units of 10 ns, so that the page stays small. */
static long long time_of(double ns)
{
    return llround(ns / 10);
}

static long long rec_rank(const struct trace_record *r)
{
    return r->rank;
}
static long long rec_stream(const struct trace_record *r)
{
    return r->stream;
}
static long long rec_op(const struct trace_record *r)
{
    return r->op;
}
static long long rec_layer(const struct trace_record *r)
{
    return r->layer;
}
static long long rec_round(const struct trace_record *r)
{
    return r->round;
}
static long long rec_start(const struct trace_record *r)
{
    return time_of(r->start_ns);
}
static long long rec_end(const struct trace_record *r)
{
    return time_of(r->end_ns);
}
static long long rec_wait(const struct trace_record *r)
{
    return time_of(r->wait_ns);
}
static long long rec_sms(const struct trace_record *r)
{
    return r->sms;
}
static long long rec_rows(const struct trace_record *r)
{
    return r->rows;
}
static long long rec_bytes(const struct trace_record *r)
{
    return llround(r->bytes);
}
static long long rec_cause(const struct trace_record *r)
{
    return (long long)r->cause;
}
static long long rec_cause_op(const struct trace_record *r)
{
    return r->cause_op;
}
static long long rec_data_rank(const struct trace_record *r)
{
    return r->data_rank;
}
static long long rec_data_op(const struct trace_record *r)
{
    return r->data_op;
}

static const struct column {
    const char *name;
    long long (*get)(const struct trace_record *);
} columns[] = {
    {"rank", rec_rank},         {"stream", rec_stream},       {"op", rec_op},
    {"layer", rec_layer},       {"round", rec_round},         {"start", rec_start},
    {"end", rec_end},           {"wait", rec_wait},           {"sms", rec_sms},
    {"rows", rec_rows},         {"bytes", rec_bytes},         {"cause", rec_cause},
    {"cause_op", rec_cause_op}, {"data_rank", rec_data_rank}, {"data_op", rec_data_op},
};

/* Strings that repeat are kept once: the index of text in the array, which it joins if it is new.
 */
static json_int_t text_index(json_t *texts, json_t *places, const char *text)
{
    json_t *at = json_object_get(places, text);

    if (!at) {
        at = json_integer((json_int_t)json_array_size(texts));
        json_array_append_new(texts, json_string(text));
        json_object_set_new(places, text, at);
    }
    return json_integer_value(at);
}

/* Which ranks a long timeline keeps: [from, to). */
struct keep {
    int from, to;
};

static struct keep keep_of(const struct trace_log *log)
{
    int slowest = trace_log_slowest_rank(log);
    size_t per_rank = log->ranks > 0 ? (log->num_records + log->ranks - 1) / log->ranks : 1;
    int most = (int)(HTML_MAX_SPANS / (per_rank ? per_rank : 1));
    struct keep keep = {0, log->ranks};

    if (most < 1)
        most = 1;
    if (most < log->ranks) {
        keep.from = slowest - most / 2 < 0 ? 0 : slowest - most / 2;
        keep.from = keep.from + most > log->ranks ? log->ranks - most : keep.from;
        keep.to = keep.from + most;
    }
    return keep;
}

static bool kept(const struct keep *keep, const struct trace_record *r)
{
    return r->rank >= keep->from && r->rank < keep->to;
}

static json_t *column_of(const struct trace_log *log, const struct keep *keep,
                         const struct column *c)
{
    json_t *a = json_array();

    for (size_t i = 0; i < log->num_records; i++)
        if (kept(keep, &log->records[i]))
            json_array_append_new(a, json_integer(c->get(&log->records[i])));
    return a;
}

static void panel_parts(const struct trace_log *log, const struct keep *keep, json_t *panel)
{
    char name[16];

    for (int p = 0; p < PART_COUNT; p++) {
        json_t *a = json_array();

        for (size_t i = 0; i < log->num_records; i++)
            if (kept(keep, &log->records[i]))
                json_array_append_new(a, json_integer(time_of(log->records[i].part_ns[p])));
        snprintf(name, sizeof name, "part%d", p);
        json_object_set_new(panel, name, a);
    }
}

static void panel_texts(const struct trace_log *log, const struct keep *keep, json_t *panel)
{
    json_t *labels = json_array(), *kinds = json_array(), *label = json_array(),
           *kind = json_array(), *streams = json_object(), *label_at = json_object(),
           *kind_at = json_object(), *causes = json_array();
    char number[24];

    for (size_t i = 0; i < log->num_records; i++) {
        const struct trace_record *r = &log->records[i];

        if (!kept(keep, r))
            continue;
        json_array_append_new(label, json_integer(text_index(labels, label_at, r->label)));
        json_array_append_new(kind, json_integer(text_index(kinds, kind_at, r->kind)));
        snprintf(number, sizeof number, "%d", r->stream);
        json_object_set_new(streams, number, json_string(r->stream_name));
    }
    for (int c = 0; c <= CAUSE_UNKNOWN; c++)
        json_array_append_new(causes, json_string(trace_cause_name((enum trace_cause)c)));
    json_decref(label_at);
    json_decref(kind_at);
    json_object_set_new(panel, "labels", labels);
    json_object_set_new(panel, "kinds", kinds);
    json_object_set_new(panel, "label", label);
    json_object_set_new(panel, "kind", kind);
    json_object_set_new(panel, "streams", streams);
    json_object_set_new(panel, "causes", causes);
}

/* NAMEcounters.csv belongs to the timeline of NAMEspans.csv: one rank's load, a step function a
 * counter. */
static int panel_counters(const char *folder, const char *spans, json_t *panel)
{
    json_t *all = json_array(), *rank = json_null();
    char path[HTML_PATH_MAX], file[HTML_PATH_MAX];
    struct csv *csv = NULL;
    int stem = (int)(strlen(spans) - strlen("spans.csv"));
    bool there = snprintf(file, sizeof file, "%.*scounters.csv", stem, spans) < HTML_PATH_MAX &&
                 in_folder(folder, file, path);
    int err = there ? csv_read(path, HTML_MAX_BYTES, &csv) : 0;
    int at[4] = {-1, -1, -1, -1};

    if (csv) {
        at[0] = csv_col(csv, "rank");
        at[1] = csv_col(csv, "counter");
        at[2] = csv_col(csv, "t_us");
        at[3] = csv_col(csv, "value");
    }
    for (int c = 0; c < TRACE_NUM_COUNTERS; c++) {
        json_t *one = json_object(), *t = json_array(), *v = json_array();
        double most = 0, t_us, value;

        for (size_t i = 0; csv && at[0] >= 0 && at[1] >= 0 && i < csv->num_rows; i++) {
            if (trace_counter_find(csv_at(csv, i, at[1])) != c ||
                csv_double(csv, i, at[2], &t_us) || csv_double(csv, i, at[3], &value))
                continue;
            if (json_is_null(rank))
                rank = json_integer(atoi(csv_at(csv, i, at[0])));
            json_array_append_new(t, json_integer(time_of(t_us * 1000)));
            json_array_append_new(v, json_real(round(value * 10) / 10));
            most = fmax(most, value);
        }
        json_object_set_new(one, "t", t);
        json_object_set_new(one, "v", v);
        json_object_set_new(one, "most", json_real(most));
        json_object_set(one, "rank", rank);
        json_array_append_new(all, one);
    }
    json_decref(rank);
    csv_free(csv);
    json_object_set_new(panel, "counters", all);
    return err;
}

/* The title that `run` gave the timeline; else what its file is called. */
static void panel_title(const json_t *titles, const char *file, const struct trace_log *log,
                        const struct keep *keep, json_t *panel)
{
    char buf[768];
    const char *title = NULL;
    size_t i;
    json_t *entry;

    json_array_foreach(titles, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "file"));

        if (name && !strcmp(name, file))
            title = json_string_value(json_object_get(entry, "title"));
    }
    snprintf(buf, sizeof buf, "%s", title ? title : file);
    if (keep->to - keep->from < log->ranks)
        snprintf(buf + strlen(buf), sizeof buf - strlen(buf), " (ranks %d to %d of %d)", keep->from,
                 keep->to - 1, log->ranks);
    json_object_set_new(panel, "title", json_string(buf));
}

static int panel_of(const char *folder, const char *file, const json_t *titles, json_t **out)
{
    struct trace_log *log = NULL;
    char path[HTML_PATH_MAX];
    struct keep keep;
    json_t *panel;
    double last = 0;
    size_t n = 0;
    int err = in_folder(folder, file, path) ? trace_log_read(path, NULL, &log) : ERR_NOTFOUND;

    if (err)
        return err;
    panel = json_object();
    keep = keep_of(log);
    for (size_t i = 0; i < log->num_records; i++) {
        n += kept(&keep, &log->records[i]);
        last = fmax(last, log->records[i].end_ns);
    }
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++)
        json_object_set_new(panel, columns[c].name, column_of(log, &keep, &columns[c]));
    panel_parts(log, &keep, panel);
    panel_texts(log, &keep, panel);
    panel_title(titles, file, log, &keep, panel);
    json_object_set_new(panel, "n", json_integer((json_int_t)n));
    json_object_set_new(panel, "ranks", json_integer(log->ranks));
    json_object_set_new(panel, "last", json_integer(time_of(last)));
    json_object_set_new(panel, "slowest", json_integer(trace_log_slowest_rank(log)));
    err = panel_counters(folder, file, panel);
    trace_log_free(log);
    *out = panel;
    return err;
}

/* spans.csv first, then by name, so that measured stands beside predicted. */
static int spans_order(const struct dirent **a, const struct dirent **b)
{
    int main_a = !strcmp((*a)->d_name, "spans.csv"), main_b = !strcmp((*b)->d_name, "spans.csv");

    return main_a != main_b ? main_b - main_a : strcmp((*a)->d_name, (*b)->d_name);
}

static int is_spans(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len >= 9 && !strcmp(entry->d_name + len - 9, "spans.csv");
}

static int panels_of(const char *folder, json_t *data)
{
    json_t *panels = json_array(), *titles = NULL;
    struct dirent **names = NULL;
    int err = json_in(folder, "timelines.json", &titles);
    int n = err ? 0 : scandir(folder, &names, is_spans, spans_order);

    for (int i = 0; i < n; i++) {
        json_t *panel = NULL;

        if (!err)
            err = panel_of(folder, names[i]->d_name, titles, &panel);
        if (panel)
            json_array_append_new(panels, panel);
        free(names[i]);
    }
    free(names);
    json_decref(titles);
    json_object_set_new(data, "panels", panels);
    return err;
}

/* why.csv: what each counterfactual saves. */
static int why_of(const char *folder, json_t *data)
{
    json_t *rows = json_array();
    char path[HTML_PATH_MAX];
    struct csv *csv = NULL;
    int err = in_folder(folder, "why.csv", path) ? csv_read(path, HTML_MAX_BYTES, &csv) : 0;
    int label = csv ? csv_col(csv, "label") : -1, value = csv ? csv_col(csv, "value") : -1;
    double x;

    for (size_t i = 0; label >= 0 && value >= 0 && i < csv->num_rows; i++)
        if (!csv_double(csv, i, value, &x))
            json_array_append_new(rows, json_pack("[sf]", csv_at(csv, i, label), x));
    csv_free(csv);
    json_object_set_new(data, "why", rows);
    return err;
}

/* The configuration, if the file that the summary names is still the one that ran. */
static void config_of(const json_t *summary, json_t *data)
{
    const char *path = json_string_value(json_object_get(summary, "config"));
    const char *want = json_string_value(json_object_get(summary, "config_hash"));
    char hash[65], *text = NULL;
    size_t len;
    FILE *there = path ? fopen(path, "rb") : NULL;

    if (!there)
        return;
    fclose(there);
    if (file_read(path, (size_t)1 << 20, &text, &len))
        return;
    file_hash_text(text, len, hash);
    if (want && !strcmp(want, hash))
        json_object_set_new(data, "config", json_string(text));
    free(text);
}

static int data_of(const char *folder, json_t **out)
{
    json_t *data = json_object(), *policies = json_array(), *summary = NULL;
    int err = json_in(folder, "summary.json", &summary);

    for (size_t i = 0; i < policy_count(); i++)
        json_array_append_new(policies, json_string(policy_at(i)->name));
    json_object_set_new(data, "policies", policies); /* a colour each, in this order */
    json_object_set_new(data, "folder", json_string(folder));
    if (!err)
        err = panels_of(folder, data);
    if (!err)
        err = why_of(folder, data);
    if (!err && !summary && !json_array_size(json_object_get(data, "panels"))) {
        log_error("%s: neither summary.json nor spans.csv is there: not a folder of results",
                  folder);
        err = ERR_NOTFOUND;
    }
    if (!err && summary)
        config_of(summary, data);
    if (summary)
        json_object_set_new(data, "summary", summary);
    *out = data;
    return err;
}

/* JSON inside a page: a '<' only stands in strings, where its escape means the same, so that no
 * text can end the script that holds it. */
static int put_json(const char *text, size_t len, void *file)
{
    FILE *f = (FILE *)file;

    for (size_t i = 0; i < len; i++)
        if (text[i] == '<')
            fputs("\\u003c", f);
        else
            fputc(text[i], f);
    return ferror(f) ? -1 : 0;
}

/* A shipped file of the page, as it is. */
static int put_file(const char *name, FILE *out)
{
    static const char *const rooms[] = {"report/page", "report/vendor"};
    char path[HTML_PATH_MAX], *found = NULL, *text = NULL;
    size_t len = 0;
    int err = ERR_NOTFOUND;

    for (size_t i = 0; i < 2 && err; i++) {
        snprintf(path, sizeof path, "%s/%s", rooms[i], name);
        err = file_find_installed(path, &found);
    }
    if (err) {
        log_error("the page's file %s is not shipped with this program", name);
        return err;
    }
    err = file_read(found, HTML_MAX_BYTES, &text, &len);
    if (!err)
        fwrite(text, 1, len, out);
    free(text);
    free(found);
    return err;
}

/* The skeleton, with every @@NAME@@ replaced by the file of that name or by the data. */
static int put_page(const char *page, const json_t *data, FILE *out)
{
    const char *at = page, *mark;
    char name[64];
    int err = 0;

    while (!err && (mark = strstr(at, "@@"))) {
        const char *end = strstr(mark + 2, "@@");

        if (!end || (size_t)(end - mark - 2) >= sizeof name)
            break;
        fwrite(at, 1, (size_t)(mark - at), out);
        snprintf(name, sizeof name, "%.*s", (int)(end - mark - 2), mark + 2);
        if (strcmp(name, "data"))
            err = put_file(name, out);
        else
            err = json_dump_callback(data, put_json, out, JSON_COMPACT | JSON_REAL_PRECISION(9))
                      ? ERR_IO
                      : 0;
        at = end + 2;
    }
    fputs(at, out);
    return err;
}

int html_write(const char *folder, FILE *out)
{
    char *path = NULL, *page = NULL;
    json_t *data = NULL;
    size_t len;
    int err = data_of(folder, &data);

    if (!err) {
        err = file_find_installed("report/page/page.html", &path);
        if (err)
            log_error("the page's file page.html is not shipped with this program");
    }
    if (!err)
        err = file_read(path, HTML_MAX_BYTES, &page, &len);
    if (!err)
        err = put_page(page, data, out);
    free(page);
    free(path);
    json_decref(data);
    return err;
}
