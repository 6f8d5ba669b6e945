/* peosim accuracy e2e_deployments.csv: measured deployments, and the fit of engine parameters. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd_accuracy.h"
#include "report/deployments.h"
#include "serve/fit.h"

static const enum judge_by left_out_by[] = {JUDGE_ALL, JUDGE_MODEL, JUDGE_SYSTEM, JUDGE_ENGINE};
static const char *const left_out_text[] = {"as shipped", "fitted without the row's model",
                                            "fitted without the row's system",
                                            "fitted without the row's engine"};

static size_t rows_of_engine(const struct judged *j, int engine)
{
    size_t n = 0;

    for (size_t i = 0; i < j->num; i++)
        n += j->row[i].answered && judged_is_stated(&j->row[i]) && !j->row[i].apart &&
             (int)j->row[i].d.engine == engine;
    return n;
}

static int engines_fit(struct judged *j, const struct deployments_args *args)
{
    const char *slash = strrchr(args->path, '/');
    char path[512], hash[65], date[16];
    time_t now = time(NULL);
    int err = serve_fit(j, JUDGE_ALL, NULL, j->engine);

    if (!err)
        err = file_hash(args->path, hash);
    if (!err)
        err = file_mkdirs(args->fit_folder);
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
    for (int e = 0; e < SERVE_ENGINES && !err; e++) {
        snprintf(j->engine[e].source, sizeof j->engine[e].source,
                 "%.60s sha256:%.12s, %zu rows, %s", slash ? slash + 1 : args->path, hash,
                 rows_of_engine(j, e), date);
        snprintf(path, sizeof path, "%.480s/%s.yaml", args->fit_folder,
                 serve_engine_name((enum serve_engine)e));
        err = engine_write((enum serve_engine)e, &j->engine[e], path);
    }
    if (!err)
        judge_predict(j, j->engine);
    return err;
}

int accuracy_deployments(const struct deployments_args *args)
{
    struct judged j;
    struct record r;
    int err = judge_open(args->path, &j);

    if (!err && args->fit_folder)
        err = engines_fit(&j, args);
    if (!err && args->left_out)
        err = serve_cross_validate(&j, left_out_by[args->left_out]);
    if (!err) {
        record_open(&r, args->format, stdout);
        deployments_report(&j,
                           args->fit_folder && !args->left_out ? "fitted on these rows"
                                                               : left_out_text[args->left_out],
                           &r);
        err = record_close(&r);
    }
    if (!err && args->rows)
        err = deployments_write_rows(&j, args->rows);
    judge_close(&j);
    return err;
}
