printf "a: &a [1,1]\nb: &b [*a,*a]\nbatch: *b\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
