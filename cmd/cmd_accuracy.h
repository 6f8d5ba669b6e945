/* cmd/cmd_accuracy.h: `peosim accuracy [--profile P] FILE...`: how wrong a profile is on measured
 * files. */
#ifndef PEOSIM_CMD_CMD_ACCURACY_H
#define PEOSIM_CMD_CMD_ACCURACY_H

int cmd_accuracy(int argc, char **argv);

/* What `accuracy` does with a file of whole deployments. */
struct record_format;
struct deployments_args {
    const char *path, *fit_folder, *rows; /* fit_folder, rows: NULL = not asked for */
    int left_out;                         /* index into none, model, system, engine */
    const struct record_format *format;
};
int accuracy_deployments(const struct deployments_args *args);

#endif
