/* study/measured.h: what calibrate and accuracy share: files of measurements named on the command
 * line, and what their logs do not say. */
#ifndef PEOSIM_STUDY_MEASURED_H
#define PEOSIM_STUDY_MEASURED_H

#include <stdbool.h>

#include "base/opt.h"
#include "calib/data.h"

/* Embedded at any place of a command's argument struct; MEASURED_OPTS lists the flags. */
struct measured_args {
    bool strict;
    char *system, *collective;
    const char *profile; /* the name of the one that the rows are for; NULL = several */
    int tokens, hidden, experts, topk, ranks, ranks_per_node;
};

#define MEASURED_OPT_INT(target, name, what)                                                       \
    {                                                                                              \
        .key = #name, .type = OPT_INT, .offset = offsetof(target, measured.name), .min = 0,        \
        .max = 1e8, .def = "0", .help = what                                                       \
    }
#define MEASURED_OPTS(target)                                                                      \
    {.key = "strict",                                                                              \
     .type = OPT_BOOL,                                                                             \
     .offset = offsetof(target, measured.strict),                                                  \
     .def = "false",                                                                               \
     .help = "refuse files with bad rows instead of skipping those rows"},                         \
        {.key = "system",                                                                          \
         .type = OPT_STRING,                                                                       \
         .offset = offsetof(target, measured.system),                                              \
         .help = "which system a log was taken on, if it does not say"},                           \
        {.key = "collective",                                                                      \
         .type = OPT_STRING,                                                                       \
         .offset = offsetof(target, measured.collective),                                          \
         .help = "nccl-tests without header or telling name: all_reduce, all_to_all ..."},         \
        MEASURED_OPT_INT(target, tokens, "logs: tokens per rank (0 = the test's default)"),        \
        MEASURED_OPT_INT(target, hidden, "logs: hidden size"),                                     \
        MEASURED_OPT_INT(target, experts, "logs: experts"),                                        \
        MEASURED_OPT_INT(target, topk, "logs: experts per token"),                                 \
        MEASURED_OPT_INT(target, ranks, "logs: GPUs that took part"),                              \
        MEASURED_OPT_INT(target, ranks_per_node, "logs: GPUs per node")

struct measured {
    struct data_set **set;
    size_t num;
};
int measured_read(const struct measured_args *args, const char *const *paths, size_t num,
                  struct measured *out);
void measured_free(struct measured *m);

/* May `path` be written? Never when it is one of `inputs`, whatever link leads there; an existing
 * regular file only with `overwrite`. path NULL = nothing to write. ERR_USAGE, logged. */
int measured_check_output(const char *path, bool overwrite, const char *const *inputs, size_t num);

#endif
