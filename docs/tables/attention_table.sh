#!/bin/sh
# From what `peosim calibrate --only attn --cv` printed, a file a GPU in FOLDER, the two tables:
#   docs/tables/attention_table.sh FOLDER
set -eu
folder=${1:?usage: docs/tables/attention_table.sh FOLDER}

rows() { # "kinds" or "kernels"
    for p in h100 h200 b200 b300 gb200 gb300; do
        awk -v gpu="$p" -v want="$1" '
            function flush() {
                if (law != "" && (want == "kinds") == (law !~ / /))
                    printf "| %s | %s | %s | %s | %s | %s | %s |\n", law, gpu, n, fit, u[1], u[2], u[3]
                law = ""; u[1] = u[2] = u[3] = ""
            }
            function pair(line) {
                match(line, /median [0-9.]+%, p90 [0-9.]+%/)
                split(substr(line, RSTART, RLENGTH), w, /[ %,]+/)
                return w[2] " / " w[4]
            }
            /^[a-z].*: [0-9]+ rows/ {
                flush()
                law = $0; sub(/ *: [0-9]+ rows.*/, "", law)
                n = $0; sub(/.*: /, "", n); sub(/ rows.*/, "", n)
                fit = pair($0)
            }
            /a shape left out/ { u[1] = pair($0) }
            /a batch size left out/ { u[2] = pair($0) }
            /a context length left out/ { u[3] = pair($0) }
            /^[a-z_]+\.csv, profile/ { flush(); exit }
            END { flush() }' "$folder/$p"
    done | sort
}
head='| GPU | rows | in the fit | heads left out | batch left out | context left out |
|---|---|---:|---:|---:|---:|---:|'
echo "| kind $head"
rows kinds
echo
echo "<details><summary>By kernel</summary>"
echo
echo "| kernel $head"
rows kernels
echo
echo "</details>"
