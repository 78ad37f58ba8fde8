#!/usr/bin/env bash
# Continual pretraining in three stages, by the shipped small configurations with fewer updates: each starts from the
# run before, only what should learn does, and the losses go where they should.
source "$(dirname "$0")/lib.sh"
make_corpus
short=(--set training.global_batch_size=4 --set evaluation.interval=0 --set logging.interval=1 --set run.threads=1)
stage() { # NAME UPDATES [ARGUMENTS...]
  local name=$1 updates=$2
  shift 2
  expect_exit 0 train "$name" "configs/continual/small_$name.yaml" --set "training.max_steps=$updates" \
    --set "checkpoint.interval=$updates" "${short[@]}" "$@"
}
# metric RUN STEP KEY: of metrics.jsonl; KEY as loss_terms.kl.
metric() {
  python3 - "$work/$1/metrics.jsonl" "$2" "$3" <<'PY'
import functools, json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
row = rows[int(sys.argv[2])]
print(functools.reduce(lambda value, key: value[key], sys.argv[3].split("."), row))
PY
}
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }' || fail "$3: $1 is not less than $2"; }

stage base 60
stage adapt 40 --set "checkpoint.load=$work/base"
expect_output "made model.layers.0.self_attn.q_proj_summary.weight: copied from model.layers.0.self_attn.q_proj.weight"
less "$(metric adapt -1 loss_terms.kl)" "$(metric adapt 0 loss_terms.kl)" "the divergence from the teacher"
less "$(metric adapt -1 loss_terms.attention)" "$(metric adapt 0 loss_terms.attention)" "the attention term"
python3 - "$work/adapt/metrics.jsonl" <<'PY'
import json, math, sys
for line in open(sys.argv[1]):
    row = json.loads(line)
    terms = row["loss_terms"]
    assert set(terms) == {"lm", "kl", "attention"}, terms
    assert math.isclose(row["loss"], terms["lm"] + 5 * terms["kl"] + 5 * terms["attention"], rel_tol=1e-6), row
    assert math.isfinite(row["max_logit"]) and math.isfinite(row["max_attention_lse"])
PY
# Only what summaries have for themselves was trained; moments of nothing else were kept.
expect_exit 2 "$KSA" ckpt diff "$work/base" "$work/adapt"
expect_output "summary_embedding.weight"
python3 - "$work"/adapt/checkpoints/step_00000040/manifest.json <<'PY'
import json, sys
names = [tensor["name"] for tensor in json.load(open(sys.argv[1]))["tensors"]]
moments = [name for name in names if name.startswith("exp_avg/")]
assert moments and all("summary" in name for name in moments), moments
assert "weights/model.embed_tokens.weight" in names
PY
expect_exit 0 "$KSA" ckpt export-hf "$work/base" "$work/base.hf" --layout qwen3 --dtype fp32
expect_exit 0 "$KSA" ckpt verify "$work/adapt"
python3 - "$work/base.hf/model.safetensors" "$work/adapt" "$KSA" "$work" <<'PY'
import json, struct, subprocess, sys
def tensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__")
    return {name: data[slice(*entry["data_offsets"])] for name, entry in header.items()}
subprocess.run([sys.argv[3], "ckpt", "export-hf", sys.argv[2], sys.argv[4] + "/adapt.hf", "--dtype", "fp32"],
               check=True, stdout=subprocess.DEVNULL)
base, adapted = tensors(sys.argv[1]), tensors(sys.argv[4] + "/adapt.hf/model.safetensors")
assert all(adapted[name] == value for name, value in base.items()), "a frozen parameter changed"
PY

# A kill and a resume change nothing, nor does it matter who writes the checkpoints; what learns cannot be changed on the
# way.
expect_exit 0 train half configs/continual/small_adapt.yaml --set training.max_steps=40 --set checkpoint.interval=40 \
  "${short[@]}" --set "checkpoint.load=$work/base" --set training.hard_stop=17 --set checkpoint.async=true
expect_exit 78 train half configs/continual/small_adapt.yaml --set training.max_steps=40 --set checkpoint.interval=40 \
  "${short[@]}" --set "checkpoint.load=$work/base" --set training.trainable=all
expect_output "training.trainable"
expect_exit 0 train half configs/continual/small_adapt.yaml --set training.max_steps=40 --set checkpoint.interval=40 \
  "${short[@]}" --set "checkpoint.load=$work/base" --set checkpoint.async=true
expect_exit 0 "$KSA" compare "$work/adapt" "$work/half" --assert-equal
expect_exit 0 "$KSA" ckpt diff "$work/adapt" "$work/half"

# On ranks, and with recompute: the same numbers.
expect_exit 0 train_ranks 2 ranks configs/continual/small_adapt.yaml --set training.max_steps=40 --set checkpoint.interval=40 \
  --set training.hard_stop=3 "${short[@]}" --set "checkpoint.load=$work/base" \
  --set parallel.context=2 --set training.recompute=block
expect_exit 0 train one configs/continual/small_adapt.yaml --set training.max_steps=40 --set checkpoint.interval=40 \
  --set training.hard_stop=3 "${short[@]}" --set "checkpoint.load=$work/base"
same_metrics "$work/one" "$work/ranks"

stage anneal 40 --set "checkpoint.load=$work/adapt" --set 'model.attention.ksa.anneal={start_step: 5, end_step: 30}'
expect_exit 78 train early configs/continual/small_extend.yaml --set "checkpoint.load=$work/adapt" \
  --set training.max_steps=2 "${short[@]}"
expect_output "q_proj_summary.weight: not in the model"
stage extend 6 --set "checkpoint.load=$work/anneal"
expect_output "q_proj_summary.weight (annealed: it has no part any more)"
expect_exit 0 "$KSA" eval "$work/extend" --data "$work/corpus/validation"
echo "three stages: done"
