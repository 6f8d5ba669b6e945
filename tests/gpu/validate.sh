#!/bin/sh
# Every policy on as many GPUs as there are: right outputs, the same bits, traces. $1: the program;
# $2: numbers of GPUs, "1 2 4".
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
# $1: configuration, $2: GPUs, $3: ranks (more than GPUs: slices), $4: data type, $5: points.
check() {
    "$program" validate "tests/gpu/$1.yaml" --gpus "$2" --cluster.gpus_per_node="$3" \
        --check-tokens 0 --no-plots --set dispatch_dtype="$4" --set gemm_dtype="$4" --quiet \
        --output-dir "$out" >"$out/table" || { fail=1; cat "$out/table"; }
    points=$(grep -c ' yes$\| refused$' "$out/table")
    [ "$points" = "$5" ] || { fail=1; cat "$out/table"; }
    echo "validate: $1, $3 ranks on $2 GPUs, $4: $points of $5 points"
}
program=$1
for n in ${2:-1 2 4}; do
    [ "$n" -le "$gpus" ] || continue
    for dtype in fp8 bf16; do
        check small "$n" "$n" $dtype 15
        check small_eps "$n" "$n" $dtype 18
        check small_normal "$n" "$n" $dtype 2
    done
    check small_eps "$n" $((4 * n)) fp8 18
    check small_normal "$n" $((4 * n)) fp8 2
    # Most tokens on few experts, many experts without any, drawn anew; every output of 1,000 replays
    # with random delays in the kernels.
    seed=$(date +%s)
    "$program" validate tests/gpu/small.yaml --cluster.gpus_per_node="$n" --set batch=24 --seed "$seed" \
        --set routing.kind=zipf --set routing.exponent=3 --delay-us 20 --check-replays 1000 \
        --check-tokens 0 --no-plots --quiet --output-dir "$out" >"$out/table" || { fail=1; cat "$out/table"; }
    points=$(grep -c ' yes$\| refused$' "$out/table")
    [ "$points" = 8 ] || { fail=1; cat "$out/table"; }
    echo "validate: skewed routing, seed $seed, delays, 1000 replays, $n GPUs: $points of 8 points"
    # A latent cache, a shared expert, halves of 16 and 15 tokens.
    "$program" validate configs/h200x4_tbo.yaml --cluster.gpus_per_node="$n" --set batch=31 --repeats 5 \
        --no-plots --quiet --output-dir "$out" >"$out/table" || { fail=1; cat "$out/table"; }
    points=$(grep -c ' yes$\| refused$' "$out/table")
    [ "$points" = 2 ] || { fail=1; cat "$out/table"; }
    echo "validate: attention, $n GPUs: $points of 2 points"
done
rm -rf "$out"
exit $fail
