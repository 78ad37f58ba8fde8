#!/usr/bin/env bash
# launch/slurm.sbatch against a scontrol and a launch/mpirun.sh that only note what they were asked: which exit codes put a
# job into the queue again, and how often.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/bin" "$scratch/launch"
cat >"$scratch/bin/scontrol" <<'EOF'
#!/bin/sh
case "$1" in
  show) echo node1 ;;
  requeue) echo "requeue $2" >>"$SCRATCH/asked" ;;
esac
EOF
# Ends with the next code of the list.
cat >"$scratch/launch/mpirun.sh" <<'EOF'
#!/bin/sh
read -r code <"$SCRATCH/codes"
sed -i 1d "$SCRATCH/codes"
exit "$code"
EOF
chmod +x "$scratch/bin/scontrol" "$scratch/launch/mpirun.sh"
export SCRATCH=$scratch PATH=$scratch/bin:$PATH SLURM_SUBMIT_DIR=$scratch SLURM_JOB_NODELIST=node1 SLURM_NTASKS_PER_NODE=8
failed=0

# job NUMBER EXPECTED CODE...: starts the job until it is not put into the queue again. EXPECTED: how many starts it makes.
job() {
  local number=$1 expected=$2 starts=0
  shift 2
  printf '%s\n' "$@" >"$scratch/codes"
  while [ -s "$scratch/codes" ]; do
    : >"$scratch/asked"
    SLURM_JOB_ID=$number SLURM_RESTART_COUNT=$starts bash "$root/launch/slurm.sbatch" config.yaml >"$scratch/output" 2>&1 || true
    starts=$((starts + 1))
    grep -q "requeue $number" "$scratch/asked" || break
  done
  if [ "$starts" -ne "$expected" ]; then
    echo "FAILED: codes $*: $starts starts instead of $expected" >&2
    failed=1
  fi
  if [ -e "$scratch/ksa-$number.failures" ]; then
    echo "FAILED: codes $*: the count of failures stays behind" >&2
    failed=1
  fi
}

job 1 1 0
job 2 1 78 0
job 3 6 85 85 85 85 85 0
job 4 4 75 75 75 75 0               # three more tries, then it ends
job 5 7 85 85 85 85 75 137 0        # stops by the time limit are no failures
job 6 9 75 75 85 75 75 75 85 139 0  # and after one, failures are counted anew
KSA_RETRIES=1 job 7 2 75 75 0
KSA_RETRIES=0 job 8 1 75 0
exit "$failed"
