#!/usr/bin/env bash
# The fault matrix: one fault a row, injected into a small run; the exit code that is promised; then the same command again,
# after which weights, moments and metrics equal those of an undisturbed run in bits. Prints a table.
#
#   KSA=build/release/trainer/ksa tests/fault/matrix.sh [--flips N] [KEY=VALUE...]
#
# --flips (6): flipped bytes a kind of file. KEY=VALUE are configuration values of all runs, checkpoint.async=false say.
# Kills at random moments are kill_storm.sh's; what needs several hosts, launch.two_hosts'.
source "$(dirname "$0")/../e2e/lib.sh"

flips=6
settings=()
while [ $# -gt 0 ]; do
  case "$1" in
    --flips) flips=${2:?"--flips needs a number"}; shift ;;
    *=*) settings+=(--set "$1") ;;
    *) echo "matrix: unknown argument '$1'" >&2; exit 64 ;;
  esac
  shift
done
RANDOM=7
export KSA_WATCHDOG_SECONDS=5 OMP_WAIT_POLICY=passive
make_corpus
config=configs/test/ksa.yaml
common=(--set training.max_steps=40 --set checkpoint.interval=10 --set evaluation.interval=20 --set evaluation.batches=1
        --set checkpoint.keep_last=3 --set run.threads=1 "${settings[@]}")

rows=()
row_failed=0
# row FAULT PROMISED SEEN BITS: one line of the table. "ok" or what is wrong in SEEN and BITS.
row() {
  rows+=("$1|$2|$3|$4")
  printf '%-58s %-34s %-22s %s\n' "$1" "$2" "$3" "$4"
}
bad() {
  row_failed=1
  echo "MATRIX: $*" >&2
  [ ! -f "$work/fault.log" ] || tail -n 20 "$work/fault.log" >&2
}

# begin RANKS RUN [ARGUMENTS...]: in the background; $job is what was started.
begin() {
  local ranks=$1 run=$2 arguments
  shift 2
  mapfile -t arguments < <(options "$run")
  local command=(env --default-signal=INT,HUP,PIPE "$KSA" train "$config" "${arguments[@]}" "${common[@]}" "$@")
  if [ "$ranks" -gt 1 ]; then command=(mpirun --oversubscribe --bind-to none -np "$ranks" "${command[@]}"); fi
  "${command[@]}" >"$work/fault.log" 2>&1 &
  job=$!
}
# until_true COMMAND...: polls while the job lives.
until_true() {
  while ! "$@"; do
    kill -0 "$job" 2>/dev/null || return 1
    sleep 0.01
  done
}
has_steps() { [ "$(steps_written "$1")" -ge "$2" ]; }
in_save() { compgen -G "$work/$1/checkpoints/*.tmp-*" >/dev/null; }
trainers() { pgrep -f "^$KSA train .*run.dir=$work/$1 " || true; }

# finish RUN: the exit code of the job, in $code; no trainer of it is left.
finish() {
  code=0
  { wait "$job"; } 2>/dev/null || code=$?  # the shell would tell of every kill
  local tries
  for ((tries = 0; tries < 200; ++tries)); do
    [ -n "$(trainers "$1")" ] || return 0
    sleep 0.1
  done
  bad "$1: a trainer is left over"
}
# judge FAULT RUN RANKS CODES: the job has ended with one of CODES; goes on and compares.
judge() {
  local fault=$1 run=$2 ranks=$3 codes=$4 seen=ok bits=equal
  finish "$run"
  if [[ " $codes " != *" $code "* ]]; then seen="code $code"; bad "$fault: code $code instead of $codes"; else seen="code $code"; fi
  go_on "$run" "$ranks" || { bits=different; bad "$fault: not equal after going on"; }
  row "$fault" "code ${codes// / or }, then equal bits" "$seen" "$bits"
}
go_on() {
  local run=$1 ranks=$2 reference=straight
  if [ "$ranks" -gt 1 ]; then reference=straight$ranks; fi
  begin "$ranks" "$run"
  finish "$run"
  [ "$code" -eq 0 ] || { bad "$run: going on ended with $code"; return 1; }
  "$KSA" compare "$work/$reference" "$work/$run" --assert-equal >"$work/fault.log" 2>&1 || return 1
  ! in_save "$run" && [ ! -e "$work/$run/lock" ] && "$KSA" ckpt verify "$work/$run" >>"$work/fault.log" 2>&1 || return 1
  rm -rf "${work:?}/$run"
}

begin 1 straight
finish straight
[ "$code" -eq 0 ] || { cat "$work/fault.log" >&2; fail "the undisturbed run"; }
begin 2 straight2
finish straight2
[ "$code" -eq 0 ] || { cat "$work/fault.log" >&2; fail "the undisturbed run on two ranks"; }
printf '%-58s %-34s %-22s %s\n' "fault" "promised" "seen" "bits"

# --- requests, in every part of a run; what has just ended when it comes is done
run=0
for signal in USR1 TERM INT HUP; do
  promised=85
  case "$signal" in INT | HUP) promised=86 ;; esac
  run=$((run + 1)); begin 1 "r$run"; until_true has_steps "r$run" 5; kill "-$signal" "$job"
  judge "SIG$signal in an update" "r$run" 1 "$promised"
done
run=$((run + 1)); begin 1 "r$run"; until_true in_save "r$run" || true; kill -USR1 "$job" 2>/dev/null || true
judge "SIGUSR1 while a checkpoint is written" "r$run" 1 "85 0"
run=$((run + 1)); begin 1 "r$run" --set evaluation.interval=1 --set evaluation.batches=all; until_true has_steps "r$run" 1
kill -USR1 "$job"; finish "r$run"
[ "$code" -eq 85 ] && row "SIGUSR1 while it validates" "code 85, a checkpoint" "code $code" "-" || bad "a stop in a validation: code $code"
[ -d "$work/r$run/checkpoints" ] || bad "a stop in a validation saved nothing"
run=$((run + 1)); begin 1 "r$run"; until_true in_save "r$run" || true
for signal in USR1 TERM KILL; do kill "-$signal" "$job" 2>/dev/null || true; done
judge "USR1, TERM and KILL while a checkpoint is written" "r$run" 1 "137 0"
run=$((run + 1)); begin 2 "r$run"; until_true has_steps "r$run" 5; kill -TERM "$(trainers "r$run" | head -n 1)"
judge "SIGTERM to one rank of two" "r$run" 2 "85"
run=$((run + 1)); begin 2 "r$run"; until_true has_steps "r$run" 5; kill -TERM $(trainers "r$run")
judge "SIGTERM to both ranks" "r$run" 2 "85"
run=$((run + 1)); begin 2 "r$run"; until_true has_steps "r$run" 5; kill -USR1 "$job"
judge "SIGUSR1 to mpirun" "r$run" 2 "85"

# --- deaths and hangs
run=$((run + 1)); begin 1 "r$run"; until_true has_steps "r$run" 15; kill -KILL "$job"
judge "SIGKILL in an update" "r$run" 1 "137"
run=$((run + 1)); begin 1 "r$run"; until_true in_save "r$run" || true; kill -KILL "$job" 2>/dev/null || true
judge "SIGKILL while a checkpoint is written" "r$run" 1 "137 0"
run=$((run + 1)); begin 2 "r$run"; until_true has_steps "r$run" 15; kill -KILL "$(trainers "r$run" | tail -n 1)"
judge "one rank of two killed" "r$run" 2 "137"
run=$((run + 1)); begin 2 "r$run"; until_true has_steps "r$run" 15; kill -SEGV "$(trainers "r$run" | tail -n 1)"
judge "one rank of two ends by SIGSEGV" "r$run" 2 "139"
run=$((run + 1)); begin 2 "r$run"; until_true has_steps "r$run" 15; kill -KILL "$job"
judge "mpirun killed" "r$run" 2 "137"
run=$((run + 1)); begin 2 "r$run"; until_true has_steps "r$run" 5; stopped=$(trainers "r$run" | tail -n 1); kill -STOP "$stopped"
finish_code=0; wait "$job" || finish_code=$?
kill -KILL "$stopped" 2>/dev/null || true
if [ "$finish_code" -eq 75 ]; then seen="code 75"; else seen="code $finish_code"; bad "a stopped rank: code $finish_code"; fi
bits=equal; go_on "r$run" 2 || { bits=different; bad "a stopped rank: not equal after going on"; }
row "one rank of two stands still (watchdog 5 s)" "code 75, then equal bits" "$seen" "$bits"
run=$((run + 1)); begin 1 "r$run"; until_true has_steps "r$run" 5; kill -STOP "$job"; sleep 7; kill -CONT "$job"
judge "the process is suspended for longer than the watchdog" "r$run" 1 "0"

# --- the run folder
run=$((run + 1)); begin 1 "r$run"; until_true has_steps "r$run" 12; rm -rf "$work/r$run/checkpoints"; finish "r$run"
if [ "$code" -eq 0 ]; then seen="code 0"; else seen="code $code"; bad "checkpoints removed: code $code"; fi
bits=equal; go_on "r$run" 1 || { bits=different; bad "checkpoints removed: not equal"; }
row "all checkpoints removed while it runs" "code 0, then equal bits" "$seen" "$bits"
run=$((run + 1)); begin 1 "r$run"; until_true has_steps "r$run" 12; kill -USR1 "$job"; finish "r$run"
rm -rf "$work/r$run/checkpoints"/step_*; begin 1 "r$run"; finish "r$run"
[ "$code" -eq 66 ] && row "all checkpoints gone before it goes on" "code 66, nothing changed" "code $code" "-" || bad "no checkpoints: code $code"
run=$((run + 1)); mkdir "$work/r$run"; begin 1 "r$run" --set run.dir=/proc/run; finish "r$run"
[ "$code" -eq 73 ] && row "a run folder that cannot be made" "code 73" "code $code" "-" || bad "no folder: code $code"
run=$((run + 1)); begin 1 "r$run" --set training.max_steps=1000000 --set checkpoint.interval=1000000; until_true has_steps "r$run" 3
second=0; train "r$run" "$config" "${common[@]}" >/dev/null 2>&1 || second=$?
[ "$second" -eq 73 ] && row "a second start into the folder of one that runs" "code 73" "code $second" "-" || bad "two starts: code $second"
kill -KILL "$job"; finish "r$run"

# --- damage of files
# flip FILE: one bit somewhere in it.
flip() {
  python3 - "$1" "$RANDOM$RANDOM" <<'PY'
import os, random, sys
path, seed = sys.argv[1], int(sys.argv[2])
random.seed(seed)
size = os.path.getsize(path)
with open(path, "r+b") as file:
    at = random.randrange(size)
    file.seek(at)
    byte = file.read(1)[0] ^ (1 << random.randrange(8))
    file.seek(at)
    file.write(bytes([byte]))
PY
}
train base "$config" "${common[@]}" --set training.hard_stop=20 >/dev/null
# damage FAULT FILE COMMAND...: of the newest checkpoint of a run that stands at update 20.
damage() {
  local fault=$1 file=$2 passed=0 found=0 i
  shift 2
  for ((i = 0; i < flips; ++i)); do
    run=$((run + 1)); cp -r "$work/base" "$work/r$run"
    "$@" "$work/r$run/checkpoints/step_00000020/$file"
    local verified=0
    "$KSA" ckpt verify "$work/r$run" >/dev/null 2>&1 || verified=$?
    [ "$verified" -eq 65 ] && found=$((found + 1))
    begin 1 "r$run"; finish "r$run"
    if [ "$code" -eq 0 ] && grep -q "resumed from .*step_00000010" "$work/fault.log" &&
      "$KSA" compare "$work/straight" "$work/r$run" --assert-equal >/dev/null 2>&1; then passed=$((passed + 1)); fi
    rm -rf "${work:?}/r$run"
  done
  [ "$found" -eq "$flips" ] && [ "$passed" -eq "$flips" ] || bad "$fault: $found of $flips found, $passed passed over"
  row "$fault, $flips times" "found, passed over, equal bits" "$found found" "$passed equal"
}
cut_off() { truncate -s $(($(stat -c %s "$1") * RANDOM / 32768)) "$1"; }
damage "a bit of a checkpoint's tensors flipped" rank_00000_of_00001.h5 flip
damage "a bit of a manifest flipped" manifest.json flip
damage "a checkpoint's file cut off" rank_00000_of_00001.h5 cut_off
# Shards: what is not found has no effect. A copy of the corpus each time.
found=0 harmless=0
for ((i = 0; i < flips; ++i)); do
  rm -rf "$work/corpus2"; cp -r "$work/corpus" "$work/corpus2"
  flip "$(find "$work/corpus2/train" -name '*.h5' | head -n 1)"
  run=$((run + 1)); code=0
  train "r$run" "$config" "${common[@]}" --set "data.train=[{path: $work/corpus2/train, name: train}]" >"$work/fault.log" 2>&1 || code=$?
  if [ "$code" -eq 65 ]; then
    found=$((found + 1))
  elif [ "$code" -eq 0 ] && "$KSA" compare "$work/straight" "$work/r$run" --assert-equal >/dev/null 2>&1; then
    harmless=$((harmless + 1))
  fi
  rm -rf "${work:?}/r$run"
done
[ $((found + harmless)) -eq "$flips" ] || bad "flips in shards: $found found and $harmless without effect of $flips"
row "a bit of a shard flipped, $flips times" "code 65, or without effect" "$found found" "$harmless equal"

# --- what a long run must not lose: descriptors, memory, shared memory
run=$((run + 1)); shm=$(ls /dev/shm | wc -l)
begin 1 "r$run" --set checkpoint.interval=1 --set training.max_steps=200 --set evaluation.interval=0
until_true has_steps "r$run" 20; fds=$(ls "/proc/$job/fd" | wc -l); resident=$(awk '/VmRSS/ { print $2 }' "/proc/$job/status")
until_true has_steps "r$run" 180; fds2=$(ls "/proc/$job/fd" | wc -l); resident2=$(awk '/VmRSS/ { print $2 }' "/proc/$job/status")
finish "r$run"
# One file of a save may be open at either moment; 8 MiB are what allocators keep.
if [ "$code" -eq 0 ] && [ $((fds2 - fds)) -le 3 ] && [ $((resident2 - resident)) -le 8192 ] && [ "$(ls /dev/shm | wc -l)" -le "$shm" ]; then
  row "160 checkpoints: descriptors, memory, /dev/shm" "none grows" "+$((fds2 - fds)) fds, +$((resident2 - resident)) KiB" "-"
else
  bad "160 checkpoints: code $code, descriptors $fds to $fds2, memory $resident to $resident2 KiB, /dev/shm $shm to $(ls /dev/shm | wc -l)"
fi
[ "$(wc -l <"$work/fault.log")" -le 800 ] || bad "the output of 200 updates has $(wc -l <"$work/fault.log") lines"

echo "fault matrix: ${#rows[@]} rows"
[ "$row_failed" -eq 0 ] || fail "the rows that MATRIX names above"
