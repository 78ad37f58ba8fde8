#!/usr/bin/env bash
# Using a GPU: what a run logs, traces and leaves, evaluating and generating on both devices, and a run that does not fit.
device=cuda
source "$(dirname "$0")/lib.sh"
need_gpu
make_corpus
config=configs/test/documents.yaml

# Too large: the table of memory before any update, and nothing written.
expect_exit 71 train large "$config" --set model.hidden_size=16384 --set model.head_dim=128 \
  --set model.intermediate_size=65536 --set model.num_hidden_layers=48
expect_output "activations and scratch"
expect_output "training.micro_batch_size"
! grep -q "^.*step .*loss" "$work/output" || fail "an update ran"
[ ! -e "$work/large" ] || fail "a run that does not fit wrote something"

expect_exit 0 train dry "$config" --dry-run
[ ! -e "$work/dry" ] || fail "a dry run wrote something"

# The log: planned memory, utilisation and memory of the device. The trace: the host's row and the stream's.
expect_exit 0 train run "$config" --trace "$work/trace.json" --set logging.interval=1
expect_output "device memory, planned"
total=$(nvidia-smi --id=0 --query-gpu=memory.total --format=csv,noheader,nounits)
python3 - "$work" "$total" <<'PYTHON'
import json
import os
import sys

work, total_mib = sys.argv[1], int(sys.argv[2])
lines = [json.loads(line) for line in open(f"{work}/run/metrics.jsonl")]
assert len(lines) == 20, len(lines)
for line in lines:
    assert 0 < line["memory"] < total_mib * 2**20, line
    assert "mfu" in line, line
# The device's memory grows no more after the first update.
assert len({line["memory"] for line in lines}) == 1, [line["memory"] for line in lines]

events = json.load(open(f"{work}/trace.json"))["traceEvents"]
rows = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
slices = {row: [e["name"] for e in events if e["ph"] == "X" and e["tid"] == row] for row in rows}
by_name = {name: slices[row] for row, name in rows.items()}
assert set(by_name) == {"host", "device stream 1"}, set(by_name)
assert sorted(by_name["host"]) == sorted(by_name["device stream 1"]), "an operation is in one row alone"
assert len(by_name["host"]) > 50, by_name["host"]
assert all(e["dur"] >= 0 for e in events if e["ph"] == "X")
print(len(by_name["host"]), "operations in the trace")
PYTHON
grep -Eq 'mfu [0-9.]+% .* mem [0-9.]+/[0-9.]+ GiB|mfu n/a .* mem [0-9.]+/[0-9.]+ GiB' "$work/run/log.txt" ||
  fail "the log has no mfu and memory"

expect_exit 0 "$KSA" ckpt verify "$work/run"
for where in cuda cpu; do
  expect_exit 0 "$KSA" eval "$work/run" --data "$work/corpus/validation" --device "$where" --json "$work/$where.json"
  expect_output "nats a token"
  cp "$work/output" "$work/eval_$where"
  texts "$work/text_$where" "$work/run" --prompt "The run" --max-tokens 30 --seed 3 --device "$where"
done
texts "$work/again" "$work/run" --prompt "The run" --max-tokens 30 --seed 3 --device cuda
cmp "$work/text_cuda" "$work/again" || fail "the same seed gave another text"
python3 - "$work/eval_cuda" "$work/eval_cpu" <<'PYTHON'
import re
import sys

# Both compute in bf16, which rounds to 8 bits; a loss is a mean over thousands of tokens.
losses = [float(re.search(r"([0-9.]+) nats a token", open(path).read()).group(1)) for path in sys.argv[1:]]
print("evaluated:", losses)
sys.exit(abs(losses[0] - losses[1]) > 0.005 * losses[1])
PYTHON
