#!/usr/bin/env bash
# A sweep: every cell runs, a stopped sweep goes on where it was, done cells are skipped, and the table is complete.
source "$(dirname "$0")/lib.sh"
make_corpus
cat >"$work/sweep.yaml" <<YAML
name: small
dir: $work/sweep
base: configs/test/ksa.yaml
zip:
  - {model.attention.ksa.chunk_size: 2, model.attention.ksa.window_chunks: 4}
  - {model.attention.ksa.chunk_size: 4, model.attention.ksa.window_chunks: 2}
variants:
  full: {model.attention.pattern: [full]}
kv_length: 1024
YAML
sweep=("$KSA" ablate "$work/sweep.yaml" --set "data.train=[{path: $work/corpus/train}]"
       --set "data.validation=[{path: $work/corpus/validation}]")

# Asked to stop while the first cell runs: it keeps its checkpoint, and the rest is left for later.
slow=(--set training.max_steps=400)
rows() { cat "$work"/sweep/*/metrics.jsonl 2>/dev/null | wc -l; }
# stopped CODE COMMAND...: runs the sweep, and the command once a cell has written two rows more.
stopped() {
  local wanted=$1 code=0 rows_wanted=$(($(rows) + 2)) pid
  shift
  "${sweep[@]}" "${slow[@]}" >"$work/stopped.log" 2>&1 &
  pid=$!
  while [ "$(rows)" -lt "$rows_wanted" ]; do
    kill -0 "$pid" 2>/dev/null || { cat "$work/stopped.log" >&2; fail "the sweep ended early"; }
    sleep 0.02
  done
  "$@" "$pid"
  wait "$pid" || code=$?
  [ "$code" -eq "$wanted" ] || { cat "$work/stopped.log" >&2; fail "a stopped sweep ended with $code instead of $wanted"; }
}
stopped 85 kill -USR1
touch_stop() { touch "$work/sweep/STOP"; }
stopped 86 touch_stop
[ ! -e "$work/sweep/STOP" ] || fail "the sweep left its STOP file"
stop_cell() { touch "$(dirname "$(ls -t "$work"/sweep/*/lock | head -n 1)")/STOP"; }
stopped 86 stop_cell  # a person stopped the cell itself

expect_exit 0 "${sweep[@]}" "${slow[@]}"
expect_output "resumed from"
[ "$(grep -c ',done,' "$work/sweep/table.csv")" -eq 3 ] || { cat "$work/sweep/table.csv" >&2; fail "not every cell is done"; }
cp "$work/sweep/table.csv" "$work/first.csv"
lines=$(cat "$work"/sweep/*/metrics.jsonl | wc -l)
expect_exit 0 "${sweep[@]}" "${slow[@]}"
[ "$(cat "$work"/sweep/*/metrics.jsonl | wc -l)" -eq "$lines" ] || fail "a cell that was done ran again"
cmp "$work/first.csv" "$work/sweep/table.csv" || fail "the table changed"
expect_exit 0 "${sweep[@]}" "${slow[@]}" --list
expect_output "3 cells in $work/sweep, 3 done"
rm "$work/sweep/table.csv"
expect_exit 0 "${sweep[@]}" "${slow[@]}" --table
cmp "$work/first.csv" "$work/sweep/table.csv" || fail "--table made another table"
