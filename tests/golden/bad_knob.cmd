printf "policies:\n  - policy: peo\n    num_round: 2\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
