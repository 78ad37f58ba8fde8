#!/usr/bin/env bash
# launch/mpirun.sh and launch/slurm.sbatch with mpirun, nvidia-smi, scontrol and id replaced by small programs: which
# options and variables they give, how signals and exit codes pass through, and what goes back into the queue.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin"
export PATH=$folder/bin:$PATH folder
# What the environment says would be passed on.
unset "${!KSA_@}" "${!NCCL_@}" "${!OMPI_@}" "${!OMP_@}"
failures=0

program() {
  printf '#!/bin/bash\n%s\n' "$2" >"$folder/bin/$1"
  chmod +x "$folder/bin/$1"
}
# check NAME STATUS TEXT...: of the last `status` and `output`; a text that begins with ! must not be there.
check() {
  local name=$1 wanted=$2 text fine=true
  shift 2
  [ "$status" -eq "$wanted" ] || fine=false
  for text in "$@"; do
    if [[ "$text" == !* ]]; then
      if grep -qF -- "${text#!}" <<<"$output"; then fine=false; fi
    else
      grep -qF -- "$text" <<<"$output" || fine=false
    fi
  done
  if $fine; then echo "ok: $name"; return; fi
  printf 'FAILED: %s: status %s (expected %s), texts: %s\noutput:\n%s\n' "$name" "$status" "$wanted" "$*" "$output"
  failures=$((failures + 1))
}
# start ARGUMENTS...: launch/mpirun.sh
start() {
  status=0
  output=$("$root/launch/mpirun.sh" "$@" 2>&1) || status=$?
}

program mpirun 'echo "mpirun was given: $*"; echo "nvls ${NCCL_NVLS_ENABLE-unset} root ${OMPI_ALLOW_RUN_AS_ROOT-unset}"; exit "${CODE:-0}"'
program nvidia-smi 'exit 9'
program nproc 'echo 2'
program id 'echo 1000'
printf '# two hosts\nnode1 slots=8\nnode2 slots=4 max_slots=8 # small\nnode3\n' >"$folder/hosts"

start --ranks 2 -- ksa train c.yaml --set 'run.name=a b'
check "a host of its own, a CPU" 0 "2 rank(s) on this host, cpu" "mpirun was given: -np 2 --bind-to none --oversubscribe ksa train c.yaml --set run.name=a b" \
  "nvls unset root unset" "!yield"
start --ranks 3 ksa train c.yaml
check "more ranks than cores" 0 "OMPI_MCA_mpi_yield_when_idle=1"
start --ranks 3 --cores 4 ksa train c.yaml
check "cores of their own" 0 "--map-by slot:PE=4" "!--bind-to"
start --host-file "$folder/hosts" ksa train c.yaml
check "the slots of a host file" 0 "mpirun was given: -np 13 --hostfile $folder/hosts" "-x PATH" "!--oversubscribe" \
  "OMPI_MCA_oob_tcp_keepalive_time=4"
start --host-file "$folder/hosts" --device cuda --interface ib0 --mca btl=tcp,self ksa train c.yaml
check "GPUs and a network" 0 "--mca btl_tcp_if_include ib0 --mca oob_tcp_if_include ib0" "--mca btl tcp,self" \
  "NCCL_SOCKET_IFNAME=ib0" "NCCL_NVLS_ENABLE=0" "-x NCCL_NVLS_ENABLE" "-x NCCL_SOCKET_IFNAME" "nvls 0"
NCCL_NVLS_ENABLE=1 KSA_WATCHDOG_SECONDS=7 start --ranks 2 --device cuda ksa train c.yaml
check "what the environment says is kept" 0 "NCCL_NVLS_ENABLE=1" "-x KSA_WATCHDOG_SECONDS" "nvls 1"
program nvidia-smi 'for i in 0 1 2; do echo "GPU $i: NVIDIA H200 (UUID: x)"; done'
start ksa train c.yaml
check "one rank a GPU" 0 "3 rank(s) on this host, cuda"
start --device cpu ksa train c.yaml
check "how many ranks?" 64 "--ranks is missing"
start --ranks 2 --print ksa train c.yaml
check "printed only" 0 "mpirun -np 2" "!was given"
program id 'echo 0'
start --ranks 2 ksa train c.yaml
check "root" 0 "root 1"
start --ranks two ksa
check "not a number" 64 "--ranks wants a number"
start --ranks
check "no value" 64 "--ranks needs a value"
start --frobnicate ksa
check "an unknown option" 64 "unknown option"
start --ranks 2
check "no command" 64 "no command"
start --host-file "$folder/none" ksa
check "no host file" 66 "no host file"
CODE=65 start --ranks 2 ksa train c.yaml
check "the exit code is kept" 65 "was given"
CODE=205 start --host-file "$folder/hosts" ksa train c.yaml
check "a host is lost" 75 "was given"

program mpirun 'echo "ORTE was unable to reliably start one or more daemons." >&2; exit 1'
start --ranks 2 ksa train c.yaml
check "a host is lost, as mpirun also says it" 75 "ORTE was unable"
program mpirun 'echo "ksa: internal error" >&2; exit 1'
start --ranks 2 ksa train c.yaml
check "an error of the program" 1 "internal error"

# signals SIGNAL: mpirun gets SIGUSR1, twice, and its exit code arrives.
program mpirun 'trap "echo got USR1; count=\$((count + 1))" USR1; count=0; touch "$folder/ready"
  while [ "$count" -lt 2 ]; do sleep 0.05; done; exit 85'
signals() {
  rm -f "$folder/ready"
  status=0
  "$root/launch/mpirun.sh" --ranks 2 ksa >"$folder/output" 2>&1 &
  local child=$!
  while [ ! -e "$folder/ready" ]; do sleep 0.02; done
  kill "-$1" "$child"
  sleep 0.3
  kill "-$1" "$child"
  wait "$child" || status=$?
  output=$(cat "$folder/output")
  check "$1 reaches mpirun as SIGUSR1" 85 "got USR1"
}
signals USR1
signals TERM

# submit ARGUMENTS...: launch/slurm.sbatch as a job on two nodes.
program scontrol 'case "$1" in show) printf "node1\nnode2\n" ;; *) echo "scontrol $*" ;; esac'
program mpirun 'echo "mpirun was given: $*"; cat "$(sed "s/.*--hostfile \([^ ]*\).*/\1/" <<<"$*")"; exit "${CODE:-0}"'
submit() {
  status=0
  output=$(cd "$root" && SLURM_SUBMIT_DIR=$root SLURM_JOB_ID=77 SLURM_JOB_NODELIST='node[1-2]' SLURM_NTASKS_PER_NODE=8 \
    SLURM_RESTART_COUNT=${RESTARTS:-0} bash "$root/launch/slurm.sbatch" "$@" 2>&1) || status=$?
}
submit c.yaml --set training.max_steps=5
check "a job" 0 "mpirun was given: -np 16" "node2 slots=8" "train c.yaml --set training.max_steps=5" "!requeue"
CODE=85 submit c.yaml
check "stopped before the limit" 85 "scontrol requeue 77"
CODE=75 submit c.yaml
check "a rank was lost" 75 "scontrol requeue 77"
CODE=75 RESTARTS=3 submit c.yaml
check "lost too often" 75 "!requeue"
CODE=78 submit c.yaml
check "a mistake is not tried again" 78 "!requeue"
submit
check "no configuration" 64 "which configuration"

exit $((failures > 0))
