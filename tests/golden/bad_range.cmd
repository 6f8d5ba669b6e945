printf "batch: -4\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
