#!/bin/sh
# How runs on GPUs start and end: by a parent, by mpirun (NCCL's id through MPI, or through a file),
# with ranks that fail, are killed, have no GPU or lie beyond NVLink. $1: the program; $2: one built
# without MPI, if $1 has it. Skips what this machine cannot show.
set -u
cd "$(dirname "$0")/../.." || exit 2
gpus=0
for device in /dev/nvidia[0-9]*; do
    [ -e "$device" ] && gpus=$((gpus + 1))
done
if [ "$gpus" -lt 2 ]; then
    echo "launch: skipped: two GPUs are needed, found $gpus"
    exit 0
fi
P=$1
NO_MPI=${2:-$1}
out=$(mktemp -d) || exit 2
trap 'rm -rf "$out"' EXIT
export P NO_MPI out OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
RUN="validate tests/gpu/small.yaml --set policies=none --set batch=24 --check-tokens 4 --repeats 5 --no-plots --quiet"
LONG="validate tests/gpu/small.yaml --cluster.gpus_per_node=2 --repeats 10000 --no-plots --quiet"
export RUN LONG

# check NAME WANT TEXT COMMAND: WANT is "ok" or "fails"; TEXT (a regular expression) must be in what
# it says. Leaves ok.NAME or fail.NAME, so that several can run at once.
check() {
    name=$1 want=$2 text=$3 start=$(date +%s)
    shift 3
    timeout 60 sh -c "$1" >"$out/$name.out" 2>"$out/$name.err"
    rc=$?
    case $want:$rc in
    ok:0) right=1 ;;
    ok:* | fails:0 | fails:124) right=0 ;;
    *) right=1 ;;
    esac
    grep -Eq -e "$text" "$out/$name.out" "$out/$name.err" || right=0
    took=$(($(date +%s) - start))
    if [ $right = 1 ]; then
        echo "ok   $name: status $rc after $took s: $(grep -Eh -e "$text" "$out/$name.err" "$out/$name.out" | head -1 | cut -c 1-150)"
    else
        echo "FAIL $name: status $rc after $took s"
        sed 's/^/     /' "$out/$name.err" "$out/$name.out" | tail -25
        : >"$out/fail.$name"
    fi
}

# The column `hash` of a run's layers.csv.
hashes() {
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "hash") c = i; next } { print $c }' "$1/layers.csv"
}

# One table, and the bits of the run that a parent started.
same() {
    n=$(grep -c '^policy  *batch' "$out/$1.out")
    [ "$n" = 1 ] || { echo "FAIL $1: $n ranks printed"; : >"$out/fail.$1"; }
    [ "$(hashes "$out/$1")" = "$(hashes "$out/parent")" ] || { echo "FAIL $1: other bits"; : >"$out/fail.$1"; }
}

# Ranks that never come as far as the GPU: all at once.
refusals() {
    check too_many fails "rank $gpus of $((2 * gpus)) is process $((gpus + 1)) of its host, which has $gpus GPUs" \
        '$P $RUN --cluster.gpus_per_node='$((2 * gpus))' --output-dir $out/x1' &
    [ -n "$mpi" ] || { wait; return; }
    check mpi_no_gpu fails 'rank 1: there is no GPU' \
        "mpirun -n 2 sh -c '[ \$OMPI_COMM_WORLD_RANK = 0 ] || export CUDA_VISIBLE_DEVICES=; exec \$P \$RUN --output-dir \$out/x2'" &
    check beyond_nvlink fails 'of 2 ranks only 1 are in one NVLink domain.*--experimental-gin' \
        "mpirun -n 2 sh -c 'NCCL_HOSTID=host\$OMPI_COMM_WORLD_RANK exec \$P \$RUN --output-dir \$out/x3'" &
    check no_gin fails '--experimental-gin: NCCL has no GPU-initiated networking' \
        "mpirun -n 2 sh -c 'NCCL_HOSTID=host\$OMPI_COMM_WORLD_RANK exec \$P \$RUN --experimental-gin --output-dir \$out/x4'" &
    wait
}

mpi=$(command -v mpirun)
[ -n "$mpi" ] || echo "launch: no mpirun: its cases are skipped"
check parent ok ' yes' '$P $RUN --output-dir $out/parent'
check parent_gin ok ' yes' '$P $RUN --experimental-gin --output-dir $out/parent_gin'
same parent_gin
check one_gpu ok 'each GPU carries one rank of 2' '$P $RUN --gpus 1 --output-dir $out/one_gpu'
if [ -n "$mpi" ]; then
    if ldd "$P" | grep -q libmpi; then
        check mpi ok ' yes' 'mpirun -n 2 $P $RUN --output-dir $out/mpi'
        same mpi
    else
        echo "launch: built without MPI: the id goes by file only"
        export PEOSIM_ID_FILE="$out/id"
    fi
    check mpi_file ok ' yes' 'PEOSIM_ID_FILE=$out/id mpirun -n 2 $NO_MPI $RUN --output-dir $out/mpi_file'
    same mpi_file
    ls "$out"/id* 2>/dev/null && { echo "FAIL mpi_file: the file is still there"; : >"$out/fail.file"; }
fi
refusals
check slurm_variables ok ' yes' 'export SLURM_JOB_ID=$$ SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 PEOSIM_ID_FILE=$out/id
    SLURM_PROCID=1 SLURM_LOCALID=1 $NO_MPI $RUN --output-dir $out/x7 &
    SLURM_PROCID=0 SLURM_LOCALID=0 $NO_MPI $RUN --output-dir $out/slurm_variables && wait $!'
same slurm_variables
[ -z "$mpi" ] || check out_of_step fails 'rank [01]: waited 10.0 s in vain for the' \
    "mpirun -n 2 sh -c 'exec \$P \$RUN --output-dir \$out/x8 --layers \$((4 + OMPI_COMM_WORLD_RANK))'"
check killed fails 'rank 1 was ended by signal 9' \
    '$P $LONG --output-dir $out/x5 & p=$!; sleep ${KILL_AFTER:-6}
    set -- $(cat /proc/$p/task/$p/children); kill -9 $2; wait $p'
[ -z "$mpi" ] || check mpi_killed fails 'rank 1 .*on signal 9' \
    "mpirun -n 2 sh -c '[ \$OMPI_COMM_WORLD_RANK = 0 ] || { (sleep \${KILL_AFTER:-6}; kill -9 \$\$) & }; exec \$P \$LONG --output-dir \$out/x6'"
set -- "$out"/fail.*
[ ! -e "$1" ]
