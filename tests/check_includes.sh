#!/bin/sh
# Who may include whom (the rooms of the source tree), and that every header compiles alone.
# Says each fault as file:line and exits 1.
set -u
cd "$(dirname "$0")/.." || exit 2

# The rooms that a file may include: a room sees all that its parents see.
allowed() {
    case $1 in
    base/*) echo base ;;
    plan/*) echo base plan ;;
    trace/*) echo base plan trace ;;
    hw/*) echo base hw ;;
    model/*) echo base plan hw model ;;
    sim/flow/*) echo base sim/flow ;;
    sim/*) echo base plan trace sim ;;
    kernels/*) echo base kernels ;;
    validate/*) echo base plan trace hw kernels validate ;;
    calib/*) echo base plan hw model calib ;;
    study/*) echo base plan trace hw model sim calib study ;;
    serve/*) echo base plan trace hw model sim calib study serve ;;
    report/*) echo base plan trace hw model sim calib study serve report ;;
    cmd/*) echo base plan trace hw model sim calib study serve report validate cmd ;;
    tests/*) echo base plan trace hw model sim calib study serve report kernels validate cmd tests ;;
    *) echo ;;
    esac
}

check_rooms() {
    find base plan trace hw model sim calib study serve report kernels validate cmd tests -name '*.[ch]' -o -name '*.cu' \
        -o -name '*.cuh' 2>/dev/null | sort | while read -r file; do
        rooms=" $(allowed "$file") "
        grep -n '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$file" |
            sed 's/^\([0-9]*\):[^"]*"\([^"]*\)".*/\1 \2/' | while read -r line name; do
            case $name in
            */*) room=${name%%/*} ;;
            *) echo "$file:$line: \"$name\": write the room: \"room/file.h\"" && continue ;;
            esac
            case $rooms in
            *" $room "* | *" ${name%/*} "*) ;;
            *) echo "$file:$line: ${file%%/*}/ may not include \"$name\"" ;;
            esac
        done
    done
    # The CPU half must build where there is no CUDA.
    grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"](cuda|cupti|nccl|cublas|nvml|cooperative_groups)' \
        -r base plan trace hw model sim calib study serve report cmd validate tests --include='*.[ch]' 2>/dev/null |
        grep -v '^validate/gpu_\|^validate/bench/\|^tests/gpu/' | sed 's/:\([0-9]*\):.*/:\1: a CUDA or NCCL header outside kernels\/ and validate\/gpu_*/'
    grep -nE '#include "validate/(gpu_|bench/)' -r validate --include='*.[ch]' 2>/dev/null |
        grep -v '^validate/gpu_\|^validate/bench/' | sed 's/:\([0-9]*\):.*/:\1: the CPU half may not include the GPU half/'
}

# Headers of kernels may name CUDA's types: where there is no CUDA, nothing is said of those.
needs_cuda() {
    grep -q 'cu[a-zA-Z_0-9]*\.h: No such file' "$log"
}

check_headers() {
    for header in $(find base plan trace hw model sim calib study serve report kernels validate cmd -name '*.h'); do
        case $header in
        validate/gpu_* | validate/bench/*) continue ;; # may need CUDA's headers
        esac
        echo "#include \"$header\"" |
            ${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-function -I. -fsyntax-only -x c - \
                >"$log" 2>&1 || needs_cuda || { echo "$header: does not compile alone:" && cat "$log"; }
    done
}

log=$(mktemp) || exit 2
faults=$(check_rooms && check_headers)
rm -f "$log"
[ -z "$faults" ] && exit 0
echo "$faults"
exit 1
