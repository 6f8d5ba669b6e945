printf "policies:\n  - policy: poe\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
