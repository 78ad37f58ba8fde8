#!/usr/bin/env bash
# Cells of a sweep side by side: their results, their files, a stop of all, memory planned first; and `select`.
source "$(dirname "$0")/lib.sh"
make_corpus
sweep_in() {
  cat >"$work/sweep.yaml" <<YAML
name: small
dir: $work/$1
base: configs/test/ksa.yaml
zip:
  - {model.attention.ksa.chunk_size: 2, model.attention.ksa.window_chunks: 4}
  - {model.attention.ksa.chunk_size: 4, model.attention.ksa.window_chunks: 2}
variants:
  full: {model.attention.pattern: [full]}
YAML
}
data=(--set "data.train=[{path: $work/corpus/train}]" --set "data.validation=[{path: $work/corpus/validation}]"
      --set run.device=cpu)
# rows TABLE PATTERN N: so many lines of a table have it.
rows() { [ "$(grep -c -- "$2" "$1")" -eq "$3" ] || { cat "$1" >&2; fail "$1 has not $3 rows with $2"; }; }
sweep=("$KSA" ablate "$work/sweep.yaml" "${data[@]}")

# Cells side by side: the same results, a file of each cell's words, plain lines in a pipe.
sweep_in jobs
expect_exit 0 "${sweep[@]}" --jobs 2
expect_output "cell 2/3: chunk_size=4,window_chunks=2: started"
expect_output "cell 3/3: full: done after"
! grep -q $'\x1b' "$work/output" || fail "a pipe got what moves a terminal's cursor"
rows "$work/jobs/table.csv" ',done,' 3
for cell in "$work"/jobs/*/; do
  [ -s "$cell/console.txt" ] || fail "$cell has no console.txt"
  grep -q 'threads: [0-9]' "$cell/config.resolved.yaml" || fail "the cores were not shared out in $cell"
done
# Alone, with as many threads, a cell gives the same bits.
threads=$(grep -oE 'threads: [0-9]+' "$work/jobs/full/config.resolved.yaml")
sweep_in alone
expect_exit 0 "${sweep[@]}" --set "run.threads=${threads#threads: }"
for cell in full chunk_size=2,window_chunks=4; do
  expect_exit 0 "$KSA" compare "$work/jobs/$cell" "$work/alone/$cell" --assert-equal
done

# A stop reaches all that run; the same line goes on.
sweep_in stopped
"${sweep[@]}" --set training.max_steps=4000 --jobs 2 >"$work/stopped.log" 2>&1 &
pid=$!
running() { [ "$(ls "$work"/stopped/*/metrics.jsonl 2>/dev/null | wc -l)" -ge 2 ]; }
until running; do
  kill -0 "$pid" 2>/dev/null || { cat "$work/stopped.log" >&2; fail "the sweep ended early"; }
  sleep 0.02
done
kill -HUP "$pid"  # (bash starts what runs behind a script with SIGINT ignored)
code=0
wait "$pid" || code=$?
[ "$code" -eq 86 ] || { cat "$work/stopped.log" >&2; fail "a stopped sweep ended with $code instead of 86"; }
rows "$work/stopped/table.csv" ',stopped,' 2
rows "$work/stopped/table.csv" '^full,not run,' 1

# Beyond the memory of this machine: planned before anything starts.
expect_exit 71 "${sweep[@]}" --jobs 2 --set training.global_batch_size=262144 --set training.micro_batch_size=262144
expect_output "so many cells do not fit side by side, 0 do"
expect_exit 64 "${sweep[@]}" --jobs 2 --launcher "mpirun -np 2"
expect_exit 64 "${sweep[@]}" --gpus 0,0
expect_exit 64 "${sweep[@]}" --gpus 0 --set run.device=cpu

# Of two learning rates the one that is better for the first seed; the second seed runs for it alone.
cat >"$work/select.yaml" <<YAML
name: select
dir: $work/select
base: configs/test/ksa.yaml
axes: {run.seed: [1, 2], optimizer.lr: [1e-9, 5e-3]}
mean_over: [run.seed]
select: {over: [optimizer.lr], by: validation_loss, seed: 1}
YAML
chosen=("$KSA" ablate "$work/select.yaml" "${data[@]}" --set evaluation.interval=20)
expect_exit 0 "$KSA" check "$work/select.yaml" --set "data.validation=[{path: $work/corpus/validation}]" \
  --set evaluation.interval=20 --no-data
expect_exit 0 "${chosen[@]}"
expect_output "the best by validation_loss is kept (chosen by run.seed 1)"
[ ! -e "$work/select/seed=2,lr=1e-9" ] || fail "the other seed ran for a rate that was not chosen"
rows "$work/select/table.csv" '^"seed=2,lr=1e-9",not chosen,' 1
rows "$work/select/table.csv" ',done,best,' 2
expect_exit 0 "${chosen[@]}"
expect_output "already done"
expect_exit 78 "${chosen[@]}" --set evaluation.interval=0
expect_output "select.by: validation_loss is not measured"
