/* calib/log_line.h: lines of a log, freed of what launchers and terminals put before them: mpirun's
 * "[1,0]<stdout>:", srun's "0: ", time stamps of container logs, colours, carriage returns. */
#ifndef PEOSIM_CALIB_LOG_LINE_H
#define PEOSIM_CALIB_LOG_LINE_H

#include <stdbool.h>
#include <stddef.h>

#define LOG_LINE_MAX 2048 /* what is longer is cut */

struct log_lines {
    const char *next;
    int line; /* of `text`, from 1 */
    char text[LOG_LINE_MAX];
};

void log_lines_open(struct log_lines *l, const char *text);
bool log_lines_next(struct log_lines *l);

#endif
