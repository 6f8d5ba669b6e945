/* CSV tables from any bytes: every cell must be readable. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct csv *csv;
    size_t total = 0;
    double v;

    if (csv_parse((const char *)data, size, "fuzz.csv", &csv) == 0) {
        for (size_t r = 0; r < csv->num_rows; r++) {
            for (int c = 0; c < csv->num_cols; c++) {
                total += strlen(csv_at(csv, r, c));
                csv_double(csv, r, c, &v);
            }
        }
        if (total > size)
            abort();
    }
    csv_free(csv);
    return 0;
}
