#!/bin/bash
# Runs the commands that README.md and the pages of docs/ show and puts their real output in:
#   <!-- output: COMMAND -->   a code block with what COMMAND prints, up to <!-- end -->
#   <!-- table: COMMAND -->    the same as Markdown
# A command that cannot run here (no data, no GPU) leaves its block as it was. $1: an extended
# pattern; commands that do not match it are left alone.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD:$PATH
new=$(mktemp)
got=$(mktemp)
trap 'rm -f "$new" "$got"' EXIT
pattern=${1:-.}

page() { # FILE
    local old=$1 line kind command skip= # skip: inside a block that was replaced
    : >"$new"
    while IFS= read -r line; do
        case $line in
        '<!-- output: '* | '<!-- table: '*)
            kind=${line#<!-- }
            command=${kind#*: }
            command=${command% -->}
            echo "$line" >>"$new"
            [[ $command =~ $pattern ]] || continue
            if bash -c "set -o pipefail; $command" >"$got" 2>/dev/null && [ -s "$got" ]; then
                [ "${kind%%:*}" = table ] || echo '```' >>"$new"
                cat "$got" >>"$new"
                [ "${kind%%:*}" = table ] || echo '```' >>"$new"
                skip=1
            else
                echo "kept: $command" >&2
            fi
            ;;
        '<!-- end -->')
            skip=
            echo "$line" >>"$new"
            ;;
        *) [ -n "$skip" ] || printf '%s\n' "$line" >>"$new" ;;
        esac
    done <"$old"
    cat "$new" >"$old"
}

for file in README.md docs/questions.md docs/results/published.md docs/results/layers.md docs/results/eps.md docs/howto/diff-peo.md docs/howto/peo-claims.md; do
    page "$file"
done
