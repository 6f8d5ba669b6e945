#!/bin/bash
# Names that would run a command if they reached a shell or gnuplot unquoted, as configuration,
# model, profile, table, picture and output folder of every command, in a folder full of traps. Under
# strace (where it is installed) no program but gnuplot starts and nothing is written elsewhere.
#   check_hostile.sh [RUNS]     default: every command once with one of the names; torture: 1000
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
peosim=$(readlink -f "${PEOSIM:-build/peosim}") tree=$PWD
export PEOSIM_HOME=$tree
box=$(mktemp -d) && box=$(readlink -f "$box")
trap 'rm -rf "$box"' EXIT
failed=0
fail() {
    echo "FAILED: $*"
    failed=1
}

X='touch PWNED'
fragments=("<$X;echo " "|$X;cat>" "|$X" "\`$X\`" "\$($X)" "'; system '$X'; '" "\"; system \"$X\"; \""
    "a';!$X" $'a\n! touch PWNED\n' $'b\nsystem "touch PWNED"' ";$X;" "&$X&" "-e system '$X'" "--help" "-"
    "@PWNED" "{/=20 $X}" "%s%n%d" "\\" "\\' $X" "\$HOME" "~root" "#" "! $X" "(cat)" "*?[a]" "a b  c" "'" '"'
    $'\t' $'\x01\x02' $'\xff\xfe' "é ü" "<(echo)" ">x" "2>&1" "a,b" "[1,2]" "{a: b}" "null" "1e9" "&a *a"
    "<script>$X</script>" "\${IFS}" "print '$X'" "@ARG1" "\" . system('$X') . \"" "..." "|&" "a:b" "=")

# A trap for everything that might be taken from the working folder, the home or the path.
sandbox() {
    rm -rf "$box/run" && mkdir -p "$box/run/plots" "$box/run/home" && cd "$box/run" || exit 2
    for f in "$tree"/plots/*.gp; do echo "system 'touch $box/run/TRAPPED'" >"plots/${f##*/}"; done
    for f in home/.gnuplot .gnuplot gnuplotrc; do echo "system 'touch $box/run/TRAPPED'" >"$f"; done
    for f in gnuplot sh touch cat ls; do printf '#!/bin/sh\n: >"%s/run/TRAPPED"\n' "$box" >$f && chmod +x $f; done
}

# Puts the command line for run $1 under name $2 into `line`, what it may write into `may`.
command_line() {
    local name=$2
    small=(--set policies=none --set batch=4,8)
    cp "$box/config.yaml" "./$name.yaml" 2>/dev/null
    cp "$tree/configs/models/qwen3-30b.json" "./$name.json" 2>/dev/null
    may="./$name"
    case $1 in
    0) line=(run "./$name.yaml" "${small[@]}" --output-dir "./$name") ;;
    1) line=(run "./$name.yaml" "${small[@]}") may=./results ;;
    2) line=(run "$box/config.yaml" "${small[@]}" --set "model=./$name.json" --output-dir "$name") ;;
    3) line=(why "./$name.yaml" --batch 4 --output-dir "./$name") ;;
    4) line=(recommend "./$name.yaml" --batch 4 --output-dir "./$name" --set "policies=none,sbo") ;;
    5) line=(sweep "./$name.yaml" "${small[@]}" --output-dir "$name") ;;
    6) line=(pass "./$name.yaml" --set policies=none --batch 4 --output-dir "./$name") ;;
    7) cp "$box/capacity.yaml" "./$name.yaml" && line=(capacity "./$name.yaml" --output-dir "./$name") ;;
    8) line=(accuracy --profile h200 "$box/ll.csv" --rows "./$name.csv" --plot "./$name") may="./$name" ;;
    9) cp "$box/ll.csv" "./$name in.csv" && line=(calibrate --profile h200 --from "./$name in.csv" --out
        "./$name.out" --rows "./$name.csv" --plot "./$name" --starts 0 --groups=false) ;;
    10) cp "$box/spans.csv" "./$name.csv" && line=(diff "./$name.csv" "$box/spans.csv" --names "$name,b"
        --output-dir "./$name") ;;
    11) line=(validate "$box/h200.yaml" --measured "$tree/validate/evidence/2026-11-21-h200x1/tbo/slice" --gpus 1
        --output-dir "./$name") ;;
    12) line=(plan "./$name.yaml" "${small[@]}") ;;
    13) line=(info model "./$name.json") ;;
    esac
}
KINDS=14

# What lies in the sandbox, but for what the command may write.
manifest() {
    find . -mindepth 1 ! -path "./results*" -printf '%p\0' | grep -zavF "$may" | LC_ALL=C sort -z | tr '\0\n' '\n?'
}

# Every successful execve but the first must be of an absolute gnuplot; no write outside the sandbox but
# the system's cache of fonts, which the first gnuplot of a machine fills.
judge_trace() { # log, what
    local extra
    extra=$(grep -a 'execve.*= 0$' "$1" | grep -avF "\"$peosim\"" | grep -avE 'execve\("/[a-z/]*/gnuplot"' | head -3)
    [ -z "$extra" ] || fail "$2: started $extra"
    extra=$(grep -aE '(O_WRONLY|O_RDWR|O_CREAT)|(mkdir|rename|unlink|symlink|link)[a-z0-9]*\(' "$1" |
        grep -av ' = -1 ' | grep -aE '[^\\]"/' | grep -avF "\"$box/" | grep -avE '"/(dev/(null|tty|shm/)|proc/|var/cache/fontconfig/)|\.gcda"' | head -3)
    [ -z "$extra" ] || fail "$2: wrote $extra"
}

cp configs/qwen_ep16.yaml "$box/config.yaml"
cp configs/h200x4_tbo.yaml "$box/h200.yaml"
sed -e 's/^gpus:.*/gpus: [h200]/' -e '/^  \(h20\|h800\|b200\):/d' -e 's/ep: .*/ep: [8]/' -e 's/batch: .*/batch: [16]/' \
    -e 's/tokens: .*/tokens: [8192]/' configs/capacity/dsv3.yaml >"$box/capacity.yaml"
"$peosim" run "$box/config.yaml" --set policies=none --set batch=4 --no-plots --output-dir "$box/spans" >/dev/null &&
    cp "$box/spans/spans.csv" "$box/spans.csv" || fail "no spans to compare"
{
    echo system,nodes,ep,hidden,num_experts,topk,tokens_per_rank,phase,dtype,bytes_per_rank,latency_us
    for t in 1 2 4 8 16 32 64 128 256 512; do echo h200,1,8,7168,256,8,$t,dispatch,fp8,$((t * 59264)),$((12 + t / 5)).5; done
} >"$box/ll.csv"

trace=()
if strace -f -o /dev/null true 2>/dev/null; then
    trace=(strace -f -qq -s 4096 -e trace=execve,execveat,openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,symlink,symlinkat,link,linkat -o "$box/trace")
else
    echo "skipped: strace cannot run here; only the traps watch"
fi

runs=${1:-$KINDS} pictures=0 good=0
for ((i = 0; i < runs; i++)); do
    n=${#fragments[@]}
    a=${fragments[(i * 7 + i / n) % n]} b=${fragments[(i * 11 + 5 + i / n * 3) % n]}
    name=$a
    ((i >= KINDS)) && name=$a$b
    name=${name//\//_} # a folder of a path is tried by `results/` and the sandbox itself
    sandbox
    command_line $((i % KINDS)) "$name"
    manifest >"$box/before"
    HOME=$box/run/home GNUPLOT_LIB=$box/run XDG_CONFIG_HOME=$box/run/home PATH=".::$PATH:$box/run" \
        timeout 300 "${trace[@]}" "$peosim" "${line[@]}" >"$box/out" 2>"$box/err" </dev/null
    rc=$?
    manifest >"$box/after"
    what=$(printf '%q ' "${line[@]}")
    [ $rc -le 2 ] || fail "$what: exit $rc: $(tail -3 "$box/err")"
    [ $rc != 0 ] || ((good++))
    [ -z "$(find "$box" -name 'PWNED*' -o -name TRAPPED)" ] || fail "$what: ran a command"
    cmp -s "$box/before" "$box/after" || fail "$what: left $(diff "$box/before" "$box/after" | head -3)"
    [ -z "$(find "$box/run" -name '.part*' -o -name '.plot-*' -o -name '*.tmp.*')" ] || fail "$what: left temporary files"
    pictures=$((pictures + $(find "$box/run" -name '*.png' | wc -l)))
    [ ${#trace[@]} = 0 ] || judge_trace "$box/trace" "$what"
    [ "${VERBOSE:-}" ] && { echo "$rc $what"; head -2 "$box/err"; }
    ((failed)) && [ "$i" -ge "$KINDS" ] && break
done
echo "$i runs with hostile names, $good of them answered, $pictures pictures"
command -v gnuplot >/dev/null && [ "$pictures" = 0 ] && fail "no run drew a picture: nothing was tried"
exit $failed
