/* cmd/cmd_diff.h: `peosim diff A B`: compares two traces, prints where they differ, draws both. */
#ifndef PEOSIM_CMD_CMD_DIFF_H
#define PEOSIM_CMD_CMD_DIFF_H

/* argv[0] is "diff". 0 or an error code (err_exit_status makes the exit status). */
int cmd_diff(int argc, char **argv);

#endif
