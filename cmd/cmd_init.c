/* peosim init: a commented configuration for one's own cluster, from five questions or flags. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "hw/host.h"
#include "hw/profile.h"
#include "model/moe.h"

struct init {
    char *model, *profile, *out;
    int nodes, gpus_per_node, phase;
    double nic_Gbitps, nics_per_gpu;
    bool from_this_host;
};

const struct opt init_options[] = {
    {.key = "model",
     .type = OPT_STRING,
     .offset = offsetof(struct init, model),
     .help = "a name in configs/models/ or a config.json"},
    {.key = "profile",
     .type = OPT_STRING,
     .offset = offsetof(struct init, profile),
     .help = "the GPU: a name in hw/profiles/ or a profile file"},
    {.key = "nodes",
     .type = OPT_INT,
     .offset = offsetof(struct init, nodes),
     .min = 0,
     .max = 4096,
     .def = "0",
     .help = "machines; 0 asks"},
    {.key = "gpus_per_node",
     .type = OPT_INT,
     .offset = offsetof(struct init, gpus_per_node),
     .min = 0,
     .max = 128,
     .def = "0",
     .help = "GPUs of one machine; 0 = as nodes of this GPU come"},
    {.key = "nic_Gbitps",
     .type = OPT_DOUBLE,
     .offset = offsetof(struct init, nic_Gbitps),
     .min = 0,
     .max = 100000,
     .def = "0",
     .unit = "Gbit/s",
     .help = "speed of one NIC; 0 = the profile's"},
    {.key = "phase",
     .type = OPT_ENUM,
     .choices = "ask|decode|prefill",
     .offset = offsetof(struct init, phase),
     .def = "ask",
     .help = "what the batch is made of"},
    {.key = "from_this_host",
     .type = OPT_BOOL,
     .offset = offsetof(struct init, from_this_host),
     .def = "false",
     .help = "GPUs and NICs as this machine has them"},
    {.key = "out",
     .type = OPT_STRING,
     .offset = offsetof(struct init, out),
     .help = "the file; default: stdout"},
    {.key = NULL},
};

/* One question on the terminal; the default where nothing is typed. The caller frees. */
static char *ask(const char *question, const char *def)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t n;

    fprintf(stderr, "%s [%s]: ", question, def);
    n = getline(&line, &size, stdin);
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == ' '))
        line[--n] = 0;
    if (n > 0)
        return line;
    free(line);
    return strdup(def);
}

static void print_names(const char *what, const char *witness, const char *ending)
{
    char **names = file_names_installed(witness, ending);

    fprintf(stderr, "%s:", what);
    for (size_t i = 0; names && names[i]; i++)
        fprintf(stderr, " %s", names[i]);
    fprintf(stderr, "\n");
    file_names_free(names);
}

/* GPU, their number and the NICs, from this machine. */
static int from_host(struct init *in)
{
    struct hw_host host;
    int err = hw_host_read(&host);

    if (err)
        return err;
    if (host.mixed)
        log_warn("not all GPUs of this host are %s: the others are taken for such", host.gpu);
    if (!in->profile)
        in->profile = hw_host_profile(host.gpu);
    if (!in->profile) {
        log_error("no shipped profile is of a GPU called '%s': name one with --profile", host.gpu);
        return ERR_NOTFOUND;
    }
    if (!in->gpus_per_node)
        in->gpus_per_node = host.gpus;
    if (!in->nodes)
        in->nodes = 1;
    if (in->nic_Gbitps <= 0 && host.nics) {
        in->nic_Gbitps = host.nic_Gbitps;
        in->nics_per_gpu = (double)host.nics / host.gpus;
    }
    return 0;
}

/* What flags and the host leave open is asked for on a terminal, elsewhere refused or assumed. */
static int complete(struct init *in)
{
    bool terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    char *text;

    if (!terminal && (!in->model || !in->profile)) {
        log_error("init needs --model and --profile (or --from-this-host) where it cannot ask");
        return ERR_USAGE;
    }
    if (!in->model) {
        print_names("models", "configs/models/deepseek-v3.json", ".json");
        in->model = ask("Which model (a name, or the path of a config.json)?", "deepseek-v3");
    }
    if (!in->profile) {
        print_names("GPUs", "hw/profiles/h200.yaml", ".yaml");
        in->profile = ask("Which GPU?", "h200");
    }
    if (!in->nodes && terminal) {
        text = ask("How many nodes?", "1");
        in->nodes = atoi(text);
        free(text);
    }
    if (in->nic_Gbitps <= 0 && in->nodes > 1 && terminal) {
        text = ask("How fast is one NIC, in Gbit/s (0: as nodes of this GPU come)?", "0");
        in->nic_Gbitps = atof(text);
        free(text);
    }
    if (!in->phase && terminal) {
        text = ask("decode or prefill?", "decode");
        in->phase = *text == 'p' ? 2 : 1;
        free(text);
    }
    if (in->nodes < 1)
        in->nodes = 1;
    return in->model && in->profile ? 0 : ERR_NOMEM;
}

static void write_cluster(const struct init *in, const struct hw_profile *p, FILE *f)
{
    int gpus = in->gpus_per_node ? in->gpus_per_node : (int)hw_value(p, HW_NET_HOST_GPUS);

    fprintf(f, "cluster:\n  profile: %s\n  nodes: %d\n  gpus_per_node: %d\n", in->profile,
            in->nodes, gpus);
    if (in->nic_Gbitps > 0)
        fprintf(f, "  nic_Gbitps: %g                # speed of one NIC\n", in->nic_Gbitps);
    else
        fprintf(f, "  # nic_Gbitps: %g              # of one NIC, as the profile says\n",
                hw_value(p, HW_NET_NIC_GBITPS));
    if (in->nics_per_gpu > 0)
        fprintf(f, "  nics_per_gpu: %g\n", in->nics_per_gpu);
    fprintf(
        f,
        "  # nvlink_domain: %d             # GPUs that reach each other by NVLink, if more than "
        "a node's\n",
        gpus);
}

static void write_config(const struct init *in, const struct hw_profile *p, FILE *f)
{
    bool prefill = in->phase == 2;

    fprintf(f,
            "# Made by `peosim init`. Next:\n#   peosim run FILE          every policy and batch\n"
            "#   peosim recommend FILE    what to set\n#   peosim why FILE --batch %d\n"
            "# `peosim help run` lists every key with its unit, range and default.\n",
            prefill ? 4096 : 128);
    fprintf(f, "model: %s\nphase: %s\nbatch: %s\n\n", in->model, prefill ? "prefill" : "decode",
            prefill ? "[1024, 4096, 8192]        # tokens per rank\ncomm: normal"
                    : "[16, 32, 64, 128, 256]    # tokens per rank");
    write_cluster(in, p, f);
    fprintf(f,
            "\nrouting:\n  kind: lognormal               # balanced, uniform, lognormal, zipf or "
            "file\n  sigma: 0.3                    # how unequally popular experts are\n"
            "\nskew:\n  start_us: 2                   # ranks do not start together\n\n"
            "policies:                       # a list of values is searched\n  - policy: none\n");
    if (prefill)
        fprintf(f, "  - {policy: tbo, num_sms: [16, 24, 32]} # EPS-MoE's pipeline (eps) wants "
                   "comm: nccl\n");
    else
        fprintf(f,
                "  - {policy: peo, overlap_method: [1, 2, 3, 4], num_rounds: [2, 4], num_sms: [8, "
                "16, 24]}\n  - policy: sbo\n  - policy: tbo\n");
}

static int init(struct init *in)
{
    struct hw_profile *p = NULL;
    struct moe_model *m = NULL;
    struct file_out f = {0};
    int err = in->from_this_host ? from_host(in) : 0;

    if (!err)
        err = complete(in);
    if (!err)
        err = hw_profile_read(in->profile, &p);
    if (!err)
        err = moe_model_read(in->model, &m);
    if (!err && in->out)
        err = file_create(&f, in->out);
    if (!err)
        write_config(in, p, in->out ? f.f : stdout);
    if (!err && in->out)
        err = file_commit(&f);
    file_abort(&f);
    hw_profile_free(p);
    moe_model_free(m);
    return err;
}

int cmd_init(int argc, char **argv)
{
    struct cli cli = {0};
    struct init in = {0};
    int err = cli_parse(&cli, argc, argv, init_options, &in);

    if (!err && cli.help)
        cli_help(cmd_find(argv[0]));
    else if (!err && cli.num_words) {
        log_error("init takes flags only: peosim init --help");
        err = ERR_USAGE;
    } else if (!err)
        err = init(&in);
    opt_free_strings(init_options, &in);
    cli_free(&cli);
    return err;
}
