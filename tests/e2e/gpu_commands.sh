#!/usr/bin/env bash
# Every command that can use a GPU, once, where the other tests with one do not start it: a sweep that goes on where it was,
# comparison, checkpoints, and all benchmarks. Those of several ranks need two GPUs: the last part is skipped (77) on one.
device=cuda
source "$(dirname "$0")/lib.sh"
need_gpu
make_corpus
config=configs/test/ksa.yaml

# sweep DEVICE NAME [ARGUMENTS...]: two cells in $work/NAME.
sweep() {
  local asked=$1 name=$2
  shift 2
  cat >"$work/$name.yaml" <<YAML
name: $name
dir: $work/$name
base: $config
zip:
  - {model.attention.ksa.chunk_size: 2, model.attention.ksa.window_chunks: 4}
  - {model.attention.ksa.chunk_size: 4, model.attention.ksa.window_chunks: 2}
kv_length: 1024
YAML
  expect_exit 0 "$KSA" ablate "$work/$name.yaml" --set "run.device=$asked" \
    --set "data.train=[{path: $work/corpus/train}]" --set "data.validation=[{path: $work/corpus/validation}]" "$@"
  [ "$(grep -c ',done,' "$work/$name/table.csv")" -eq 2 ] || { cat "$work/output" >&2; fail "$name: not every cell is done"; }
}

# Cells are done wherever they ran: a second start skips them.
for asked in cuda auto; do
  sweep "$asked" "sweep_$asked"
  [ "$(grep -l 'device: cuda' "$work/sweep_$asked"/*/config.resolved.yaml | wc -l)" -eq 2 ] || fail "$asked: not on the GPU"
  sweep "$asked" "sweep_$asked"
  [ "$(grep -c 'already done' "$work/output")" -eq 2 ] || { cat "$work/output" >&2; fail "$asked: a cell began again"; }
done

mapfile -t cells < <(find "$work/sweep_cuda" "$work/sweep_auto" -name metrics.jsonl -printf '%h\n' | sort)
expect_exit 0 "$KSA" compare "${cells[0]}" "${cells[2]}" --assert-equal   # the same cell, asked for in two ways
expect_exit 2 "$KSA" compare "${cells[0]}" "${cells[1]}" --assert-equal
for command in ls inspect verify; do
  expect_exit 0 "$KSA" ckpt "$command" "${cells[0]}"
done

expect_exit 0 "$KSA" check "$config" --set run.device=cuda
expect_exit 0 "$KSA" bench attention --device cuda --text-tokens 256 --full-causal 256 --window-chunks 4 --repeat 1
expect_exit 0 "$KSA" bench step --device cuda --model configs/model/tiny.yaml --sequence-length 48 --steps 2 --with-full
expect_exit 0 "$KSA" bench data --input "$work/text.txt" --seconds 0.05
expect_exit 64 "$KSA" bench comm --device cuda
expect_output "mpirun -np 2 ksa bench comm"
if [ "$(gpu_count)" -lt 2 ]; then
  echo "SKIPPED: several ranks need several GPUs, here is one"
  exit 77
fi
ranks=(mpirun --oversubscribe --bind-to none -np 2)
expect_exit 0 "${ranks[@]}" "$KSA" bench comm --device cuda --mib 1 --repeat 1 --calls 2 --json "$work/comm.json"
[ "$(grep -c '"call"' "$work/comm.json")" -eq 5 ] || { cat "$work/comm.json" >&2; fail "not 5 rows"; }
expect_exit 0 "${ranks[@]}" "$KSA" bench context --device cuda --text-tokens 256 --window-chunks 4 --repeat 1
expect_exit 0 "${ranks[@]}" "$KSA" bench step --device cuda --model configs/model/tiny.yaml --sequence-length 48 \
  --steps 2 --context 2
sweep cuda sweep_ranks --launcher "mpirun --oversubscribe --bind-to none -np 2" --set training.micro_batch_size=1
