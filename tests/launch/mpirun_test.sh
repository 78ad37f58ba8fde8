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
program nproc 'echo "${OMP_NUM_THREADS:-2}"'  # as the real one does
program id 'echo 1000'
printf '# two hosts\nnode1 slots=8\nnode2 slots=4 max_slots=8 # small\nnode3\n' >"$folder/hosts"

start --ranks 2 -- ksa train c.yaml --set 'run.name=a b'
check "a host of its own, a CPU" 0 "2 rank(s) on this host, cpu" "mpirun was given: -np 2 --bind-to none --oversubscribe ksa train c.yaml --set run.name=a b" \
  "nvls unset root unset" "!yield"
start --ranks 3 ksa train c.yaml
check "more ranks than cores" 0 "OMPI_MCA_mpi_yield_when_idle=1"
start --ranks 2 --cores 1 ksa train c.yaml
check "cores of their own" 0 "--map-by slot:PE=1" "!--bind-to"
start --ranks 2 --cores 2 ksa train c.yaml
check "more cores than this host has" 64 "wants 2 core(s) for each of 2 rank(s), and this host has 2" "!was given"
OMP_NUM_THREADS=8 start --ranks 2 --cores 2 ksa train c.yaml
check "the threads of a rank are not cores" 64 "this host has 2" "!was given"
OMP_NUM_THREADS=1 start --ranks 1 --cores 2 ksa train c.yaml
check "all cores for one rank" 0 "--map-by slot:PE=2"
start --host-file "$folder/hosts" --cores 4 ksa train c.yaml
check "cores of other hosts" 0 "--map-by slot:PE=4"
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

# once_ready SIGNAL COMMAND...: the signal, when a fake program has made $folder/ready; then `status` and `output`.
once_ready() {
  rm -f "$folder/ready"
  status=0
  "${@:2}" >"$folder/output" 2>&1 &
  local child=$!
  while [ ! -e "$folder/ready" ]; do sleep 0.01; done
  kill "-$1" "$child"
  wait "$child" || status=$?
  output=$(cat "$folder/output")
}
# thirty NAME STATUS COMMAND...: a race shows only now and then.
thirty() {
  local codes=''
  for _ in {1..30}; do
    once_ready USR1 "${@:3}"
    codes+=" $status"
  done
  output="codes:$codes"
  status=$(tr ' ' '\n' <<<"$codes" | sort -u | xargs)
  [[ "$status" != *' '* ]] || status=1  # several
  check "$1" "$2"
}

# Ends at once, while launch/mpirun.sh still deals with the signal.
program mpirun 'trap "kill \$!; exit 85" USR1; sleep 10 & touch "$folder/ready"; wait'
thirty "the exit code after a signal, 30 times" 85 "$root/launch/mpirun.sh" --ranks 2 ksa

program mpirun 'echo "mpirun was given: $*"'
program nvidia-smi 'touch "$folder/ready"; sleep 0.4; exit 9'
once_ready USR1 "$root/launch/mpirun.sh" --ranks 2 ksa
check "USR1 during a slow nvidia-smi" 85 "before mpirun was started" "!was given"
once_ready TERM "$root/launch/mpirun.sh" --ranks 2 ksa
check "TERM during a slow nvidia-smi" 85 "before mpirun was started" "!was given"
program nvidia-smi 'exit 9'

# submit ARGUMENTS...: launch/slurm.sbatch as a job on two nodes.
program scontrol 'case "$1" in show) printf "node1\nnode2\n" ;; *) echo "scontrol $*" ;; esac'
program mpirun 'echo "mpirun was given: $*"; cat "$(sed "s/.*--hostfile \([^ ]*\).*/\1/" <<<"$*")"; exit "${CODE:-0}"'
mkdir "$folder/submit"
ln -s "$root/launch" "$folder/submit/launch"
export SLURM_SUBMIT_DIR=$folder/submit SLURM_JOB_ID=77 SLURM_JOB_NODELIST='node[1-2]' SLURM_NTASKS_PER_NODE=8 KSA_PAUSE=0
submit() {
  status=0
  output=$(SLURM_RESTART_COUNT=9 bash "$root/launch/slurm.sbatch" "$@" 2>&1) || status=$?
}
# submits CODE...: the same job over and over, its runs with these codes.
submits() {
  local code
  for code in "$@"; do CODE=$code submit c.yaml; done
}
submit c.yaml --set training.max_steps=5
check "a job" 0 "mpirun was given: -np 16" "node2 slots=8" "train c.yaml --set training.max_steps=5" "!requeue"
# Starts within the job: as many as KSA_RESTARTS says without a newer checkpoint, more with one.
CODE=75 submit c.yaml
check "a lost rank: again on the same hosts, then into the queue" 75 "start 2: launch/mpirun.sh" "giving up" "scontrol requeue 77" "!start 3"
CODE=75 KSA_RESTARTS=1 submit c.yaml
check "one start a job, as asked for" 75 "!start 2" "giving up"
CODE=78 submit c.yaml
check "a mistake is started once" 78 "!start 2" "!requeue"
program ksa-in-tree 'if [ "$1" = check ]; then echo "run:"; echo "  dir: my runs/a                # c.yaml:3"; fi'
CODE=75 KSA=$folder/bin/ksa-in-tree submit c.yaml --set training.max_steps=5
[ -s "$folder/submit/my runs/a.supervise.log" ] || { echo "FAILED: no log of the supervisor beside the run"; failures=$((failures + 1)); }
rm -rf "$folder/submit/my runs"
CODE=85 submit c.yaml
check "stopped before the limit" 85 "scontrol requeue 77"
CODE=86 submit c.yaml
check "stopped by a person" 86 "!requeue"
# SLURM's count of restarts, 9 here, has those after 85 in it.
CODE=75 submit c.yaml
check "a rank was lost, after many stops at the limit" 75 "scontrol requeue 77"
submits 75 75
check "a rank was lost, the third time" 75 "scontrol requeue 77"
submits 75
check "lost too often" 75 "!requeue"
for code in 134 137 138 139; do
  submits 85 "$code"
  check "a rank was killed, $code" "$code" "scontrol requeue 77"
done
submits 85 75 137 134 139
check "lost and killed too often" 139 "!requeue"
submits 75 75 75 85 75 75 137
check "failures before a stop do not count" 137 "scontrol requeue 77"
KSA_RETRIES=4 submits 137
check "as often as asked for" 137 "scontrol requeue 77"
KSA_RETRIES=0 submits 85 75
check "never, as asked for" 75 "!requeue"
CODE=78 submit c.yaml
check "a mistake is not tried again" 78 "!requeue"
rm -f "$folder/submit/ksa-77.supervise.log"
[ "$(ls "$folder/submit")" = launch ] || { echo "FAILED: the count of failures stays behind"; failures=$((failures + 1)); }
submit
check "no configuration" 64 "which configuration"

job=(bash "$root/launch/slurm.sbatch" c.yaml)
program mpirun 'trap "kill \$!; exit 85" USR1; sleep 10 & touch "$folder/ready"; wait'
thirty "the exit code of a job after a signal, 30 times" 85 "${job[@]}"
program mpirun 'echo "mpirun was given: $*"'
program scontrol 'case "$1" in show) touch "$folder/ready"; sleep 0.4; echo node1 ;; *) echo "scontrol $*" ;; esac'
once_ready USR1 "${job[@]}"
check "a signal before a job has started anything" 85 "scontrol requeue 77" "!was given"

exit $((failures > 0))
