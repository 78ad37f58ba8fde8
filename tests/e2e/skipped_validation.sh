#!/usr/bin/env bash
# A stop saves first: a validation that is due is left out, one that runs ends, and the next start makes it before its
# first update, also when nothing else is left to do. The curve is that of a run that was never stopped, in bits.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
# After every update, and longer than it: whenever a request comes, one validation is left out or cut short.
often=(--set training.max_steps=1000000 --set evaluation.interval=1 --set evaluation.batches=100000
       --set run.threads=1)

# stop_after ROWS [RANKS]: starts the run `stopped` and stops it once it has so many rows more.
stop_after() {
  local wanted=$(($(steps_written stopped) + $1)) ranks=${2:-1} arguments code=0 start=()
  mapfile -t arguments < <(options stopped)
  if [ "$ranks" -gt 1 ]; then start=(mpirun --oversubscribe --bind-to none -np "$ranks"); fi
  ${start[@]+"${start[@]}"} "$KSA" train "$config" "${arguments[@]}" "${often[@]}" >"$work/stopped.log" 2>&1 &
  local pid=$!
  while [ "$(steps_written stopped)" -lt "$wanted" ]; do
    kill -0 "$pid" 2>/dev/null || { cat "$work/stopped.log" >&2; fail "the run ended early"; }
    sleep 0.02
  done
  kill -USR1 "$pid"
  wait "$pid" || code=$?
  [ "$code" -eq 85 ] || { cat "$work/stopped.log" >&2; fail "exit code $code instead of 85"; }
  tail -n 1 "$work/stopped/metrics.jsonl" | grep -q '"validation_loss":{}' || fail "the stop waited for a validation"
  step=$(tail -n 1 "$work/stopped/metrics.jsonl" | sed 's/.*"step":\([0-9]*\).*/\1/')
  [ -d "$work/stopped/checkpoints/step_$(printf '%08d' "$step")" ] || fail "the stop saved nothing"
}

stop_after 1
expect_exit 0 train stopped "$config" "${often[@]}" --set training.hard_stop="$step"
expect_output "the validation after update $step, which was left out:"
expect_output "$(printf 'validation %6d/1000000 | validation ' "$step")"
expect_output "the run is complete"
lines=$(steps_written stopped)
expect_exit 0 train stopped "$config" "${often[@]}" --set training.hard_stop="$step"
[ "$(steps_written stopped)" -eq "$lines" ] || fail "a validation that was made was made again"
stop_after 2
stop_after 2  # the one before is made first
expect_exit 0 train stopped "$config" "${often[@]}" --set training.hard_stop=$((step + 1))
train straight "$config" "${often[@]}" --set training.hard_stop=$((step + 1)) >/dev/null
expect_exit 0 "$KSA" compare "$work/straight" "$work/stopped" --assert-equal

# Two ranks end the validation together.
rm -r "$work/stopped"
stop_after 1 2
