/* peosim microbench: times the kernels one by one on this machine's GPUs and writes the CSV that
 * profiles are fitted to. Never whole layers. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/cmd_validate.h"
#include "validate/gpu.h"

#define PATIENCE_S 600.0 /* its only record comes at the end */

struct microbench_args {
    int gpus;
    char *output, *only;
    bool quick, experimental_gin;
};

const struct opt microbench_options[] = {
    {.key = "gpus",
     .type = OPT_INT,
     .offset = offsetof(struct microbench_args, gpus),
     .min = 1,
     .max = 64,
     .def = "1",
     .help = "GPUs of this host, one process each"},
    {.key = "output",
     .type = OPT_STRING,
     .offset = offsetof(struct microbench_args, output),
     .def = "microbench.csv",
     .help = "the CSV file"},
    {.key = "only",
     .type = OPT_STRING,
     .offset = offsetof(struct microbench_args, only),
     .help = "one part: machine, links, experts, dense, exchange, interference, a2a, router, "
             "crossover or attention"},
    {.key = "quick",
     .type = OPT_BOOL,
     .offset = offsetof(struct microbench_args, quick),
     .def = "false",
     .help = "a few points, to see that it runs"},
    {.key = "experimental_gin",
     .type = OPT_BOOL,
     .offset = offsetof(struct microbench_args, experimental_gin),
     .def = "false",
     .help = GPU_GIN_HELP},
    {.key = NULL},
};

static int done_take(void *self, const void *record, size_t bytes)
{
    (void)self;
    log_note("measured on %.*s", (int)bytes, (const char *)record);
    return 0;
}

static int rank_main(struct gpu_team *team, const struct microbench_args *args)
{
    struct gpu_session *session = NULL;
    char versions[256];
    int err = gpu_session_open(&session, team, args->experimental_gin);

    if (!err)
        err = gpu_bench(session, args->output, args->quick, args->only);
    if (!err && team->rank == 0) {
        gpu_versions(session, versions, sizeof versions);
        err = gpu_team_send(team, versions, strlen(versions));
    }
    gpu_session_close(session);
    return err;
}

static int microbench(const struct microbench_args *args, int argc, char **argv)
{
    struct gpu_receiver receiver = {NULL, done_take};
    struct gpu_team team;
    char **child, program[] = "peosim";
    int err = gpu_team_join(&team);

    if (!gpu_built()) {
        log_error("this program was built without CUDA; `make gpu` builds it with the GPU half");
        return ERR_UNSUPPORTED;
    }
    if (err > 0) {
        team.receiver = team.result_fd < 0 ? receiver : (struct gpu_receiver){0};
        return rank_main(&team, args);
    }
    if (err < 0)
        return err;
    child = calloc((size_t)argc + 2, sizeof *child);
    if (!child)
        return ERR_NOMEM;
    child[0] = program;
    memcpy(child + 1, argv, (size_t)argc * sizeof *argv);
    err = gpu_team_spawn(args->gpus, child, PATIENCE_S, &receiver);
    free(child);
    return err;
}

int cmd_microbench(int argc, char **argv)
{
    struct cli cli = {0};
    struct microbench_args args = {0};
    int err;

    opt_set_defaults(microbench_options, &args);
    err = cli_parse(&cli, argc, argv, microbench_options, &args);
    if (!err && cli.help)
        cli_help(cmd_find(argv[0]));
    else if (!err)
        err = microbench(&args, argc, argv);
    opt_free_strings(microbench_options, &args);
    cli_free(&cli);
    return err;
}
