#!/usr/bin/env bash
# Many starts at once in one folder, new and with the lock of a killed run, with flock(2) and without: one trains, the
# others are told who does.
source "$(dirname "$0")/lib.sh"
make_corpus
starts=4
pids=()
trap 'kill -KILL ${pids[@]+"${pids[@]}"} 2>/dev/null || true; rm -rf "$work"' EXIT

# begin RUN: that many starts at once, which train until they are stopped; their numbers in `pids`.
begin() {
  local i arguments
  mapfile -t arguments < <(options "$1")
  pids=()
  for i in $(seq "$starts"); do
    "$KSA" train configs/test/ksa.yaml "${arguments[@]}" --set training.max_steps=1000000 --set evaluation.interval=0 \
      --set run.threads=1 --set checkpoint.interval=1000000 >"$work/start.$i" 2>&1 &
    pids+=($!)
  done
}

# one_trains: waits until all but one were refused; its number in `winner`.
one_trains() {
  local i pid code alive=0
  for _ in $(seq 1200); do
    alive=0
    for pid in "${pids[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then alive=$((alive + 1)) winner=$pid; fi
    done
    [ "$alive" -gt 1 ] || break
    sleep 0.1
  done
  [ "$alive" -eq 1 ] || { cat "$work"/start.* >&2; fail "$alive of $starts starts train"; }
  for i in $(seq "$starts"); do
    pid=${pids[$((i - 1))]} code=0
    if [ "$pid" -eq "$winner" ]; then continue; fi
    wait "$pid" || code=$?
    if [ "$code" -ne 73 ] || ! grep -q 'is training in this run folder' "$work/start.$i"; then
      cat "$work/start.$i" >&2
      fail "a start that came too late ended with $code"
    fi
  done
}

for preload in '' "$NO_FLOCK"; do
  export LD_PRELOAD=$preload
  run=run${preload:+_no_flock}
  begin "$run"
  one_trains
  [ "$(cut -d' ' -f2 "$work/$run/lock")" -eq "$winner" ] || fail "the lock names another process than the one that trains"
  kill -KILL "$winner"
  wait "$winner" || true
  begin "$run"  # all find the lock of a process that is no more
  one_trains
  touch "$work/$run/STOP"
  code=0
  wait "$winner" || code=$?
  [ "$code" -ge 85 ] && [ "$code" -le 86 ] || fail "it was stopped and ended with $code"
  pids=()
  [ ! -e "$work/$run/lock" ] || fail "the lock of a run that ended stays behind"
done
