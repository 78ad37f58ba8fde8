#!/usr/bin/env bash
# Starts a training again when it ends for a reason that another start mends, and writes what it did beside the run's
# folder, in RUN.supervise.log:
#
#   85             stopped by a limit of its own (run.max_wall_minutes): again, at once. After a signal to this script,
#                  which it passes on, 85 is its own exit code: whoever sent it starts the run again
#   75, > 128      a hang, a lost peer, or a process that a signal killed: again, after a pause that doubles from failure
#                  to failure. A failure counts only where the run has no newer checkpoint than at its start; after
#                  --failures of them in a row the script gives up with the command's code
#   anything else  done, stopped by a person (86), or a fault that another start does not mend: the script ends with it
set -euo pipefail

usage() {
  cat <<'EOF2'
usage: launch/supervise.sh --run DIR [OPTIONS] [--] COMMAND [ARGUMENTS...]
  --run DIR          the run's folder (run.dir), whose checkpoints show whether a start got anywhere
  --failures N       give up after N failures in a row without a new checkpoint (default 3)
  --pause SECONDS    before the first start after a failure; doubles with each further one (default 10)
  --most SECONDS     the longest pause (default 600)
examples:
  launch/supervise.sh --run runs/quickstart ksa train configs/train/quickstart.yaml
  launch/supervise.sh --run runs/big -- launch/mpirun.sh --host-file hosts ksa train big.yaml
EOF2
}

wrong() {
  echo "supervise.sh: $*" >&2
  exit 64
}

run="" failures=3 pause=10 most=600
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    --run | --failures | --pause | --most) [ $# -ge 2 ] || wrong "$1 needs a value" ;;
    -*) usage >&2; wrong "unknown option '$1'" ;;
    *) break ;;
  esac
  case "$1" in
    --run) run=${2%/} ;;
    --failures) failures=$2 ;;
    --pause) pause=$2 ;;
    --most) most=$2 ;;
  esac
  shift 2
done
[ -n "$run" ] || { usage >&2; wrong "--run is missing: the run's folder"; }
[ $# -gt 0 ] || { usage >&2; wrong "no command to start"; }
[[ "$failures" =~ ^[1-9][0-9]{0,5}$ ]] || wrong "--failures wants a number from 1 on, got '$failures'"
[[ "$pause" =~ ^[0-9]{1,6}$ ]] || wrong "--pause wants a number of seconds, got '$pause'"
[[ "$most" =~ ^[0-9]{1,6}$ ]] || wrong "--most wants a number of seconds, got '$most'"

log=$run.supervise.log
mkdir -p "$(dirname "$log")"
: >>"$log" || { echo "supervise.sh: cannot write $log" >&2; exit 73; }

say() {
  local line
  line="$(date '+%Y-%m-%d %H:%M:%S') supervise.sh: $*"
  echo "$line" >&2
  echo "$line" >>"$log" || true  # a full disk does not end a run
}

# The newest checkpoint's name, or nothing.
newest() {
  local name last=""
  for name in "$run"/checkpoints/step_*; do
    [[ "$(basename "$name")" =~ ^step_[0-9]{8}$ ]] && [ -e "$name/manifest.json" ] && last=$(basename "$name")
  done
  echo "$last"
}

child='' stop='' signalled=false
pass_on() {
  stop=$1 signalled=true
  if [ -n "$child" ]; then kill "-$1" "$child" 2>/dev/null || true; fi
}
trap 'pass_on USR1' USR1
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT
trap 'pass_on HUP' HUP

# Waits for the child whatever signals come meanwhile; its code is in $code.
await() {
  while :; do
    signalled=false code=0
    wait "$child" || code=$?
    $signalled || break  # a signal ends `wait` with a code of its own; the next `wait` gives the child's
  done
  child=''
}

in_a_row=0 start=0
while :; do
  start=$((start + 1))
  before=$(newest)
  say "start $start${before:+ from $before}: $*"
  "$@" &
  child=$!
  if [ -n "$stop" ]; then pass_on "$stop"; fi  # it came since the question below
  await
  after=$(newest)
  if [ "$code" -eq 85 ] && [ -z "$stop" ]; then
    if [ "$after" = "$before" ]; then
      in_a_row=$((in_a_row + 1))
      [ "$in_a_row" -lt "$failures" ] ||
        { say "ended with 85 without a newer checkpoint, $in_a_row times in a row: giving up"; exit 85; }
    else
      in_a_row=0
    fi
    say "ended with 85 (${after:-no checkpoint}): starting again"
    continue
  fi
  if [ "$code" -ne 75 ] && [ "$code" -le 128 ]; then
    say "ended with $code${after:+ ($after)}"
    exit "$code"
  fi
  if [ -n "$stop" ]; then
    say "ended with $code after SIG$stop${after:+ ($after)}"
    exit "$code"
  fi
  if [ "$after" != "$before" ]; then in_a_row=0; fi
  in_a_row=$((in_a_row + 1))
  if [ "$after" = "$before" ] && [ "$in_a_row" -ge "$failures" ]; then
    say "failed with $code, $in_a_row times in a row without a newer checkpoint: giving up"
    exit "$code"
  fi
  seconds=$pause
  for ((i = 1; i < in_a_row && seconds < most; ++i)); do seconds=$((2 * seconds)); done
  seconds=$((seconds < most ? seconds : most))
  say "failed with $code (${after:-no checkpoint}): starting again in $seconds s"
  sleep "$seconds" &
  child=$!
  await
  if [ -n "$stop" ]; then
    say "SIG$stop while it waited: no rank runs"
    case "$stop" in INT | HUP) exit 86 ;; *) exit 85 ;; esac
  fi
done
