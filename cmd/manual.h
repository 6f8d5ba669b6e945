/* cmd/manual.h: man pages and shell completion, both made from the option tables, so that no flag
 * is without either. */
#ifndef PEOSIM_CMD_MANUAL_H
#define PEOSIM_CMD_MANUAL_H

#include <stdio.h>

struct cmd;

/* The page peosim(1) of all commands (cmd NULL), or peosim-COMMAND(1), in roff. */
void manual_page(const struct cmd *cmd, FILE *f);

/* What completes `peosim`: commands, their flags, keys of a configuration with the values of their
 * choices, shipped models, profiles and configurations by name. shell: bash, zsh or fish.
 * ERR_USAGE (silent) for another. */
int manual_completion(const char *shell, FILE *f);

#endif
