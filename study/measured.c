#include "study/measured.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/log.h"

int measured_read(const struct measured_args *args, const char *const *paths, size_t num,
                  struct measured *out)
{
    struct data_hint hint = {.system = args->system,
                             .profile = args->profile,
                             .collective = args->collective,
                             .tokens = args->tokens,
                             .hidden = args->hidden,
                             .experts = args->experts,
                             .topk = args->topk,
                             .ranks = args->ranks,
                             .ranks_per_node = args->ranks_per_node};
    int rc = 0;

    out->num = 0;
    out->set = calloc(num + 1, sizeof *out->set);
    if (!out->set)
        return ERR_NOMEM;
    for (size_t i = 0; i < num && rc == 0; i++) {
        rc = data_read(paths[i], &hint, args->strict, &out->set[i]);
        out->num += rc == 0;
    }
    return rc;
}

void measured_free(struct measured *m)
{
    for (size_t i = 0; i < m->num; i++)
        data_free(m->set[i]);
    free(m->set);
    m->set = NULL;
    m->num = 0;
}

int measured_check_output(const char *path, bool overwrite, const char *const *inputs, size_t num)
{
    struct stat target, input;

    if (!path || stat(path, &target) != 0)
        return 0;
    for (size_t i = 0; i < num; i++)
        if (inputs[i] && stat(inputs[i], &input) == 0 && input.st_dev == target.st_dev &&
            input.st_ino == target.st_ino) {
            log_error("%s is read by this very command; write to another file", path);
            return ERR_USAGE;
        }
    if (S_ISREG(target.st_mode) && !overwrite) {
        log_error("%s exists; give --overwrite to replace it", path);
        return ERR_USAGE;
    }
    return 0;
}
