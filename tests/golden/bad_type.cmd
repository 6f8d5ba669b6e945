printf "batch: many\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
