#!/usr/bin/env bash
# Ranks that differ, fail alone, die or hang: the job ends within seconds with the exit code of the cause and says which
# rank it was, and no process stays.
source "$(dirname "$0")/lib.sh"
make_corpus
config=$PWD/configs/test/ksa.yaml
ranks=3

# Each rank: notes its process number, and does what is asked of rank 1 alone.
cat >"$work/rank.sh" <<'EOF'
#!/usr/bin/env bash
echo $$ >"$work/pid.$OMPI_COMM_WORLD_RANK"
cd "$work/here"
if [ "$OMPI_COMM_WORLD_RANK" -eq 1 ]; then
  cd "${RANK1_FOLDER:-.}"
  set -- "$@" ${RANK1_ARGUMENTS:-}
  if [ -n "${RANK1_KIB:-}" ]; then ulimit -v "$RANK1_KIB"; fi
fi
exec "$KSA" train "$@"
EOF
chmod +x "$work/rank.sh"
export work KSA

# start RUN [ARGUMENTS...]: data paths are relative, so that rank 1 can be given others. Six samples an update: three ranks.
start() {
  local run=$1
  shift
  rm -f "$work"/pid.*
  mpirun --oversubscribe --bind-to none -np "$ranks" "$work/rank.sh" "$config" --set "run.dir=$work/$run" --set run.device=cpu \
    --set 'data.train=[{path: train}]' --set 'data.validation=[{path: validation}]' --set run.threads=1 \
    --set training.global_batch_size=6 "$@"
}
# running RUN [ARGUMENTS...]: the same in the background, until it has written three steps.
running() {
  start "$@" --set training.max_steps=1000000 --set evaluation.interval=0 --set checkpoint.interval=1000000 \
    >"$work/output" 2>&1 &
  job=$!
  for _ in $(seq 600); do
    [ "$(steps_written "$1")" -ge 3 ] && return 0
    kill -0 "$job" 2>/dev/null || break
    sleep 0.05
  done
  cat "$work/output" >&2
  fail "$1 did not start"
}
alive() {
  grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"
}
# ends CODE SECONDS: the job in the background, with all its ranks.
ends() {
  local code=0 start=$SECONDS rank pid
  wait "$job" || code=$?
  [ "$code" -eq "$1" ] || { cat "$work/output" >&2; fail "exit code $code instead of $1"; }
  for rank in $(seq 0 $((ranks - 1))); do
    pid=$(cat "$work/pid.$rank")
    while alive "$pid" && [ $((SECONDS - start)) -le "$2" ]; do sleep 0.1; done
    if alive "$pid"; then fail "rank $rank lives on"; fi
  done
  [ $((SECONDS - start)) -le "$2" ] || fail "it took $((SECONDS - start)) s"
}

cp -r "$work/corpus" "$work/here"

# Other configurations, other shards: nothing starts, nothing is written.
RANK1_ARGUMENTS="--set optimizer.lr=2e-3" expect_exit 78 start differs
expect_output "rank 1 on host $(hostname): optimizer.lr is 0.002, 0.001 on rank 0"
head -c 60000 "$work/text.txt" >"$work/other.txt"
expect_exit 0 "$KSA" data tokenize --input "$work/other.txt" --output "$work/other" --tokenizer byte --documents blank-line \
  --validation-fraction 0.1
RANK1_FOLDER=$work/other expect_exit 78 start differs
expect_output "rank 1 on host $(hostname): the fingerprint of the training data is"
[ ! -e "$work/differs" ] || fail "a run that did not start left a folder"

# Numbers of ranks, meshes, GPUs.
expect_exit 78 start mesh --set parallel.tensor=2
expect_output "meshes of 3 ranks (data x context x tensor): 3 x 1 x 1"
[ "$(grep -c 'ksa: parallel' "$work/output")" -eq 1 ] || { cat "$work/output" >&2; fail "several ranks speak"; }
# Tasks of a step of SLURM of which MPI knows nothing; the script of a batch job runs once, whatever its job has.
SLURM_JOB_ID=1 SLURM_NTASKS=4 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 expect_exit 78 "$KSA" train "$config"
expect_output "SLURM_STEP_NUM_TASKS=4 but MPI sees one rank"
SLURM_STEP_NUM_TASKS=4 expect_exit 64 "$KSA" ablate configs/ablate/chunk_size.yaml
SLURM_NTASKS=4 expect_exit 0 "$KSA" train "$config" --dry-run --set run.device=cpu \
  --set "data.train=[{path: $work/here/train}]" --set "data.validation=[{path: $work/here/validation}]"
LD_PRELOAD=$SINGLE_THREAD expect_exit 78 "$KSA" train "$config"
expect_output "this MPI allows no second thread"
KSA_WATCHDOG_SECONDS=soon expect_exit 78 "$KSA" train "$config"
expect_output "KSA_WATCHDOG_SECONDS"

# A shard that is damaged for one rank alone: the others learn of it from their end.
cp -r "$work/here" "$work/damaged"
shard=$(find "$work/damaged/train" -name '*.h5' | head -n 1)
printf '\377\377' | dd of="$shard" bs=1 seek=60000 conv=notrunc status=none
RANK1_FOLDER=$work/damaged expect_exit 65 start damaged --set training.max_steps=400 --set checkpoint.interval=1000
expect_output "rank 1 on host $(hostname): train/"
grep -q "^error: rank 1 on host $(hostname): train/" "$work/damaged/log.txt" || fail "the log lacks what rank 1 said"

# Left out instead: ranks that share sequences must leave out the same.
ranks=2 RANK1_FOLDER=$work/damaged expect_exit 65 start skips --set training.max_steps=400 --set checkpoint.interval=1000 \
  --set training.global_batch_size=4 --set parallel.context=2 --set data.on_corrupt=skip
expect_output "ranks that share these sequences read different ones"

# A run folder that rank 1 looks for elsewhere.
cp -r "$work/here" "$work/elsewhere"
RANK1_FOLDER=$work/elsewhere expect_exit 73 start relative --set run.dir=relative
expect_output "must be one folder that all hosts share"

# No memory, which is no error of ours: the others do not wait for it.
RANK1_KIB=450000 expect_exit 71 start hungry --set model.hidden_size=2048 --set model.intermediate_size=8192
expect_output "rank 1 on host $(hostname): out of memory"

running killed
kill -KILL "$(cat "$work/pid.1")"
ends 137 10

# Stopped, not dead: nothing in MPI would ever notice.
export KSA_WATCHDOG_SECONDS=8
running stopped
kill -STOP "$(cat "$work/pid.1")"
ends 75 30
expect_output "no progress for 8."
expect_output "nothing is heard of rank(s) 1 on $(hostname)"
grep -qE "watchdog: rank [02] on host .*: update [0-9]+, .* in (reduce-scatter|all-reduce|all-gather|host values) '" "$work/output" ||
  { cat "$work/output" >&2; fail "the report does not say where the rank waits"; }
grep -qE "^error: watchdog: rank [02] on host" "$work/stopped/log.txt" || fail "the log lacks the watchdog's report"
