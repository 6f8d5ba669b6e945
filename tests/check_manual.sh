#!/bin/bash
# Man pages and completion say every option that the tables have, and their shells accept them.
set -u
cd "$(dirname "$0")/.." || exit 2
peosim=${PEOSIM:-build/peosim}
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
bad=
fault() { echo "$*" && bad=1; }

for shell in bash zsh fish; do
    "$peosim" completion $shell >"$dir/$shell" || fault "completion $shell fails"
done
bash -n "$dir/bash" || fault "bash does not accept its completion"
for shell in zsh fish; do
    command -v $shell >/dev/null && { $shell -n "$dir/$shell" || fault "$shell does not accept its completion"; }
done
"$peosim" completion tcsh >/dev/null 2>&1 && fault "a completion for tcsh"

# Flags and keys as --help shows them: the first word of the indented lines.
"$peosim" help | sed -n 's/^  \([a-z]*\) .*/\1/p' | while read -r command; do
    "$peosim" man "$command" >"$dir/page" || echo "man $command fails"
    tr -d '\\' <"$dir/page" >"$dir/plain"
    [ "$command" = help ] || [ "$command" = diff ] || [ "$(grep -c '^peosim\|^mpirun\|^source' "$dir/page")" -ge 2 ] || echo "$command: fewer than two examples"
    "$peosim" help "$command" | sed -n '/^Flags/,/^$/s/^  \([a-z_.]*\)  .*/\1/p' >"$dir/flags"
    while read -r flag; do
        grep -q -- "--${flag//_/-}\b" "$dir/plain" || echo "man $command: no --$flag"
        grep -q -- "--${flag//_/-}\b" "$dir/bash" || echo "bash completion: no --$flag"
        grep -q -- "-l ${flag//_/-} " "$dir/fish" || grep -q -- "-l ${flag//_/-}$" "$dir/fish" || echo "fish completion: no --$flag"
    done <"$dir/flags"
    "$peosim" help "$command" | sed -n '/^Keys/,$s/^  \([a-z_.]*\)  .*(.*/\1/p' | while read -r key; do
        grep -q -- "B $key\b" "$dir/plain" || echo "man $command: no key $key"
    done
done >"$dir/faults"
[ -s "$dir/faults" ] && { cat "$dir/faults" && bad=1; }

# What a person sees who presses Tab.
got=$(bash -c 'source "$0"; COMP_WORDS=(peosim run --profile h2); COMP_CWORD=3; _peosim; echo "${COMPREPLY[*]}"
    COMP_WORDS=(peosim run dpsk); COMP_CWORD=2; _peosim; echo "${COMPREPLY[*]}"
    COMP_WORDS=(peosim rec); COMP_CWORD=1; _peosim; echo "${COMPREPLY[*]}"
    COMP_WORDS=(peosim run --phase ""); COMP_CWORD=3; _peosim; echo "${COMPREPLY[*]}"' "$dir/bash")
for want in h200 dpsk_ep64 recommend decode; do
    echo "$got" | grep -q "$want" || fault "Tab does not offer $want: $got"
done
[ -z "$bad" ]
