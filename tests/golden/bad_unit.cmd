printf "skew:\n  start_us: 3 ms\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
