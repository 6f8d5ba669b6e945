printf "cluster:\n  profile: h2000\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
