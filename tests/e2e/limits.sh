#!/usr/bin/env bash
# Little address space, few processes: a command works or ends with 71 and says what is short; none hangs or dies.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
mapfile -t arguments < <(options run)
export KSA_WATCHDOG_SECONDS=0

# limited KIB COMMAND...: the exit code. A hang is 137.
limited() {
  local kib=$1 code=0
  shift
  (ulimit -v "$kib" && exec timeout -s KILL 100 "$@") >"$work/output" 2>&1 || code=$?
  echo "$code"
}

refused=0
trained=0
for kib in 150000 200000 250000 300000 400000 500000 600000 800000 4000000; do
  for command in "check $config" "data verify $work/corpus/train"; do
    # shellcheck disable=SC2086
    code=$(limited "$kib" "$KSA" $command)
    [ "$code" -eq 0 ] || { cat "$work/output" >&2; fail "$command in $kib KiB: $code"; }
  done
  code=$(limited "$kib" "$KSA" train "$config" "${arguments[@]}" --dry-run)
  case "$code" in
    0) trained=$((trained + 1)) ;;
    71)
      refused=$((refused + 1))
      grep -qE 'out of memory|cannot start' "$work/output" || { cat "$work/output" >&2; fail "$kib KiB: 71 without a word"; }
      ;;
    *) cat "$work/output" >&2; fail "train in $kib KiB: $code" ;;
  esac
done
[ "$refused" -ge 1 ] && [ "$trained" -ge 1 ] || fail "$refused sizes refused, $trained enough: the test's range is off"

expect_exit 78 "$KSA" check "$config" --set run.threads=100000
expect_output "run.threads: must be at most 1024"
