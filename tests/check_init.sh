#!/bin/bash
# peosim init: what it writes runs, and a host's GPUs are read through NVIDIA's library, for which a
# stand-in with the documented interface serves here.
set -u
cd "$(dirname "$0")/.." || exit 2
peosim=$(readlink -f "${PEOSIM:-build/peosim}")
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
bad=
fault() { echo "$*" && bad=1; }

for phase in decode prefill; do
    "$peosim" init --model deepseek-v3 --profile h800 --nodes 2 --phase $phase --nic-Gbitps 200 --out "$dir/$phase.yaml" ||
        fault "init fails for $phase"
    "$peosim" plan "$dir/$phase.yaml" >/dev/null || fault "what init writes for $phase has no plan"
    grep -q 'nic_Gbitps: 200' "$dir/$phase.yaml" || fault "the NIC's speed is lost"
done
"$peosim" init </dev/null >/dev/null 2>"$dir/err" && fault "init without a terminal and flags succeeds"
grep -q -- '--model' "$dir/err" || fault "init does not say what it needs"
"$peosim" init --model deepseek-v3 --profile b2000 >/dev/null 2>&1 && fault "an unknown GPU is taken"

cat >"$dir/nvml.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
struct memory { unsigned long long total, free, used; };
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = (unsigned)atoi(getenv("GPUS")); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)(size_t)(i + 1); return 0; }
int nvmlDeviceGetName(void *h, char *s, unsigned n) { (void)h; snprintf(s, n, "%s", getenv("GPU")); return 0; }
int nvmlDeviceGetMemoryInfo(void *h, struct memory *m) { (void)h; m->total = 141000000000; return 0; }
int nvmlDeviceGetNvLinkState(void *h, unsigned l, int *on) { (void)h; *on = l < 18; return 0; }
END
if ${CC:-cc} -shared -fPIC -o "$dir/libnvidia-ml.so.1" "$dir/nvml.c" 2>"$dir/err"; then
    while read -r gpus want gpu; do
        LD_LIBRARY_PATH=$dir GPUS=$gpus GPU=$gpu "$peosim" init --from-this-host --model glm-5 >"$dir/host.yaml" 2>"$dir/err" ||
            fault "init --from-this-host fails for $gpu: $(cat "$dir/err")"
        grep -q "profile: $want\$" "$dir/host.yaml" || fault "$gpu is not taken for $want: $(grep profile: "$dir/host.yaml")"
        grep -q "gpus_per_node: $gpus\$" "$dir/host.yaml" || fault "$gpu: not $gpus GPUs"
    done <<'END'
8 h200 NVIDIA H200
8 h100 NVIDIA H100 80GB HBM3
4 h20 NVIDIA H20
8 h20-141 NVIDIA H20-3e
4 gb200 NVIDIA GB200
8 b300 NVIDIA B300 SXM6 AC
END
    LD_LIBRARY_PATH=$dir GPUS=1 GPU="NVIDIA T4" "$peosim" init --from-this-host --model glm-5 >/dev/null 2>"$dir/err" &&
        fault "a T4 is taken for something"
    grep -q "T4" "$dir/err" || fault "the unknown GPU is not named"
else
    cat "$dir/err" && fault "the stand-in does not build"
fi
[ -z "$bad" ]
