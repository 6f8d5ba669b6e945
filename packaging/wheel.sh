#!/bin/bash
# Builds dist/peosim-VERSION-py3-none-manylinux_2_28_x86_64.whl: the program with everything it links
# except glibc, its profiles, models, configurations, plots and page, and the Python module.
#   packaging/wheel.sh
# The compiler is zig's (pinned, from PyPI): it links against glibc 2.28, whatever this machine has.
# What is linked statically comes from Debian's -dev packages: libyaml, GSL, jansson, SQLite, libmd.
set -euo pipefail
cd "$(dirname "$0")/.."
zig_version=0.15.2
glibc=2.28
build=build-wheel
python=${PYTHON:-python3}

[ "$(uname -m)" = x86_64 ] || { echo "wheel: only x86_64 is built" && exit 1; }
zig=$build/zig/ziglang/zig
if ! [ -x "$zig" ]; then
    "$python" -m pip install -q --no-deps --target "$build/zig" "ziglang==$zig_version" ||
        { echo "wheel: ziglang $zig_version cannot be installed with pip" && exit 1; }
fi
zig=$PWD/$zig
export ZIG_GLOBAL_CACHE_DIR=$PWD/$build/zig-cache ZIG_LOCAL_CACHE_DIR=$PWD/$build/zig-cache

# Only the libraries' own headers: /usr/include itself would bring another glibc's.
include=$build/include
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)
mkdir -p "$include"
for header in yaml.h gsl jansson.h jansson_config.h sha2.h sqlite3.h; do
    for place in /usr/include /usr/include/"$multiarch"; do
        [ -e "$place/$header" ] && ln -sfn "$place/$header" "$include/$header"
    done
done

cat >"$build/cc" <<END
#!/bin/sh
exec $zig cc -target x86_64-linux-gnu.$glibc -mcpu=x86_64 "\$@"
END
chmod +x "$build/cc"
lib=/usr/lib/$multiarch
static="$lib/libyaml.a $lib/libgsl.a $lib/libgslcblas.a $lib/libjansson.a $lib/libsqlite3.a $lib/libmd.a"
make --no-print-directory -j"$(nproc)" "$build/peosim" BUILD="$build" CC="$PWD/$build/cc" MPI= \
    OPT="-O2 -g0" CFLAGS="-isystem $PWD/$include -Wno-unused-command-line-argument" \
    LDLIBS="$static -lm -lpthread -ldl" LDFLAGS=-s

"$python" packaging/wheel.py "$build/peosim" "$glibc"
