#!/usr/bin/env bash
# Requests of people (86) and schedulers (85): signals, files, a limit of time. The update that runs is finished, a
# checkpoint saved, and the next start goes on; nobody is asked twice.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
endless=(--set training.max_steps=1000000 --set checkpoint.interval=1000000 --set evaluation.interval=0)

# begin RUN [ARGUMENTS...]: trains in the background with every signal as at a terminal; a job's shell ignores SIGINT.
begin() {
  local run=$1 arguments
  shift
  mapfile -t arguments < <(options "$run")
  env --default-signal=INT,HUP,PIPE "$KSA" train "$config" "${arguments[@]}" "${endless[@]}" "$@" >"$work/stopped.log" 2>&1 &
  pid=$!
}
# reaches RUN STEPS: waits for so many rows, as long as the run lives.
reaches() {
  while [ "$(steps_written "$1")" -lt "$2" ]; do
    kill -0 "$pid" 2>/dev/null || { cat "$work/stopped.log" >&2; fail "$1 ended before it was asked to"; }
    sleep 0.05
  done
}
# ends CODE TEXT: the run in the background.
ends() {
  local code=0
  wait "$pid" || code=$?
  [ "$code" -eq "$1" ] || { cat "$work/stopped.log" >&2; fail "exit code $code instead of $1 ($2)"; }
  grep -q -- "$2" "$work/stopped.log" || { cat "$work/stopped.log" >&2; fail "the output lacks: $2"; }
}
last_step() { tail -n 1 "$work/$1/metrics.jsonl" | sed 's/.*"step":\([0-9]*\).*/\1/'; }
has_checkpoint() { [ -d "$work/$1/checkpoints/step_$(printf '%08d' "$2")" ] || fail "$1 has no checkpoint of update $2"; }

for asked in USR1:85 TERM:85 INT:86 HUP:86; do
  signal=${asked%:*} code=${asked#*:}
  begin "$signal"
  reaches "$signal" 2
  kill "-$signal" "$pid"
  ends "$code" "stopped after update [0-9]* by SIG$signal; run the same command again"
  has_checkpoint "$signal" "$(last_step "$signal")"
  grep -q "stopped after update" "$work/$signal/log.txt" || fail "$signal: the log does not say why the run ended"
done
expect_exit 0 train HUP "$config" "${endless[@]}" --set "training.hard_stop=$(($(last_step HUP) + 1))"
expect_output "resumed from"

# A file STOP is a person's, and is gone afterwards, also when the run was complete before it came.
begin file
reaches file 2
touch "$work/file/STOP"
ends 86 "by the file $work/file/STOP"
[ ! -e "$work/file/STOP" ] || fail "the STOP file is still there"
touch "$work/file/STOP"
expect_exit 0 train file "$config" "${endless[@]}" --set "training.hard_stop=$(last_step file)"
[ ! -e "$work/file/STOP" ] || fail "a complete run left the STOP file for the next, longer one"

# A second Ctrl-C does not wait for the update, which is a long one. The first must have arrived: pending signals are one.
begin twice --set training.global_batch_size=2048
reaches twice 1
kill -INT "$pid"
until (((0x$(sed -n 's/^ShdPnd:[[:space:]]*//p' "/proc/$pid/status") & 2) == 0)); do :; done
kill -INT "$pid"
code=0
wait "$pid" || code=$?
[ "$code" -eq 130 ] || { cat "$work/stopped.log" >&2; fail "two interrupts: exit code $code instead of 130"; }

# Asked as soon as the program catches the signal, long before its first update: there is nothing to save. The shell that
# becomes the program catches it as well, until it does.
begin early
until [ "$(cat "/proc/$pid/comm")" = "$(basename "$KSA")" ] && caught=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$pid/status") && (((0x$caught >> 9) & 1)); do :; done
kill -USR1 "$pid"
ends 85 "stopped before update 1 by SIGUSR1"
[ ! -d "$work/early/checkpoints" ] || fail "an early request: updates were made"

# nohup: a terminal that goes away asks for nothing.
mapfile -t arguments < <(options nohup)
nohup "$KSA" train "$config" "${arguments[@]}" --set training.max_steps=400 --set logging.interval=1 >"$work/stopped.log" 2>&1 &
pid=$!
reaches nohup 2
kill -HUP "$pid"
ends 0 "done: 400 updates"

# A reader of the output that goes away ends nothing; log.txt is the record.
mapfile -t arguments < <(options pipe)
set +o pipefail
env --default-signal=PIPE "$KSA" train "$config" "${arguments[@]}" --set training.max_steps=40 2>&1 | head -n 1 >/dev/null
[ "${PIPESTATUS[0]}" -eq 0 ] || fail "a closed pipe: exit code ${PIPESTATUS[0]}"
set -o pipefail
grep -q "done: 40 updates" "$work/pipe/log.txt" || fail "a closed pipe: the log is not whole"

# SAVE: a checkpoint now, and on.
begin save
reaches save 2
touch "$work/save/SAVE"
while [ -e "$work/save/SAVE" ]; do
  kill -0 "$pid" || fail "the run ended at SAVE"
  sleep 0.05
done
saved=$(sed 's/step_0*//' "$work/save/checkpoints/latest")
reaches save $((saved + 2))
kill -TERM "$pid"
ends 85 "stopped after update"
[ "$(last_step save)" -gt "$saved" ] || fail "training did not go on after SAVE"

# A limit of time ends the run before it is reached.
start=$SECONDS
mapfile -t arguments < <(options wall)
expect_exit 85 "$KSA" train "$config" "${arguments[@]}" "${endless[@]}" --set run.max_wall_minutes=0.2
expect_output "by run.max_wall_minutes, 0.2"
[ $((SECONDS - start)) -le 13 ] || fail "the run took $((SECONDS - start)) s of 12"

# Through mpirun SIGUSR1 reaches every rank.
mapfile -t arguments < <(options ranks)
mpirun --oversubscribe --bind-to none -np 2 "$KSA" train "$config" "${arguments[@]}" "${endless[@]}" --set run.threads=1 \
  >"$work/stopped.log" 2>&1 &
pid=$!
reaches ranks 2
kill -USR1 "$pid"
ends 85 "stopped after update [0-9]* by SIGUSR1"
has_checkpoint ranks "$(last_step ranks)"
