/* peosim report: one self-contained page of a folder of results. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "report/html.h"

struct report_flags {
    char *out;
};

const struct opt report_options[] = {
    {.key = "out",
     .type = OPT_STRING,
     .offset = offsetof(struct report_flags, out),
     .def = NULL,
     .unit = "FILE",
     .help = "where the page goes; default: report.html in the folder"},
    {.key = NULL},
};

static int report(const char *folder, const char *out)
{
    char path[2048];
    struct file_out f = {0};
    int err;

    if (snprintf(path, sizeof path, "%s%s", out ? out : folder, out ? "" : "/report.html") >=
        (int)sizeof path)
        return ERR_RANGE;
    err = file_create(&f, path);
    if (!err)
        err = html_write(folder, f.f);
    if (!err)
        err = file_commit(&f);
    file_abort(&f);
    if (!err)
        printf("report: %s\n", path);
    return err;
}

int cmd_report(int argc, char **argv)
{
    struct cli cli = {0};
    struct report_flags flags = {0};
    int err = cli_parse(&cli, argc, argv, report_options, &flags);

    if (!err && cli.help)
        cli_help(cmd_find(argv[0]));
    else if (!err && cli.num_words != 1) {
        log_error("report takes one folder of results: peosim report results/NAME");
        err = ERR_USAGE;
    } else if (!err)
        err = report(cli.words[0], flags.out);
    free(flags.out);
    cli_free(&cli);
    return err;
}
