# A layer with attention is set against `none` with attention, and against nothing where there is none.
table() { # flags
    peosim validate configs/h200x4_tbo.yaml --measured validate/evidence/2026-11-21-h200x1/tbo/slice \
        --gpus 1 --no-plots --quiet --output-dir "$OUT/a" "$@" |
        awk -F'|' '/^(none|tbo)/ {print $1 substr($2, 1, 11) " |" substr($3, 1, 8)} /^order/ {sub(/.*mean/, "mean"); print}'
}
table
table --set attention.include=auto
