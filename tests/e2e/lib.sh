# Shared by the end-to-end tests: a folder that is removed at the end, a small corpus of real text, and checks.
# KSA: the program. Sourced; the working directory is the source root. Runs compute on $device.
set -euo pipefail
export device=${device:-cpu}
: "${KSA:?the path of the ksa program}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# expect_exit CODE COMMAND...: the command's output goes to $work/output.
expect_exit() {
  local wanted=$1 code=0
  shift
  "$@" >"$work/output" 2>&1 || code=$?
  if [ "$code" -ne "$wanted" ]; then
    cat "$work/output" >&2
    fail "exit code $code instead of $wanted: $*"
  fi
}

# expect_output TEXT: in the output of the last expect_exit.
expect_output() {
  grep -qF -- "$1" "$work/output" || { cat "$work/output" >&2; fail "the output lacks: $1"; }
}

# texts FILE ARGUMENTS...: what `ksa generate` prints goes to FILE, what it says about it (speed) to $work/said.
texts() {
  local file=$1
  shift
  "$KSA" generate "$@" >"$file" 2>"$work/said" || { cat "$work/said" >&2; fail "ksa generate $*"; }
}

# need_gpu: ends the test as skipped (77) where there is no GPU.
need_gpu() {
  if ! nvidia-smi --list-gpus 2>/dev/null | grep -q '^GPU '; then
    echo "SKIPPED: no GPU here (nvidia-smi --list-gpus names none)"
    exit 77
  fi
}

# gpu_count: GPUs that a program sees here.
gpu_count() {
  if [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then
    awk -F, '{ print NF }' <<<"$CUDA_VISIBLE_DEVICES"
  else
    nvidia-smi --list-gpus | grep -c '^GPU '
  fi
}

# make_corpus: the project's own pages as $work/corpus/{train,validation}.
make_corpus() {
  find docs README.md CONTRIBUTING.md -name '*.md' | sort | xargs cat >"$work/text.txt"
  expect_exit 0 "$KSA" data tokenize --input "$work/text.txt" --output "$work/corpus" --tokenizer byte \
    --documents blank-line --validation-fraction 0.1
}

# options RUN: where a run of a configuration of configs/test computes, reads and writes.
options() {
  printf -- '--set\n%s\n' "run.dir=$work/$1" "run.device=$device" "data.train=[{path: $work/corpus/train}]" \
    "data.validation=[{path: $work/corpus/validation}]"
}

# train RUN CONFIG [ARGUMENTS...]
train() {
  local run=$1 config=$2 arguments
  shift 2
  mapfile -t arguments < <(options "$run")
  "$KSA" train "$config" "${arguments[@]}" "$@"
}

# train_ranks N RUN CONFIG [ARGUMENTS...]
train_ranks() {
  local ranks=$1 run=$2 config=$3 arguments
  shift 3
  mapfile -t arguments < <(options "$run")
  mpirun --oversubscribe --bind-to none -np "$ranks" "$KSA" train "$config" "${arguments[@]}" --set run.threads=1 "$@"
}

# same_metrics ONE OTHER: folders of runs on different layouts in fp32. Gradient norms to 1e-5, which is what the contract
# allows another order of additions; losses to 1e-6.
same_metrics() {
  expect_exit 0 "$KSA" compare "$1" "$2" --rtol 1e-5
  awk '$1 ~ /loss/ && $NF > 1e-6 { exit 1 }' "$work/output" || { cat "$work/output" >&2; fail "losses differ by more than 1e-6"; }
}

# steps_written RUN: lines of its metrics.
steps_written() {
  [ -f "$work/$1/metrics.jsonl" ] && wc -l <"$work/$1/metrics.jsonl" || echo 0
}

# kill_after LINES RUN COMMAND...: kills the command's process group with SIGKILL once the run has written so many steps.
kill_after() {
  local lines=$1 run=$2
  shift 2
  setsid "$@" >"$work/killed.log" 2>&1 &
  local pid=$!
  for _ in $(seq 600); do
    [ "$(steps_written "$run")" -ge "$lines" ] && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  # Rank 0 itself, too: the ranks of a killed mpirun live on for a moment, long enough to finish a short run.
  local holder
  holder=$(cut -d' ' -f2 "$work/$run/lock") || true
  kill -KILL "$holder" 2>/dev/null || true
  kill -KILL -- "-$pid" 2>/dev/null || { cat "$work/killed.log" >&2; fail "the run ended before it could be killed"; }
  wait "$pid" 2>/dev/null || true
  # The trainers die a moment later (the ranks of a killed mpirun, within two seconds); those that nobody reaps stay as
  # zombies and must not count.
  for _ in $(seq 100); do
    grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$holder/status" || return 0
    sleep 0.1
  done
  fail "process $holder outlived its run"
}
