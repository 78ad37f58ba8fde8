#!/usr/bin/env bash
# launch/supervise.sh with a command that ends as a list says: which codes start it again, when it gives up, what a
# signal does, and what it writes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
  echo "FAILED: $*" >&2
  [ ! -f "$scratch/said" ] || cat "$scratch/said" >&2
  exit 1
}

# Each call takes the next line of the list "CODE [STEP]": leaves a checkpoint of that step, and ends with the code.
cat >"$scratch/command" <<'EOF2'
#!/usr/bin/env bash
read -r code step < <(head -n 1 "$LIST")
sed -i 1d "$LIST"
echo "called" >>"$CALLS"
if [ -n "$step" ]; then
  mkdir -p "$RUN/checkpoints/$step"
  touch "$RUN/checkpoints/$step/manifest.json"
fi
if [ "$code" = wait ]; then
  trap 'exit 85' USR1
  trap 'exit 143' TERM
  while :; do sleep 0.05; done
fi
exit "$code"
EOF2
chmod +x "$scratch/command"
export LIST=$scratch/list CALLS=$scratch/calls RUN=$scratch/runs/a

# expect CODE CALLS LINE... : what the script ends with, and how often it starts the command, for these lines.
expect() {
  local want=$1 calls=$2 code=0
  shift 2
  rm -rf "$scratch/runs" "$CALLS"
  touch "$CALLS"
  printf '%s\n' "$@" 'no more' >"$LIST"
  launch/supervise.sh --run "$RUN" --failures 3 --pause 0 "$scratch/command" >"$scratch/said" 2>&1 || code=$?
  [ "$code" -eq "$want" ] || fail "$*: ended with $code, expected $want"
  [ "$(wc -l <"$CALLS")" -eq "$calls" ] || fail "$*: started $(wc -l <"$CALLS") times, expected $calls"
}

expect 0 1 0
for code in 1 64 65 66 70 71 73 74 78 86; do expect "$code" 1 "$code"; done
# A limit of its own, each time further.
expect 0 3 '85 step_00000010' '85 step_00000020' 0
expect 85 3 85 85 85
# Failures: three in a row without progress, and as many as come with it.
expect 75 3 75 75 75
expect 137 3 75 139 137
expect 0 6 '75 step_00000010' '137 step_00000020' '139 step_00000030' '75 step_00000040' '75 step_00000050' 0
expect 75 4 75 '75 step_00000010' 75 75
expect 78 2 137 78
# What is no checkpoint is no progress.
expect 75 3 '75 step_00000010.tmp-1' '75 latest' 75

[ "$(grep -c 'starting again' "$RUN.supervise.log")" -eq 2 ] || fail "the log: $(cat "$RUN.supervise.log")"
grep -q 'giving up' "$RUN.supervise.log" || fail "the log does not say that it gave up"

# Pauses double up to the longest.
rm -rf "$scratch/runs"
printf '%s\n' 75 75 75 75 >"$LIST"
launch/supervise.sh --run "$RUN" --failures 4 --pause 1 --most 2 "$scratch/command" >"$scratch/said" 2>&1 || true
[ "$(grep -o 'again in [0-9]* s' "$scratch/said" | tr '\n' ' ')" = 'again in 1 s again in 2 s again in 2 s ' ] ||
  fail "other pauses than 1, 2, 2 seconds"

# signal NAME CODE: to the script while the command runs.
signal() {
  rm -rf "$scratch/runs" "$CALLS"
  touch "$CALLS"
  printf '%s\n' wait 0 >"$LIST"
  launch/supervise.sh --run "$RUN" --pause 0 "$scratch/command" >"$scratch/said" 2>&1 &
  local pid=$! code=0 tries
  for ((tries = 0; tries < 300; ++tries)); do
    [ -s "$CALLS" ] && break
    sleep 0.1
  done
  sleep 0.5  # the command's own trap
  kill "-$1" "$pid"
  wait "$pid" || code=$?
  [ "$code" -eq "$2" ] || fail "SIG$1: ended with $code, expected $2"
  [ "$(wc -l <"$CALLS")" -eq 1 ] || fail "SIG$1: started again"
}
signal USR1 85
signal TERM 143

# A signal in a pause.
rm -rf "$scratch/runs"
printf '%s\n' 75 0 >"$LIST"
launch/supervise.sh --run "$RUN" --pause 100 "$scratch/command" >"$scratch/said" 2>&1 &
pid=$! code=0
for ((tries = 0; tries < 300; ++tries)); do
  grep -q 'again in 100 s' "$scratch/said" && break
  sleep 0.1
done
kill -USR1 "$pid"
wait "$pid" || code=$?
[ "$code" -eq 85 ] || fail "a signal in a pause: ended with $code, expected 85"

# wrong WORDS ARGUMENTS...
wrong() {
  local words=$1 code=0
  shift
  launch/supervise.sh "$@" >"$scratch/said" 2>&1 || code=$?
  [ "$code" -eq 64 ] || fail "$*: ended with $code, expected 64"
  grep -q -- "$words" "$scratch/said" || fail "$*: does not say '$words'"
}
wrong '--run is missing' true
wrong 'no command' --run "$RUN"
wrong "got 'x'" --run "$RUN" --failures x true
wrong "got '-1'" --run "$RUN" --pause -1 true
wrong "unknown option '--x'" --run "$RUN" --x true
wrong 'needs a value' --run
launch/supervise.sh --help | grep -q -- '--failures' || fail "no help"
echo "supervise.sh: as expected"
