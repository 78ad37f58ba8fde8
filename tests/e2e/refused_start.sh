#!/usr/bin/env bash
# A start that is refused changes nothing: not a byte of a run folder that was there, and no new folder remains. What each
# message advises is then done, and works.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
tree() { (cd "$work/$1" && find . -type f -exec sha256sum {} + | sort -k 2; find . | sort); }

# refused CODE TEXT RUN [ARGUMENTS...]: on one rank and on two.
refused() {
  local code=$1 text=$2 run=$3 ranks
  shift 3
  [ ! -e "$work/$run" ] || tree "$run" >"$work/before"
  for ranks in 1 2; do
    expect_exit "$code" train_ranks "$ranks" "$run" "$config" "$@"
    expect_output "$text"
    if [ -e "$work/before" ]; then
      tree "$run" >"$work/after"
      cmp "$work/before" "$work/after" || { diff "$work/before" "$work/after" >&2; fail "a start refused with $code changed $run ($*)"; }
    else
      [ ! -e "$work/$run" ] || fail "a start refused with $code left the folder $run ($*)"
    fi
  done
  rm -f "$work/before"
}

# New folders.
refused 66 nowhere deep/new --set "checkpoint.resume=$work/nowhere"
refused 65 "its longest shard" new --set training.sequence_length=10000000
refused 78 "begins with ~" new --set 'run.dir=~/r'
[ ! -e '~' ] || fail "a folder called ~"
expect_exit 64 train new "$config" "--trace=~/trace.json"
cp -r "$work/corpus" "$work/tampered"
mv "$work/tampered/train/tokenizer.json" "$work/tampered/train/STOP"
sed -i 's/"tokenizer.json"/"STOP"/' "$work/tampered/train/index.json"
expect_exit 65 train new "$config" --set "data.train=[{path: $work/tampered/train}]" --set data.validation=[]
[ ! -e "$work/new" ] || fail "a tokenizer called STOP left a folder"

# A run with a past.
train run "$config" --set training.hard_stop=10 --set checkpoint.interval=5 >/dev/null
text=$work/other.txt
head -c 60000 "$work/text.txt" >"$text"
expect_exit 0 "$KSA" data tokenize --input "$text" --output "$work/other" --tokenizer byte --documents blank-line
refused 78 "model.hidden_size" run --set model.hidden_size=128
refused 78 "neither the number of sources nor their weights" run \
  --set "data.train=[{path: $work/corpus/train, weight: 2}, {path: $work/other}]"
refused 78 "the training data is not what" run --set "data.train=[{path: $work/other}]"
refused 78 "list optimizer.lr in checkpoint.allow_change" run --set optimizer.lr=5e-4
refused 73 "checkpoint.resume is never" run --set checkpoint.resume=never
expect_exit 0 "$KSA" generate "$work/run" --prompt "It" --max-tokens 2  # the tokenizer is still the run's

# Advice: allow_change; the shards at another place and under another name; one that is damaged.
expect_exit 0 train run "$config" --set optimizer.lr=5e-4 --set training.hard_stop=11 \
  --set 'checkpoint.allow_change=[optimizer.lr, optimizer.min_lr]'
mkdir "$work/elsewhere"
cp -r "$work/corpus/train" "$work/elsewhere/shards"
moved=(--set optimizer.lr=5e-4 --set data.validation=[])
expect_exit 0 train run "$config" "${moved[@]}" --set "data.train=[{path: $work/elsewhere/../elsewhere/shards/, name: books}]" \
  --set training.hard_stop=12
expect_output "changed since the checkpoint: data.train"
shard=$(find "$work/elsewhere/shards" -name '*.h5' | head -n 1)
# All of its tokens but the first and the last: whatever samples are next, they are damaged.
head -c $(($(stat -c %s "$shard") - 120000)) /dev/zero | dd of="$shard" bs=1024 seek=20 conv=notrunc status=none
damaged=("${moved[@]}" --set "data.train=[{path: $work/elsewhere/shards}]" --set training.hard_stop=14)
expect_exit 65 train run "$config" "${damaged[@]}"
expect_output "or set data.on_corrupt: skip"
expect_exit 0 train run "$config" "${damaged[@]}" --set data.on_corrupt=skip

# Checkpoints that are damaged, not there, elsewhere.
train lost "$config" --set training.hard_stop=10 --set checkpoint.interval=5 >/dev/null
[ -f "$work/lost/first_checkpoint" ] || fail "the first checkpoint is not on record"
mv "$work/lost/checkpoints" "$work/unmounted"
refused 66 "although this run has saved some" lost
mkdir "$work/lost/checkpoints"
refused 66 "although this run has saved some" lost
ln -s "$work/unmounted"/step_* "$work/lost/checkpoints/"
expect_exit 0 train lost "$config" --set training.hard_stop=11
expect_output "10 updates done"
for file in "$work/lost/checkpoints"/*/*.h5; do
  printf 'x' | dd of="$file" bs=1 seek=9000 conv=notrunc status=none
done
refused 65 "step_00000005" lost
expect_output "step_00000011"

# checkpoint.resume: PATH is where an empty folder starts. The same line goes on.
from=(--set optimizer.lr=5e-4 --set data.validation=[] --set "checkpoint.resume=$work/run/checkpoints/step_00000014")
expect_exit 0 train branch "$config" "${from[@]}" --set training.hard_stop=16
expect_exit 0 train branch "$config" "${from[@]}" --set training.hard_stop=18
expect_output "16 updates done"
grep -q '"resumed_from"' "$work/branch/checkpoints/step_00000018/manifest.json" || fail "the manifest does not say where the run began"
expect_exit 0 train stranger "$config" --set training.hard_stop=2
refused 73 "does not come from it" branch --set "checkpoint.resume=$work/stranger"

# A disk without room for one checkpoint is found out at the start.
if mkdir "$work/small" && mount -t tmpfs -o size=300k tmpfs "$work/small" 2>/dev/null; then
  trap 'umount "$work/small"; rm -rf "$work"' EXIT
  expect_exit 74 train small/run "$config"
  expect_output "a checkpoint takes"
  [ -z "$(ls -A "$work/small")" ] || fail "a start without room left something"
fi
