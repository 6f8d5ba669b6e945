/* The commands: one row each. Help, man pages, completion and main all read this table. */
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "cmd/cmd.h"
#include "cmd/cmd_accuracy.h"
#include "cmd/cmd_calibrate.h"
#include "cmd/cmd_diff.h"
#include "cmd/cmd_validate.h"
#include "serve/planner.h"
#include "study/capacity_config.h"

static const struct cmd commands[] = {
    {"run",
     "CONFIG [flags]",
     "predict the layers of a configuration; tables, traces, pictures",
     cmd_run,
     run_options,
     true,
     true,
     {"peosim run configs/dpsk_ep64.yaml --html   # every policy and batch; one page for a browser",
      "peosim run dpsk_ep64 --profile h800 --batch 64,128   # another GPU, two batches"},
     {NULL},
     ANSWERS_ALL},
    {"sweep",
     "CONFIG [flags]",
     "every combination of a configuration's lists; resumes; MPI",
     cmd_sweep,
     sweep_options,
     true,
     true,
     {"peosim sweep configs/sweep_nic.yaml   # where overlap pays: batch against NIC speed",
      "mpirun -n 4 peosim sweep configs/sweep_ep.yaml   # spread over four processes",
      "sqlite3 results/sweep_nic/journal.db \"SELECT policy, batch, layer_us FROM results\""},
     {NULL},
     ANSWERS_ALL},
    {"map",
     "CONFIG [flags]",
     "which policy wins over batch and one other list, and how sure that is",
     cmd_map,
     NULL,
     true,
     true,
     {"peosim map configs/dsv4_b300_ep8.yaml   # no overlap, two batches or one fused kernel",
      "peosim map qwen_ep16 --cluster.nodes 1,2,4   # batch against EP"},
     {NULL},
     ANSWERS_TABLE},
    {"recommend",
     "CONFIG [flags]",
     "the best policy and knobs per batch, and what to set",
     cmd_recommend,
     recommend_options,
     true,
     true,
     {"peosim recommend configs/dpsk_ep64.yaml --batch 64   # what to set, and by how much it wins",
      "peosim recommend dpsk_ep64 --nic-Gbitps 800 --json   # with twice the NIC, for a program"},
     {NULL},
     ANSWERS_ALL},
    {"synthesize",
     "CONFIG [flags]",
     "schedules found by search, beyond those of the policies; plan files",
     cmd_synthesize,
     synthesize_options,
     true,
     true,
     {"peosim synthesize configs/dpsk_ep64.yaml   # per batch: the gain, the bound, a plan file",
      "peosim synthesize dpsk_ep64 --batch 64 --evaluations 2000 --search-seed 2"},
     {NULL},
     ANSWERS_ALL},
    {"why",
     "CONFIG [flags]",
     "what the critical path is made of, and what each fix is worth",
     cmd_why,
     NULL,
     true,
     true,
     {"peosim why configs/dpsk_ep64.yaml --batch 128   # the best policy of one batch",
      "peosim why dpsk_ep64 --batch 128 --profile h800   # on another GPU"},
     {NULL},
     ANSWERS_ALL},
    {"plan",
     "CONFIG [flags]",
     "print the schedule of each point, one op a line",
     cmd_plan,
     plan_options,
     true,
     true,
     {"peosim plan configs/dpsk_ep64.yaml --batch 64   # streams, SMs, what waits for what",
      "peosim plan dpsk_ep64 --batch 4 | less"},
     {NULL},
     ANSWERS_TEXT},
    {"info",
     "[model|profile|policy NAME]",
     "what a model, a profile or a policy resolves to",
     cmd_info,
     info_options,
     true,
     false,
     {"peosim info profile h200   # every field with its origin and source",
      "peosim info profile h200 --coverage   # share of time measured, by EP and phase",
      "peosim info model deepseek-v3   # shapes, parameters, bytes"},
     {NULL},
     ANSWERS_ALL},
    {"diff",
     "A B [flags]",
     "compare two traces, predicted or measured",
     cmd_diff,
     diff_options,
     false,
     false,
     {"peosim diff results/a/spans.csv results/b/spans.csv   # where two runs differ",
      "peosim diff predicted.csv torch_trace.json --names predicted,measured"},
     {NULL},
     ANSWERS_JSON},
    {"calibrate",
     "--from FILE... --profile P [flags]",
     "fit a hardware profile to measurements",
     cmd_calibrate,
     calibrate_options,
     true,
     false,
     {"peosim calibrate --from deepep.log nccl.txt --profile h200 --out mine.yaml",
      "peosim calibrate --gpu 2 --fresh --assume-from h200 --profile mine --out mine.yaml"},
     {NULL},
     ANSWERS_TEXT},
    {"validate",
     "CONFIG [flags]",
     "run the plans on this machine's GPUs; predicted against measured",
     cmd_validate,
     validate_options,
     true,
     true,
     {"peosim validate configs/h200x2.yaml   # on two GPUs of this machine",
      "peosim validate configs/h200x4.yaml --measured DIR   # compare what was measured before"},
     {NULL},
     ANSWERS_TABLE},
    {"microbench",
     "--gpus N [flags]",
     "time single kernels on the GPUs: what calibrate fits",
     cmd_microbench,
     microbench_options,
     true,
     false,
     {"peosim microbench --gpus 2 --output bench.csv   # all of them",
      "peosim microbench --gpus 1 --output quick.csv --quick"},
     {NULL},
     ANSWERS_TEXT},
    {"accuracy",
     "[--profile P] FILE... [flags]",
     "how wrong a profile is on measured files",
     cmd_accuracy,
     accuracy_options,
     true,
     false,
     {"peosim accuracy deepep_ll.csv gemm.csv   # by every shipped profile that has rows",
      "peosim accuracy --profile h200 bench.csv"},
     {NULL},
     ANSWERS_ALL},
    {"pass",
     "CONFIG [flags]",
     "predict whole decode steps and prefill passes: TPOT, tokens/s per GPU",
     cmd_pass,
     pass_options,
     true,
     true,
     {"peosim pass configs/dsv3_decode_ep128_h800.yaml   # a decode step of all layers",
      "peosim pass dsv3_prefill_ep32_h800 --json"},
     {NULL},
     ANSWERS_ALL},
    {"serve-plan",
     "FILE [flags]",
     "the cheapest deployment that keeps TTFT and TPOT, by simulated requests",
     cmd_serve_plan,
     NULL,
     true,
     false,
     {"peosim serve-plan configs/serve-plan/dsv3.yaml   # which GPUs, how split, how many",
      "peosim serve-plan dsv3.yaml --set traffic.kind=trace --set traffic.trace=t.jsonl"},
     {planner_options},
     ANSWERS_ALL},
    {"capacity",
     "FILE [flags]",
     "the cheapest GPUs and pools that keep a traffic's TTFT and TPOT",
     cmd_capacity,
     capacity_flags,
     true,
     false,
     {"peosim capacity configs/capacity/dsv3.yaml   # which GPUs, how many",
      "peosim capacity dsv3 --set sla.tpot_ms=30   # a tighter target"},
     {capacity_options, capacity_lists},
     ANSWERS_ALL},
    {"report",
     "FOLDER [flags]",
     "one page of a folder of results, for any browser",
     cmd_report,
     report_options,
     true,
     false,
     {"peosim report results/dpsk_ep64   # results/dpsk_ep64/report.html",
      "peosim report results/dpsk_ep64 --out /tmp/a.html"},
     {NULL},
     ANSWERS_TEXT},
    {"init",
     "[flags]",
     "write a commented configuration for one's own cluster; asks, or takes flags",
     cmd_init,
     init_options,
     true,
     false,
     {"peosim init > mine.yaml   # asks five questions",
      "peosim init --model glm-5 --profile h200 --nodes 2 --out mine.yaml"},
     {NULL},
     ANSWERS_TEXT},
    {"man",
     "[COMMAND]",
     "the manual page of the program or of a command, in roff",
     cmd_man,
     NULL,
     true,
     false,
     {"peosim man run | man -l -   # read one", "peosim man > peosim.1   # keep one"},
     {NULL},
     ANSWERS_TEXT},
    {"completion",
     "bash|zsh|fish",
     "completion of commands, flags, keys and names",
     cmd_completion,
     NULL,
     true,
     false,
     {"source <(peosim completion bash)   # in this shell",
      "peosim completion fish > ~/.config/fish/completions/peosim.fish"},
     {NULL},
     ANSWERS_TEXT},
    {"help",
     "[COMMAND]",
     "this text, or that of a command",
     cmd_help,
     NULL,
     true,
     false,
     {"peosim help run   # flags and every key", "peosim run --help   # the same"},
     {NULL},
     ANSWERS_TEXT},
};

size_t cmd_count(void)
{
    return sizeof commands / sizeof *commands;
}

const struct cmd *cmd_at(size_t i)
{
    return i < cmd_count() ? &commands[i] : NULL;
}

const struct cmd *cmd_find(const char *name)
{
    for (size_t i = 0; i < cmd_count(); i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

void cmd_print_all(FILE *f)
{
    fprintf(f,
            "peosim %s: how a Mixture-of-Experts layer behaves under expert parallelism\n\n"
            "Usage: peosim COMMAND ...\n\n",
            PEOSIM_VERSION);
    for (size_t i = 0; i < cmd_count(); i++)
        fprintf(f, "  %-10s %-28s %s\n", commands[i].name, commands[i].usage, commands[i].summary);
    fprintf(f, "\nFirst result: peosim run configs/dpsk_ep64.yaml\n");
}

int cmd_unknown(const char *name)
{
    const char *names[sizeof commands / sizeof *commands], *near;
    size_t n = cmd_count();

    for (size_t i = 0; i < n; i++)
        names[i] = commands[i].name;
    near = opt_nearest(name, names, n);
    log_error("there is no command '%s'%s%s%s", name, near ? "; did you mean '" : "",
              near ? near : "", near ? "'?" : "");
    return ERR_USAGE;
}

int cmd_help(int argc, char **argv)
{
    const struct cmd *c = argc < 2 ? NULL : cmd_find(argv[1]);
    char *help[2];
    char flag[] = "--help";

    if (argc >= 2 && !c)
        return cmd_unknown(argv[1]);
    if (!c || c->run == cmd_help) {
        cmd_print_all(stdout);
        return 0;
    }
    help[0] = argv[1];
    help[1] = flag;
    return c->run(2, help);
}
