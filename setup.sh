#!/bin/sh
# What peosim needs, and whether it is here.
#   setup.sh show               one line per dependency found
#   setup.sh install PURPOSE    installs what is missing for build, demo, test, ci or wheel (apt only)
#   setup.sh need PURPOSE       only names it, and fails where anything is
#   setup.sh need-gpu CUDA_HOME [NCCL_HOME]    why `make gpu` cannot work here, in one line
set -u

# name | how to see it | Debian and Ubuntu package | purposes | what for
needs() {
    cat <<'END'
compiler|cmd cc|gcc|build|
libc headers|header stdio.h|libc6-dev|build|
make|cmd make|make|build|
pkg-config|cmd pkg-config|pkg-config|build|
libyaml|lib yaml-0.1|libyaml-dev|build|YAML
GSL|lib gsl|libgsl-dev|build|random numbers, statistics, fits
jansson|lib jansson|libjansson-dev|build|JSON
SQLite|lib sqlite3|libsqlite3-dev|build|journals of sweeps
libmd|lib libmd|libmd-dev|build|SHA-256
cmocka|lib cmocka|libcmocka-dev|test|unit tests
gnuplot|cmd gnuplot|gnuplot-nox|demo test|pictures
fonts|font|fonts-dejavu-core|demo test|text in pictures
clang|cmd clang|clang|ci|second compiler
Chromium|cmd chromium|chromium|ci|test of the report's page
clang-format|cmd clang-format|clang-format|ci|format check
Python|cmd python3|python3|wheel|wheel and module for Python
pip|module pip|python3-pip|wheel|wheel
venv|module ensurepip|python3-venv|wheel|test of the wheel
CUDA|cuda|-|-|GPU half
NCCL|nccl|-|-|GPU half
CUPTI|cupti|-|-|times of library kernels in the GPU half, optional
MPI|lib ompi|libopenmpi-dev|ci|sweeps over several machines, optional
SimGrid|lib simgrid|-|-|cross-check of flow sharing, optional
END
}

cuda_home() {
    nvcc=$(command -v nvcc || true)
    [ -n "$nvcc" ] && dirname "$(dirname "$(readlink -f "$nvcc")")" && return
    [ -x /usr/local/cuda/bin/nvcc ] && echo /usr/local/cuda
}

# Prints a version or place and succeeds when the dependency is here.
find_need() {
    case $1 in
    "cmd "*) command -v "${1#cmd }" ;;
    "lib "*) pkg-config --modversion "${1#lib }" 2>/dev/null | grep . ;;
    "header "*) [ -e "/usr/include/${1#header }" ] && echo "/usr/include/${1#header }" ;;
    "module "*) python3 -c "import ${1#module }" 2>/dev/null && echo "of python3" ;;
    font) find /usr/share/fonts /usr/local/share/fonts -name '*.ttf' 2>/dev/null | grep -m 1 . ;;
    cuda) cuda_home | grep . ;;
    cupti) ls "$(cuda_home)/include/cupti.h" "$(cuda_home)/extras/CUPTI/include/cupti.h" \
        2>/dev/null | grep -m 1 . ;;
    nccl) ls /usr/include/nccl.h /usr/local/include/nccl.h "$(cuda_home)/include/nccl.h" \
        2>/dev/null | grep -m 1 . ;;
    esac
}

show() {
    needs | while IFS='|' read -r name how package purposes what; do
        if found=$(find_need "$how"); then
            printf '%-13s %s\n' "$name" "$found"
        elif [ "$package" = - ]; then
            printf '%-13s not found (%s)\n' "$name" "$what"
        else
            printf '%-13s MISSING: package %s%s\n' "$name" "$package" "${what:+ ($what)}"
        fi
    done
}

missing_for() {
    case $1 in
    build) wanted=build ;;
    demo) wanted='build demo' ;;
    test) wanted='build test' ;;
    ci) wanted='build test ci' ;;
    wheel) wanted='build wheel' ;;
    *) echo "setup.sh: unknown purpose '$1'" >&2 && exit 2 ;;
    esac
    needs | while IFS='|' read -r name how package purposes what; do
        for p in $purposes; do
            case " $wanted " in
            *" $p "*) find_need "$how" >/dev/null || echo "$package" && break ;;
            esac
        done
    done | tr '\n' ' '
}

install() {
    missing=$(missing_for "$1") || exit 2
    [ -n "$missing" ] || return 0
    echo "setup: missing packages (Debian and Ubuntu names): $missing"
    if ! command -v apt-get >/dev/null; then
        echo "setup: there is no apt-get here: please install them by hand, then call make again" >&2
        exit 1
    fi
    as_root=
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "setup: as root, please run: apt-get install $missing" >&2
            exit 1
        fi
        as_root=sudo
    fi
    echo "setup: installing them with apt-get"
    $as_root apt-get -q -o DPkg::Lock::Timeout=300 update &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
            install --no-install-recommends $missing || exit 1
}

NCCL_LEAST=2.28.9
# Why the GPU half cannot be built here, in one line, or nothing. $1: CUDA_HOME, $2: NCCL_HOME or "".
need_gpu() {
    cuda=$1 nccl=${2:-}
    if [ ! -x "$cuda/bin/nvcc" ]; then
        echo "make gpu: there is no nvcc in $cuda/bin: install CUDA 13, or say where it is with CUDA_HOME="
        return 1
    fi
    for dir in "$nccl/include" "$cuda/include" /usr/local/include /usr/include; do
        [ -e "$dir/nccl.h" ] && break
    done
    if [ ! -e "$dir/nccl.h" ]; then
        echo "make gpu: there is no nccl.h: install NCCL $NCCL_LEAST or newer, or say where it is with NCCL_HOME="
        return 1
    fi
    have=$(sed -n 's/^#define NCCL_\(MAJOR\|MINOR\|PATCH\)  *\([0-9]*\).*/\2/p' "$dir/nccl.h" |
        tr '\n' . | sed 's/\.$//')
    if [ "$(printf '%s\n' "$NCCL_LEAST" "$have" | sort -V | head -n 1)" != "$NCCL_LEAST" ]; then
        echo "make gpu: NCCL $have of $dir is too old: its device API is used as of $NCCL_LEAST (NCCL_HOME= names another)"
        return 1
    fi
}

# Names what is missing, installs nothing.
need() {
    missing=$(missing_for "$1") || exit 2
    [ -z "$missing" ] && return
    echo "make: missing packages (Debian and Ubuntu names): $missing"
    echo "make: \`make test\` installs them; by hand: apt-get install $missing"
    exit 1
}

case ${1:-} in
show) show ;;
need) need "${2:-build}" ;;
need-gpu) need_gpu "${2:-/usr/local/cuda}" "${3:-}" ;;
install) install "${2:-build}" ;;
*) sed -n '2,6s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
