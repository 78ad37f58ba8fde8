#!/usr/bin/env bash
# lm-evaluation-harness on an exported model against `ksa eval`: the mean loss of the same text, to 1e-4 nats a byte. By
# hand: it needs a Python with torch, transformers and lm-eval (PYTHON), and the program (BUILD, a build folder).
#   PYTHON=venv/bin/python BUILD=build/release bash tests/interop/lm_eval.sh RUN
# RUN: a run or checkpoint of a model of bytes with sequences of LENGTH (256) tokens.
set -euo pipefail
: "${PYTHON:?a Python with torch, transformers and lm-eval}" "${1:?a run}"
export KSA=$(realpath "${BUILD:-build/release}")/trainer/ksa
run=$1
length=${LENGTH:-256}
source tests/e2e/lib.sh

# One text without spaces where samples begin, of a whole number of samples, as shards and as the task's documents.
"$PYTHON" tests/interop/lm_eval_text.py "$work" "$length" "${SAMPLES:-24}"
expect_exit 0 "$KSA" data tokenize --input "$work/text.txt" --output "$work/shards" --tokenizer byte --documents file
expect_exit 0 "$KSA" eval "$run" --data "$work/shards" --json "$work/eval.json"
cat "$work/output"
expect_exit 0 "$KSA" ckpt export-hf "$run" "$work/model" --dtype fp32
HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME=$work/hf "$PYTHON" -m lm_eval --model hf \
  --model_args "pretrained=$work/model,trust_remote_code=True,dtype=float32" --include_path "$work/task" \
  --tasks ksa_held_out --device cpu --batch_size 3 --output_path "$work/lm_eval"
"$PYTHON" - "$work" <<'PY'
import glob, json, math, sys
ours = json.load(open(sys.argv[1] + "/eval.json"))
results = json.load(open(sorted(glob.glob(sys.argv[1] + "/lm_eval/**/results*.json", recursive=True))[-1]))
theirs = math.log(results["results"]["ksa_held_out"]["byte_perplexity,none"])
loss = ours["loss"] if "loss" in ours else ours["sources"][0]["loss"]
print(f"ksa eval {loss:.6f}, lm-evaluation-harness {theirs:.6f} nats a byte, difference {abs(loss - theirs):.1e}")
sys.exit(0 if abs(loss - theirs) < 1e-4 else 1)
PY
