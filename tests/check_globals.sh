#!/bin/sh
# No mutable globals: two simulations in one process must not meet. Looks at the objects of the
# library for anything in .data or .bss (constant tables with pointers lie in .data.rel.ro).
set -u
build=${BUILD:-build}
case $build in
*asan* | *fuzz* | *cov*) echo "skipped: sanitizers and coverage add globals of their own" && exit 0 ;;
esac
found=$(objdump -t "$build/libpeosim.a" | awk '
    /file format/ {object = $1}
    $0 ~ / O \.(data|bss|tbss|tdata)(\.[^r][^ \t]*)?[ \t]/ {print object " " $NF}')
[ -z "$found" ] && exit 0
echo "mutable globals:"
echo "$found"
exit 1
