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
"${sweep[@]}" "${slow[@]}" >"$work/stopped.log" 2>&1 &
pid=$!
for _ in $(seq 400); do
  [ -s "$(find "$work/sweep" -name metrics.jsonl 2>/dev/null | head -n 1)" ] 2>/dev/null && break
  sleep 0.02
done
kill -USR1 "$pid"
code=0
wait "$pid" || code=$?
[ "$code" -eq 85 ] || { cat "$work/stopped.log" >&2; fail "a stopped sweep ended with $code instead of 85"; }

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
