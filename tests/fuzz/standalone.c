/* Runs a fuzz target without libFuzzer: N mutations of seed files by a generator with a fixed seed,
 * so that a failure repeats. Usage: fuzz_x ITERATIONS SEED_FILE... The input that is running lies
 * in a mapped file, fuzz_x.input beside the program; after a crash `fuzz_x 0 fuzz_x.input` repeats
 * it.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_INPUT 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    uint8_t data[MAX_INPUT];
    size_t size;
};

/* xorshift64*: good enough to mutate, and the same everywhere. */
static uint64_t next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

static size_t below(uint64_t *state, size_t n)
{
    return n ? (size_t)(next(state) >> 33) % n : 0;
}

static void insert(struct input *in, size_t at, const void *what, size_t n)
{
    if (in->size + n > MAX_INPUT)
        return;
    memmove(in->data + at + n, in->data + at, in->size - at);
    memcpy(in->data + at, what, n);
    in->size += n;
}

static void mutate(struct input *in, const struct input *other, uint64_t *rng)
{
    static const char *const words[] = {"-1",    "0",    "99999999999999999999",
                                        "1e999", "nan",  "\xff",
                                        "\n",    "\r\n", ",",
                                        "\"",    "null", "[",
                                        "]",     "{",    "}",
                                        ": ",    "- ",   "&a ",
                                        "*a",    "#",    "\t",
                                        "\\u",   "'",    "e0",
                                        "true",  "1e6",  "layer,expert,count\n",
                                        "---\n", "~",    "\xef\xbb\xbf"};
    size_t at = below(rng, in->size + 1), n = below(rng, 32);
    const char *word = words[below(rng, sizeof words / sizeof *words)];

    switch (below(rng, 6)) {
    case 0:
        if (at < in->size)
            in->data[at] ^= (uint8_t)(1u << below(rng, 8));
        break;
    case 1:
        if (at < in->size)
            in->data[at] = (uint8_t)next(rng);
        break;
    case 2: /* cut */
        n = n > in->size - at ? in->size - at : n;
        memmove(in->data + at, in->data + at + n, in->size - at - n);
        in->size -= n;
        break;
    case 3:
        insert(in, at, word, strlen(word));
        break;
    case 4: { /* a piece of another seed */
        size_t from = below(rng, other->size + 1);
        n = n > other->size - from ? other->size - from : n;
        insert(in, at, other->data + from, n);
        break;
    }
    default: /* truncate now and then */
        if (below(rng, 8) == 0)
            in->size = at;
    }
}

static int read_seed(const char *path, struct input *in)
{
    FILE *f = fopen(path, "rb");
    size_t len = strlen(path);

    if (!f) {
        perror(path);
        return -1;
    }
    if (len > 6 && strcmp(path + len - 6, ".input") == 0)
        in->size = fread(in, 1, sizeof *in, f) == sizeof *in ? in->size : 0;
    else
        in->size = fread(in->data, 1, MAX_INPUT, f);
    fclose(f);
    return 0;
}

static struct input *map_kept(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0666);
    void *p = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, sizeof(struct input)) == 0)
        p = mmap(NULL, sizeof(struct input), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        perror(path);
    if (fd >= 0)
        close(fd);
    return p == MAP_FAILED ? NULL : p;
}

static int run(long iterations, int num_seeds, char **paths, struct input *in)
{
    struct input *seeds = calloc((size_t)num_seeds, sizeof *seeds);
    uint64_t rng = 0x9e3779b97f4a7c15ull;
    int rc = 1;

    if (!seeds)
        return 1;
    for (int i = 0; i < num_seeds; i++) {
        if (read_seed(paths[i], &seeds[i]))
            goto out;
        LLVMFuzzerTestOneInput(seeds[i].data, seeds[i].size);
    }
    for (long i = 0; i < iterations; i++) {
        const struct input *from = &seeds[below(&rng, (size_t)num_seeds)];
        memcpy(in->data, from->data, from->size);
        in->size = from->size;
        for (size_t n = 1 + below(&rng, 6); n > 0; n--)
            mutate(in, &seeds[below(&rng, (size_t)num_seeds)], &rng);
        LLVMFuzzerTestOneInput(in->data, in->size);
    }
    printf("%ld inputs from %d seeds\n", iterations, num_seeds);
    rc = 0;
out:
    free(seeds);
    return rc;
}

int main(int argc, char **argv)
{
    char kept[4096];
    struct input *in;
    int rc;

    if (argc < 3) {
        fprintf(stderr, "usage: %s ITERATIONS SEED_FILE...\n", argv[0]);
        return 2;
    }
    snprintf(kept, sizeof kept, "%s.input", argv[0]);
    in = map_kept(kept);
    if (!in)
        return 1;
    rc = run(atol(argv[1]), argc - 2, argv + 2, in);
    munmap(in, sizeof *in);
    if (rc == 0 && atol(argv[1]) > 0)
        remove(kept);
    return rc;
}
