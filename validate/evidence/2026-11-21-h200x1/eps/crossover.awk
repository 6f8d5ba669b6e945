# From crossover.csv: time of 8 GEMMs, one per expert, over that of one grouped GEMM of the same rows,
# with the gaps between kernels (0.93 us each). Below 1: one GEMM per expert is faster.
#   awk -F, -f crossover.awk crossover.csv
/^#/ || $1 == "kind" { next }
{ key = $3 "," $4 "," $13 "," $14; time[$1, key, $11] = ($1 == "dense_expert" ? 8 : 1) * ($19 + 0.93)
  if (!(key in seen)) { seen[key] = 1; order[++n] = key } rows[$11] = 1 }
END { split("64 128 256 512 1024 2048 4096", r, " ")
    printf "%-5s %4s %6s %6s", "dtype", "SMs", "n", "k"; for (i = 1; i <= 7; i++) printf " %6d", r[i]; print " rows per expert"
    for (j = 1; j <= n; j++) { split(order[j], f, ","); printf "%-5s %4d %6d %6d", f[1], f[2], f[3], f[4]
        for (i = 1; i <= 7; i++) printf " %6.2f", time["dense_expert", order[j], r[i]] / time["gemm_masked", order[j], r[i]]; print "" } }
