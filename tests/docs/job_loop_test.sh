#!/usr/bin/env bash
# The loop that docs/exit-codes.md offers for job scripts, with an mpirun that returns one exit code after the other: what
# a scheduler or a lost rank stopped goes on, what a person stopped does not.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
awk '/^```/ { inside = !inside; if (!inside && found) exit; next } inside && /^until mpirun/ { found = 1 } inside && found' \
  "$root/docs/exit-codes.md" >"$folder/loop.sh"
grep -q '^done' "$folder/loop.sh" || { echo "FAILED: docs/exit-codes.md has no loop"; exit 1; }
mkdir "$folder/bin"
cat >"$folder/bin/mpirun" <<'PROGRAM'
#!/bin/bash
code=$(sed -n "$(($(cat "$folder/starts") + 1))p" "$folder/codes")
echo $(($(cat "$folder/starts") + 1)) >"$folder/starts"
exit "$code"
PROGRAM
chmod +x "$folder/bin/mpirun"
export folder PATH=$folder/bin:$PATH
failures=0

# ends CODE STARTS CODES...: the loop's own exit code, and how often it started, when runs end with these codes.
ends() {
  local wanted=$1 starts=$2 status=0
  shift 2
  printf '%s\n' "$@" >"$folder/codes"
  echo 0 >"$folder/starts"
  timeout 20 bash "$folder/loop.sh" || status=$?
  if [ "$status" -eq "$wanted" ] && [ "$(cat "$folder/starts")" -eq "$starts" ]; then echo "ok: $*"; return; fi
  echo "FAILED: $*: ended with $status after $(cat "$folder/starts") starts, not $wanted after $starts"
  failures=$((failures + 1))
}

ends 0 1 0
ends 0 3 85 85 0
ends 0 3 85 75 0
ends 86 1 86 0
ends 86 3 85 75 86 0
ends 70 2 85 70 0
ends 78 1 78 0
exit $((failures > 0))
