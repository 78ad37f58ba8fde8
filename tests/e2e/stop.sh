#!/usr/bin/env bash
# SIGUSR1, SIGTERM and a STOP file end a run after its update with a checkpoint and exit code 85; the next start goes on.
# Through mpirun, SIGUSR1 reaches every rank.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
export KSA work
export -f train train_ranks options

# stop_with ACTION RUN COMMAND...
stop_with() {
  local action=$1 run=$2 code=0
  shift 2
  "$@" >"$work/stopped.log" 2>&1 &
  local pid=$!
  for _ in $(seq 400); do
    [ "$(steps_written "$run")" -ge 3 ] && break
    sleep 0.05
  done
  case "$action" in
    STOP) touch "$work/$run/STOP" ;;
    *) kill "-$action" "$pid" ;;
  esac
  wait "$pid" || code=$?
  [ "$code" -eq 85 ] || { cat "$work/stopped.log" >&2; fail "$action: exit code $code instead of 85"; }
  grep -q "stopped after update [0-9]* by .*$action" "$work/stopped.log" || { cat "$work/stopped.log" >&2; fail "no reason"; }
  [ ! -e "$work/$run/STOP" ] || fail "the STOP file is still there"
}

mapfile -t arguments < <(options usr1)
stop_with USR1 usr1 "$KSA" train "$config" "${arguments[@]}" --set training.max_steps=100000
mapfile -t arguments < <(options term)
stop_with TERM term "$KSA" train "$config" "${arguments[@]}" --set training.max_steps=100000
mapfile -t arguments < <(options file)
stop_with STOP file "$KSA" train "$config" "${arguments[@]}" --set training.max_steps=100000
expect_exit 0 train file "$config" --set training.max_steps=100000 --set "training.hard_stop=$(($(steps_written file) + 2))"
expect_output "resumed from"

# Asked as soon as the program catches the signal, long before its first update.
mapfile -t arguments < <(options early)
"$KSA" train "$config" "${arguments[@]}" --set training.max_steps=100000 >"$work/stopped.log" 2>&1 &
pid=$!
until caught=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$pid/status") && (((0x$caught >> 9) & 1)); do :; done
[ "$(steps_written early)" -eq 0 ] || fail "the signal is caught from the first update on only"
kill -USR1 "$pid"
code=0
wait "$pid" || code=$?
[ "$code" -eq 85 ] || { cat "$work/stopped.log" >&2; fail "an early request: exit code $code instead of 85"; }
[ "$(steps_written early)" -eq 1 ] || fail "an early request: $(steps_written early) updates instead of one"

mapfile -t arguments < <(options ranks)
stop_with USR1 ranks mpirun --oversubscribe --bind-to none -np 2 "$KSA" train "$config" "${arguments[@]}" \
  --set run.threads=1 --set training.max_steps=100000
[ -f "$work/ranks/checkpoints/latest" ] || fail "the stopped run left no checkpoint"
