#include "report/bars.h"

#include <stdio.h>

#include "base/err.h"
#include "base/file.h"
#include "report/plot.h"

int bars_write(const char *folder, bool draw, const char *name, const char *title,
               const char *xlabel, const struct bar *bars, int n)
{
    char csv[640], out[640];
    const char *extra[] = {xlabel, NULL};
    struct file_out f = {0};
    int err;

    snprintf(csv, sizeof csv, "%s/%s.csv", folder, name);
    snprintf(out, sizeof out, "%s/%s", folder, name);
    err = file_mkdirs(folder);
    if (!err)
        err = file_create(&f, csv);
    if (!err) {
        fprintf(f.f, "label,value,low,high\n");
        for (int i = 0; i < n; i++)
            fprintf(f.f, "\"%s\",%.6g,%.6g,%.6g\n", bars[i].label, bars[i].value, bars[i].low,
                    bars[i].high);
        err = file_commit(&f);
    }
    file_abort(&f);
    if (!err && draw && n > 0)
        plot_draw("bars", csv, out, title, extra); /* says itself what is missing */
    return err;
}
