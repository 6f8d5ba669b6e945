/* peosim man, peosim completion: what the option tables say, for man(1) and for shells. */
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/manual.h"

int cmd_man(int argc, char **argv)
{
    struct cli cli = {0};
    const struct cmd *c = NULL;
    int err = cli_parse(&cli, argc, argv, NULL, NULL);

    if (!err && cli.help) {
        cli_help(cmd_find(argv[0]));
    } else if (!err && cli.num_words > 1) {
        log_error("peosim man takes one command, or nothing");
        err = ERR_USAGE;
    } else if (!err) {
        c = cli.num_words ? cmd_find(cli.words[0]) : NULL;
        err = cli.num_words && !c ? cmd_unknown(cli.words[0]) : 0;
        if (!err)
            manual_page(c, stdout);
    }
    cli_free(&cli);
    return err;
}

int cmd_completion(int argc, char **argv)
{
    struct cli cli = {0};
    int err = cli_parse(&cli, argc, argv, NULL, NULL);

    if (!err && cli.help) {
        cli_help(cmd_find(argv[0]));
    } else if (!err) {
        err = cli.num_words == 1 ? manual_completion(cli.words[0], stdout) : ERR_USAGE;
        if (err)
            log_error("peosim completion takes one of bash, zsh, fish");
    }
    cli_free(&cli);
    return err;
}
