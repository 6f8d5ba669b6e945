/* cmd/cmd_validate.h: the commands that use GPUs. */
#ifndef PEOSIM_CMD_VALIDATE_H
#define PEOSIM_CMD_VALIDATE_H

int cmd_validate(int argc, char **argv);
/* The microbenchmarks of `peosim calibrate --gpu`: --gpus N --output FILE [--quick]. */
int cmd_microbench(int argc, char **argv);

#endif
