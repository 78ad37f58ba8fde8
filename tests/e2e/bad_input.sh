#!/usr/bin/env bash
# Bad input ends with a clear message and the documented exit code, and loses nothing.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml

# Configuration: ten mistakes, ten messages.
cat >"$work/ten.yaml" <<'YAML'
run: {name: ten, sead: 1}
model:
  vocab_size: 257
  hidden_size: 64
  intermediate_size: 1e3
  num_hidden_layers: 2
  num_attention_heads: 4
  num_key_value_heads: 3
  head_dim: 15
  attention:
    pattern: [ksa, fulll]
    ksa: {chunk_size: 0, summary_tokens: 65, independent: {qkv: false, qk_norm: true}}
data:
  train: [{path: shards, weight: -1}]
training: {sequence_length: 64, global_batch_size: 4, max_steps: 10}
optimizer: {weight_decay: yes}
YAML
expect_exit 78 "$KSA" check "$work/ten.yaml"
[ "$(grep -c 'ten.yaml:' "$work/output")" -ge 10 ] || { cat "$work/output" >&2; fail "fewer than ten messages"; }
expect_exit 78 "$KSA" check "$config" --set parallel.tensor=3 --set parallel.context=7
expect_output "parallel.tensor: 3 does not divide num_attention_heads 4; this model takes 1, 2, 4"
expect_output "parallel.context: 7 ranks hold two slices of whole chunks each, but 48 tokens are 12 chunk(s) of 4"
expect_exit 78 train mesh "$config" --set parallel.context=2
expect_output "meshes of 1 ranks (data x context x tensor): 1 x 1 x 1"
[ ! -e "$work/mesh" ] || fail "a run on a mesh that does not fit left a folder"
expect_exit 66 "$KSA" check "$work/none.yaml"
expect_exit 64 "$KSA" train
expect_exit 64 "$KSA" frobnicate
expect_exit 64 "$KSA" bench attention --device cpu --paths mma
expect_exit 64 "$KSA" bench attention --device cpu --head-dim 33
expect_exit 0 "$KSA" --help
expect_exit 0 "$KSA" --version

# Data.
expect_exit 66 train missing "$config" --set "data.train=[{path: $work/nowhere}]"
expect_exit 65 train long "$config" --set training.sequence_length=10000000
expect_exit 65 train vocabulary "$config" --set model.vocab_size=100
cp -r "$work/corpus" "$work/damaged"
shard=$(find "$work/damaged/train" -name '*.h5' | head -n 1)
truncate -s 5000 "$shard"
expect_exit 65 train damaged "$config" --set "data.train=[{path: $work/damaged/train}]"
expect_output "$(basename "$shard")"
: >"$work/empty.txt"
expect_exit 65 "$KSA" data tokenize --input "$work/empty.txt" --output "$work/empty" --tokenizer byte
[ ! -e "$work/empty" ] || fail "an output was left behind"

# Diverging: the update is named, nothing is applied, the last checkpoint stays good.
expect_exit 70 train diverged "$config" --set optimizer.lr=1e30 --set optimizer.min_lr=0 --set optimizer.clip_grad_norm=0 \
  --set schedule.warmup_steps=0 --set checkpoint.interval=1
expect_output "samples"
expect_exit 0 "$KSA" ckpt verify "$work/diverged"

# Run folders and checkpoints.
train base "$config" --set training.hard_stop=10 >/dev/null
expect_exit 78 train base "$config" --set model.hidden_size=128
expect_output "model.hidden_size"
expect_exit 78 train base "$config" --set optimizer.lr=5e-4
expect_output "allow_change"
expect_exit 0 train base "$config" --set optimizer.lr=5e-4 --set 'checkpoint.allow_change=[optimizer.lr, optimizer.min_lr]' \
  --set training.hard_stop=12
expect_exit 73 train base "$config" --set checkpoint.resume=never
expect_exit 0 train branch "$config" --set "checkpoint.resume=$work/base/checkpoints/step_00000010" \
  --set training.hard_stop=12
expect_exit 66 train fresh "$config" --set "checkpoint.resume=$work/nowhere"
find "$work/base/checkpoints" -name '*.h5' -newermt '2000-01-01' | while read -r file; do
  printf 'x' | dd of="$file" bs=1 seek=6000 conv=notrunc status=none
done
expect_exit 65 "$KSA" ckpt verify "$work/base"
expect_exit 73 train traced "$config" --trace "$work/missing/trace.json"  # at the start, not at the traced update
expect_output "$work/missing/trace.json"
[ "$(steps_written traced)" -eq 0 ] || fail "updates ran before the trace was refused"
touch "$work/file"
expect_exit 73 "$KSA" train "$config" --set "run.dir=$work/file/run" --set "data.train=[{path: $work/corpus/train}]" \
  --set "data.validation=[{path: $work/corpus/validation}]"

# A second trainer in the same folder.
mapfile -t arguments < <(options locked)
"$KSA" train "$config" "${arguments[@]}" --set training.max_steps=100000 >"$work/first.log" 2>&1 &
pid=$!
for _ in $(seq 200); do
  [ "$(steps_written locked)" -ge 1 ] && break
  sleep 0.05
done
expect_exit 73 train locked "$config"
kill -USR1 "$pid"
wait "$pid" || true
