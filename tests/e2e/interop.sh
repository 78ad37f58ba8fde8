#!/usr/bin/env bash
# Out to a Hugging Face folder and in again, by commands and by configuration; Python only reads JSON.
source "$(dirname "$0")/lib.sh"
make_corpus

expect_exit 0 train full configs/test/full.yaml --set training.max_steps=4 --set schedule.warmup_steps=0 \
  --set schedule.decay_steps=1 --set checkpoint.interval=2 --set checkpoint.export_hf=true
expect_output "exported $work/full/export_hf/step_00000004"
expect_exit 0 "$KSA" ckpt export-hf "$work/full" "$work/hf" --layout qwen3 --dtype fp32
expect_output "in 1 file(s) of F32"
for file in config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json README.md; do
  [ -s "$work/hf/$file" ] || fail "$file is missing"
done
python3 - "$work/hf" <<'PY'
import json, struct, sys
with open(sys.argv[1] + "/model.safetensors", "rb") as file:
    length = struct.unpack("<Q", file.read(8))[0]
    header = json.loads(file.read(length))
    assert header.pop("__metadata__") == {"format": "pt"}
    assert length % 8 == 0 and max(t["data_offsets"][1] for t in header.values()) == len(file.read())
assert header["model.embed_tokens.weight"]["shape"] == [257, 32], header
tokenizer = json.load(open(sys.argv[1] + "/tokenizer.json"))
assert sorted(tokenizer["model"]["vocab"].values()) == list(range(256))
assert json.load(open(sys.argv[1] + "/generation_config.json"))["eos_token_id"] == 256
PY
expect_exit 0 "$KSA" ckpt import-hf "$work/hf" --output "$work/back"
expect_exit 0 "$KSA" ckpt diff "$work/full" "$work/back"
expect_output "equal in bits"
expect_exit 0 "$KSA" ckpt diff "$work/hf" "$work/back"
expect_exit 0 "$KSA" ckpt verify "$work/back"
expect_exit 0 "$KSA" generate "$work/back" --prompt 'a' --max-tokens 3
# What the command is given twice: the second finds the place taken.
expect_exit 73 "$KSA" ckpt export-hf "$work/full" "$work/hf" --layout qwen3
expect_exit 73 "$KSA" ckpt import-hf "$work/hf" --output "$work/back"

# checkpoint.load of the folder, with summaries that it has not, and of a checkpoint as well.
short=(--set training.max_steps=2 --set schedule.warmup_steps=0 --set schedule.decay_steps=1 --set checkpoint.interval=2)
expect_exit 0 train adapted configs/test/ksa.yaml "${short[@]}" --set "checkpoint.load=$work/hf"
expect_output "made model.layers.1.self_attn.q_proj_summary.weight: copied from model.layers.1.self_attn.q_proj.weight"
expect_output "made summary_embedding.weight: around the mean"
expect_exit 0 train from_checkpoint configs/test/ksa.yaml "${short[@]}" --set "checkpoint.load=$work/full"
expect_exit 0 "$KSA" compare "$work/adapted" "$work/from_checkpoint" --assert-equal
expect_exit 0 train_ranks 2 two_ranks configs/test/ksa.yaml "${short[@]}" --set "checkpoint.load=$work/hf" --set parallel.tensor=2
expect_exit 0 "$KSA" compare "$work/adapted" "$work/two_ranks" --rtol 5e-4 # the bound of weights after few updates
expect_exit 0 train fresh configs/test/ksa.yaml "${short[@]}" --set "checkpoint.load=$work/hf" \
  --set checkpoint.new_parameters=init
expect_output "made summary_embedding.weight: initial values"
expect_exit 2 "$KSA" ckpt diff "$work/adapted" "$work/fresh"
expect_output "differ in"
expect_exit 78 train eps configs/test/full.yaml "${short[@]}" --set "checkpoint.load=$work/hf" --set model.rms_norm_eps=1e-5
expect_output "model.rms_norm_eps"

# A KSA model has its own layout, and the others say why not.
expect_exit 78 "$KSA" ckpt export-hf "$work/adapted" "$work/no" --layout qwen3
expect_output "model.attention.pattern"
expect_exit 0 "$KSA" ckpt export-hf "$work/adapted" "$work/own" --dtype fp32
python3 -m py_compile "$work/own/modeling_ksa.py" "$work/own/configuration_ksa.py"
cmp trainer/interop/python/modeling_ksa.py "$work/own/modeling_ksa.py"
expect_exit 0 "$KSA" ckpt import-hf "$work/own" --output "$work/own_back"
expect_exit 0 "$KSA" ckpt diff "$work/adapted" "$work/own_back"
expect_exit 0 "$KSA" ckpt export-hf "$work/adapted" "$work/released" --layout released
python3 - "$work/own/config.json" "$work/released/config.json" <<'PY'
import json, sys
own, released = (json.load(open(path)) for path in sys.argv[1:])
assert own["model_type"] == "ksa" and own["attention"]["ksa"]["chunk_size"] == 4
assert released["summary_token_begin"] == 257 and released["vocab_size"] == 258
PY

# The mean of checkpoints.
expect_exit 0 "$KSA" ckpt average "$work/full/checkpoints/step_00000002" "$work/full/checkpoints/step_00000004" \
  --output "$work/mean"
expect_exit 0 "$KSA" ckpt verify "$work/mean"
expect_exit 0 "$KSA" eval "$work/mean" --data "$work/corpus/validation"
expect_exit 78 "$KSA" ckpt average "$work/full" "$work/adapted" --output "$work/mean2"
expect_output "summary_embedding.weight"

# Hostile folders.
cp -r "$work/hf" "$work/bad"
python3 - "$work/bad/config.json" <<'PY'
import json, sys
config = json.load(open(sys.argv[1]))
config["rope_scaling"] = {"rope_type": "yarn", "factor": 4.0}
json.dump(config, open(sys.argv[1], "w"))
PY
expect_exit 78 "$KSA" ckpt import-hf "$work/bad" --output "$work/bad_out"
expect_output "rope_scaling"
cp "$work/hf/config.json" "$work/bad/config.json"
truncate -s -1 "$work/bad/model.safetensors"
expect_exit 65 "$KSA" ckpt import-hf "$work/bad" --output "$work/bad_out"
expect_exit 66 "$KSA" ckpt import-hf "$work/nothing" --output "$work/bad_out"
[ ! -e "$work/bad_out" ] || fail "a refused import left something"
