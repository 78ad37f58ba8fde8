#!/usr/bin/env bash
# Writes that fail for a while: rows of metrics wait in memory, a save is tried again, and nothing is missing in the end.
# The limit on the size of files stands for a full disk: it can be set and lifted from outside. It holds for a log that is a
# file, too, so the output goes through a pipe.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
long=(--set training.max_steps=40 --set checkpoint.interval=10 --set logging.interval=1)
train straight "$config" "${long[@]}" >/dev/null

mapfile -t arguments < <(options full)
"$KSA" train "$config" "${arguments[@]}" "${long[@]}" > >(cat >"$work/full.log") 2>&1 &
pid=$!
until [ "$(steps_written full)" -ge 3 ]; do
  kill -0 "$pid" 2>/dev/null || { cat "$work/full.log" >&2; fail "the run ended early"; }
  sleep 0.01
done
prlimit --pid "$pid" --fsize=100:unlimited
until grep -q "could not be saved" "$work/full.log"; do
  kill -0 "$pid" 2>/dev/null || { cat "$work/full.log" >&2; fail "a failed save ended the run"; }
  sleep 0.01
done
prlimit --pid "$pid" --fsize=unlimited:unlimited
wait "$pid" || { cat "$work/full.log" >&2; fail "the run did not survive"; }
grep -q "metrics.jsonl: cannot be written: File too large; what is to be written waits in memory" "$work/full.log" || fail "no warning"
grep -q "metrics.jsonl: written again, nothing is missing" "$work/full.log" || fail "no word that rows are written again"
expect_exit 0 "$KSA" compare "$work/straight" "$work/full" --assert-equal
expect_exit 0 "$KSA" ckpt verify "$work/full"

# checkpoint.retries bounds it. The first failure counts where it is 0.
for retries in 0 2; do
  mapfile -t arguments < <(options "gives_up_$retries")
  "$KSA" train "$config" "${arguments[@]}" "${long[@]}" --set checkpoint.retries=$retries > >(cat >"$work/full.log") 2>&1 &
  pid=$!
  until [ "$(steps_written "gives_up_$retries")" -ge 1 ]; do
    kill -0 "$pid" 2>/dev/null || fail "the run ended early"
    sleep 0.01
  done
  prlimit --pid "$pid" --fsize=100:unlimited
  code=0
  wait "$pid" || code=$?
  [ "$code" -eq 74 ] || { cat "$work/full.log" >&2; fail "retries $retries: exit code $code instead of 74"; }
  [ "$(grep -c "could not be saved" "$work/full.log")" -eq "$retries" ] || { cat "$work/full.log" >&2; fail "not $retries warnings"; }
  expect_exit 0 train "gives_up_$retries" "$config" "${long[@]}"
  expect_exit 0 "$KSA" compare "$work/straight" "$work/gives_up_$retries" --assert-equal
done
