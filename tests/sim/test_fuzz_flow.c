/* The fuzz target on random inputs from fixed seeds, and on files given as arguments. */
#include "tests/fuzz/fuzz_flow.c"

#include "tests/flow_reference.h"

static void random_input_run(uint64_t seed)
{
    uint8_t data[4096];
    uint64_t state = seed;
    size_t size = 1 + ref_below(&state, sizeof data);

    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)ref_random(&state);
    LLVMFuzzerTestOneInput(data, size);
}

static int file_run(const char *path)
{
    static uint8_t data[1 << 20];
    FILE *file = fopen(path, "rb");
    size_t size;

    if (!file)
        return 1;
    size = fread(data, 1, sizeof data, file);
    fclose(file);
    return LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv)
{
    const char *runs = getenv("PEOSIM_FUZZ_RUNS");
    uint64_t count = runs ? strtoull(runs, NULL, 10) : 3000;
    int rc = 0;

    for (int i = 1; i < argc; i++)
        rc |= file_run(argv[i]);
    for (uint64_t seed = 1; argc == 1 && seed <= count; seed++)
        random_input_run(seed);
    return rc;
}
