#!/usr/bin/env bash
# Kills training runs with SIGKILL at random moments and starts them again until they are complete: weights, moments and
# metrics then equal an undisturbed run's in bits, every exit code was expected, and nothing is left over.
#
#   KSA=build/release/trainer/ksa tests/fault/kill_storm.sh [--kills N] [--ranks N] [--seed S] [KEY=VALUE...]
#
# --kills (20) with --ranks (1); of several ranks one rank, mpirun alone, or all are killed in turn. KEY=VALUE are
# configuration values of all runs, checkpoint.async=true say. Prints one line a run and a summary.
source "$(dirname "$0")/../e2e/lib.sh"

kills=20
ranks=1
seed=1
settings=()
while [ $# -gt 0 ]; do
  case "$1" in
    --kills) kills=${2:?"--kills needs a number"}; shift ;;
    --ranks) ranks=${2:?"--ranks needs a number"}; shift ;;
    --seed) seed=${2:?"--seed needs a number"}; shift ;;
    *=*) settings+=(--set "$1") ;;
    *) echo "kill_storm: unknown argument '$1'" >&2; exit 64 ;;
  esac
  shift
done
RANDOM=$seed

make_corpus
config=configs/test/documents.yaml
run_options=(--set training.max_steps=60 --set training.sequence_length=128 --set training.global_batch_size=4
             --set checkpoint.interval=5 --set checkpoint.keep_last=2 --set evaluation.interval=15
             --set evaluation.batches=1 "${settings[@]}")
export KSA work OMP_WAIT_POLICY=passive
export -f train train_ranks options

# start RUN: in the background, in a process group of its own.
start() {
  if [ "$ranks" -eq 1 ]; then
    setsid bash -c 'train "$@"' _ "$1" "$config" "${run_options[@]}" >"$work/$1.log" 2>&1 &
  else
    setsid bash -c 'train_ranks "$@"' _ "$ranks" "$1" "$config" "${run_options[@]}" >"$work/$1.log" 2>&1 &
  fi
  job=$!
}
# trainers RUN: process numbers of its ranks.
trainers() {
  pgrep -f "^$KSA train .*run.dir=$work/$1 " || true
}
# Kills whom the turn says; all are gone when it returns.
strike() {
  local run=$1 turn=$2 pids
  pids=$(trainers "$run")
  if [ "$ranks" -eq 1 ] || [ $((turn % 3)) -eq 2 ]; then
    [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
    kill -KILL -- "-$job" 2>/dev/null || true
  elif [ $((turn % 3)) -eq 1 ]; then
    pkill -KILL -f "^mpirun .*run.dir=$work/$run " 2>/dev/null || true
  else
    pids=$(shuf -n 1 --random-source=<(yes "$RANDOM") <<<"$pids")
    [ -z "$pids" ] || kill -KILL "$pids" 2>/dev/null || true
  fi
  wait "$job" 2>/dev/null || true
  for _ in $(seq 300); do
    [ -n "$(trainers "$run")" ] || return 0
    sleep 0.1
  done
  fail "$run: a rank outlived its job"
}

begin=$EPOCHREALTIME
start straight
wait "$job" || { cat "$work/straight.log" >&2; fail "the undisturbed run"; }
millis=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%d", (b - a) * 1000 }')

done_kills=0 in_save=0 runs=0
while [ "$done_kills" -lt "$kills" ]; do
  runs=$((runs + 1))
  run=run$runs
  struck=0
  while true; do
    start "$run"
    if [ "$struck" -lt 4 ] && [ $((done_kills + struck)) -lt "$kills" ]; then
      sleep "$(awk -v most="$millis" -v r="$RANDOM" 'BEGIN { printf "%.3f", most * r / 32768 / 1000 }')"
      if kill -0 "$job" 2>/dev/null; then
        if compgen -G "$work/$run/checkpoints/*.tmp-*" >/dev/null; then in_save=$((in_save + 1)); fi
        strike "$run" $((done_kills + struck))
        struck=$((struck + 1))
        continue
      fi
    fi
    code=0
    wait "$job" || code=$?
    [ "$code" -eq 0 ] || { cat "$work/$run.log" >&2; fail "$run ended with $code after $struck kills"; }
    break
  done
  done_kills=$((done_kills + struck))
  expect_exit 0 "$KSA" compare "$work/straight" "$work/$run" --assert-equal
  ! compgen -G "$work/$run/checkpoints/*.tmp-*" >/dev/null || fail "$run: left over: $(ls "$work/$run/checkpoints")"
  [ ! -e "$work/$run/lock" ] || fail "$run: its lock is left over"
  echo "$run: $struck kills, equal in bits"
  rm -rf "${work:?}/$run"
done
echo "kill storm: $done_kills kills ($in_save of them in a save) of $runs runs with $ranks rank(s): all equal in bits"
