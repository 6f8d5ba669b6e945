/* cmd/cmd_accuracy.h: `peosim accuracy [--profile P] FILE...`: how wrong a profile is on measured
 * files. */
#ifndef PEOSIM_CMD_CMD_ACCURACY_H
#define PEOSIM_CMD_CMD_ACCURACY_H

int cmd_accuracy(int argc, char **argv);

#endif
