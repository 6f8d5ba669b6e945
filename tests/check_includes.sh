#!/bin/sh
# Who may include whom (the rooms of the source tree), and that every header compiles alone.
# Says each fault as file:line and exits 1.
set -u
cd "$(dirname "$0")/.." || exit 2

# The rooms that a file may include.
allowed() {
    case $1 in
    base/*) echo base ;;
    plan/*) echo base plan ;;
    hw/*) echo base hw ;;
    model/*) echo base plan hw model ;;
    sim/*) echo base plan sim ;;
    kernels/*) echo base kernels ;;
    validate/gpu_*) echo base plan hw kernels validate ;;
    validate/fit* | validate/accuracy*) echo base plan hw model validate ;;
    validate/*) echo base plan hw validate ;;
    cmd/*) echo base plan hw model sim kernels validate cmd ;;
    tests/*) echo base plan hw model sim kernels validate cmd tests ;;
    *) echo ;;
    esac
}

check_rooms() {
    find base plan hw model sim kernels validate cmd tests -name '*.[ch]' -o -name '*.cu' \
        -o -name '*.cuh' 2>/dev/null | sort | while read -r file; do
        rooms=" $(allowed "$file") "
        grep -n '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$file" |
            sed 's/^\([0-9]*\):[^"]*"\([^"]*\)".*/\1 \2/' | while read -r line name; do
            case $name in
            */*) room=${name%%/*} ;;
            *) echo "$file:$line: \"$name\": write the room: \"room/file.h\"" && continue ;;
            esac
            case $rooms in
            *" $room "*) ;;
            *) echo "$file:$line: ${file%%/*}/ may not include \"$name\"" ;;
            esac
        done
    done
    # The CPU half must build where there is no CUDA.
    grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"](cuda|cupti|nccl|cublas|nvml|cooperative_groups)' \
        -r base plan hw model sim cmd validate tests --include='*.[ch]' 2>/dev/null |
        grep -v '^validate/gpu_' | grep -v '^tests/gpu/' | sed 's/:\([0-9]*\):.*/:\1: a CUDA or NCCL header outside kernels\/ and validate\/gpu_*/'
    grep -nE '#include "(validate/gpu_)' -r validate --include='*.[ch]' 2>/dev/null |
        grep -v '^validate/gpu_' | sed 's/:\([0-9]*\):.*/:\1: the CPU half may not include the GPU half/'
}

check_headers() {
    for header in base/*.h plan/*.h hw/*.h model/*.h sim/*.h kernels/*.h validate/*.h cmd/*.h; do
        [ -e "$header" ] || continue
        case $header in
        validate/gpu_*) continue ;; # may need CUDA's headers
        esac
        echo "#include \"$header\"" |
            ${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -I. -fsyntax-only -x c - \
                >"$log" 2>&1 || { echo "$header: does not compile alone:" && cat "$log"; }
    done
}

log=$(mktemp) || exit 2
faults=$(check_rooms && check_headers)
rm -f "$log"
[ -z "$faults" ] && exit 0
echo "$faults"
exit 1
