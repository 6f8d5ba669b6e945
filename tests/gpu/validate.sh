#!/bin/sh
# Every policy on as many GPUs as there are: right outputs, the same bits, traces. $1: the program.
set -u
cd "$(dirname "$0")/../.." || exit 2
gpus=0
for device in /dev/nvidia[0-9]*; do
    [ -e "$device" ] && gpus=$((gpus + 1))
done
if [ "$gpus" = 0 ]; then
    echo "validate: skipped: no GPU"
    exit 0
fi
out=$(mktemp -d) || exit 2
fail=0
for n in 1 2 4; do
    [ "$n" -le "$gpus" ] || continue
    for dtype in fp8 bf16; do
        "$1" validate tests/gpu/small.yaml --cluster.gpus_per_node=$n --check-tokens 0 --no-plots \
            --set dispatch_dtype=$dtype --set gemm_dtype=$dtype --quiet --output-dir "$out" \
            >"$out/table" || { fail=1; cat "$out/table"; }
        echo "validate: $n GPUs, $dtype: $(grep -c ' yes$\| refused$' "$out/table") points"
    done
    # A latent cache, a shared expert, halves of 16 and 15 tokens.
    "$1" validate configs/h200x4_tbo.yaml --cluster.gpus_per_node=$n --set batch=31 --repeats 5 --no-plots \
        --quiet --output-dir "$out" >"$out/table" || { fail=1; cat "$out/table"; }
    echo "validate: $n GPUs, attention: $(grep -c ' yes$\| refused$' "$out/table") points"
done
rm -rf "$out"
exit $fail
