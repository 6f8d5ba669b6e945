cd $OUT; peosim run nosuch.yaml 2>&1
