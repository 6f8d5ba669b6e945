#include "report/validate_files.h"

#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "report/plot.h"
#include "report/validate.h"
#include "trace/chrome.h"
#include "trace/csv.h"
#include "trace/log.h"

static int path_of(const struct validate_files *x, const char *name, char *buf, size_t size)
{
    if ((size_t)snprintf(buf, size, "%s/%s", x->folder, name) < size)
        return 0;
    log_error("%s: the path is too long", x->folder);
    return ERR_RANGE;
}

static int file_write(const struct validate_files *x, const char *name,
                      int (*write)(const void *self, FILE *f), const void *self)
{
    struct file_out f = {0};
    char path[1024];
    int err = path_of(x, name, path, sizeof path);

    if (!err)
        err = file_create(&f, path);
    if (!err)
        err = write(self, f.f);
    if (!err)
        err = file_commit(&f);
    file_abort(&f);
    return err;
}

struct pair {
    const struct trace_log *predicted, *measured;
    const char *title;
};

static int write_pair_chrome(const void *self, FILE *f)
{
    const struct pair *p = self;
    struct trace_chrome c;

    trace_chrome_begin(&c, f, p->title, NULL);
    trace_chrome_add(&c, p->predicted, "predicted");
    trace_chrome_add(&c, p->measured, "measured");
    return trace_chrome_end(&c);
}

/* What plots/compare.gp reads: spans of both, with the trace's name before them. */
static int write_pair_csv(const void *self, FILE *f)
{
    const struct pair *p = self;
    const struct trace_log *log[] = {p->predicted, p->measured};
    static const char *const names[] = {"predicted", "measured"};

    fprintf(f, "trace,");
    trace_csv_header(f);
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < log[i]->num_records; k++) {
            fprintf(f, "%s,", names[i]);
            trace_csv_record(&log[i]->records[k], f);
        }
    return 0;
}

static int write_spans(const void *self, FILE *f)
{
    return trace_csv_write(self, f);
}

static int write_chrome(const void *self, FILE *f)
{
    return trace_chrome_write(self, f, NULL, NULL);
}

static void picture(const struct validate_files *x, const struct pair *pair, const char *stem,
                    int num_sms)
{
    char csv[1200], out[1200], rank[16], sms[16];
    const char *extra[] = {rank, sms, NULL};

    snprintf(csv, sizeof csv, "%s/%s-compare.csv", x->folder, stem);
    snprintf(out, sizeof out, "%s/%s-compare", x->folder, stem);
    snprintf(rank, sizeof rank, "%d", trace_log_slowest_rank(pair->measured));
    snprintf(sms, sizeof sms, "%d", num_sms);
    plot_draw("compare", csv, out, pair->title, extra);
}

static void stem_of(const struct validate_point *p, char *buf, size_t size)
{
    snprintf(buf, size, "%03zu-%s-b%d", p->index, p->policy->name, p->batch);
}

/* The measured timeline: of this run, or the one that an earlier run left. *out stays NULL where
 * there is none. */
static int measured_log(const struct validate_files *x, const struct validate_point *p,
                        const struct plan *plan, struct trace_log **out)
{
    const char *from = p->kept ? x->folder : x->measured;
    char stem[64], path[1024];

    if (p->trace)
        return trace_log_of(p->trace, plan, out);
    stem_of(p, stem, sizeof stem);
    snprintf(path, sizeof path, "%s/%s-measured-spans.csv", from ? from : "", stem);
    return from && access(path, R_OK) == 0 ? trace_log_read(path, NULL, out) : 0;
}

int validate_files_pair(const struct validate_files *x, const struct validate_point *p,
                        const struct trace *predicted, const struct plan *plan)
{
    struct trace_log *log[2] = {NULL, NULL};
    char title[256], stem[64], name[96];
    struct pair pair = {.title = title};
    int err = trace_log_of(predicted, plan, &log[0]);

    if (!err)
        err = measured_log(x, p, plan, &log[1]);
    if (err || !log[1])
        goto out;
    pair.predicted = log[0];
    pair.measured = log[1];
    stem_of(p, stem, sizeof stem);
    snprintf(title, sizeof title, "%s%s, batch %d: predicted %.1f us, measured %.1f us",
             x->set->emulation[0] ? "emulation: " : "", p->policy->name, p->batch, p->predicted_us,
             p->gpu.median_us);
    static const struct {
        const char *ending;
        int (*write)(const void *, FILE *);
        int which;
    } files[] = {{"predicted-spans.csv", write_spans, 0}, {"measured-spans.csv", write_spans, 1},
                 {"predicted.json", write_chrome, 0},     {"measured.json", write_chrome, 1},
                 {"merged.json", write_pair_chrome, 2},   {"compare.csv", write_pair_csv, 2}};
    for (size_t i = 0; !err && i < sizeof files / sizeof *files; i++) {
        snprintf(name, sizeof name, "%s-%s", stem, files[i].ending);
        err = file_write(x, name, files[i].write,
                         files[i].which < 2 ? (const void *)log[files[i].which] : &pair);
    }
    if (!err && x->draw)
        picture(x, &pair, stem, plan->num_sms);
out:
    trace_log_free(log[0]);
    trace_log_free(log[1]);
    return err;
}

static int write_layers(const void *self, FILE *f)
{
    validate_layers_csv(self, f);
    return 0;
}

static int write_ops(const void *self, FILE *f)
{
    validate_ops_csv(self, f);
    return 0;
}

static int write_text(const void *self, FILE *f)
{
    return fputs(self, f) < 0 ? ERR_IO : 0;
}

static int write_key(const void *self, FILE *f)
{
    return fprintf(f, "%s\n", (const char *)self) < 0 ? ERR_IO : 0;
}

int validate_files_tables(const struct validate_files *x)
{
    int err = file_write(x, "layers.csv", write_layers, x->set);

    return err ? err : file_write(x, "ops.csv", write_ops, x->set);
}

int validate_files_json(const struct validate_files *x, const char *text)
{
    return file_write(x, "validate.json", write_text, text);
}

int validate_files_key(const struct validate_files *x, const char *key)
{
    int err = file_mkdirs(x->folder);

    return err ? err : file_write(x, VALIDATE_KEY_FILE, write_key, key);
}

int validate_files_keep(const struct validate_files *x, const struct validate_point *p,
                        const struct plan *plan)
{
    struct trace_log *log = NULL;
    char stem[64], name[96];
    int err = p->trace && plan ? trace_log_of(p->trace, plan, &log) : 0;

    stem_of(p, stem, sizeof stem);
    snprintf(name, sizeof name, "%s-measured-spans.csv", stem);
    if (!err && log)
        err = file_write(x, name, write_spans, log);
    trace_log_free(log);
    return err ? err : validate_files_tables(x);
}
