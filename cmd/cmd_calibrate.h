/* cmd/cmd_calibrate.h: `peosim calibrate --from FILE... --profile P`: fits a profile. */
#ifndef PEOSIM_CMD_CMD_CALIBRATE_H
#define PEOSIM_CMD_CMD_CALIBRATE_H

int cmd_calibrate(int argc, char **argv);

#endif
