/* peosim: predicts how a Mixture-of-Experts layer behaves when communication and computation
 * overlap. This file only finds the command. */
#include <stdio.h>
#include <string.h>

#include <gsl/gsl_errno.h>

#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "cmd/cmd.h"

int main(int argc, char **argv)
{
    const struct cmd *c;
    int err;

    if (argc < 2) {
        cmd_print_all(stderr);
        return err_exit_status(ERR_USAGE);
    }
    if (!strcmp(argv[1], "--version")) {
        printf("peosim %s\n", PEOSIM_VERSION);
        return 0;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        cmd_print_all(stdout);
        return 0;
    }
    gsl_set_error_handler_off(); /* it would abort where we return ERR_NOMEM */
    c = cmd_find(argv[1]);
    err = c ? c->run(argc - 1, argv + 1) : cmd_unknown(argv[1]);
    if (!err && (fflush(stdout) || ferror(stdout))) {
        log_error("cannot write to stdout");
        err = ERR_IO;
    }
    return err_exit_status(err);
}
