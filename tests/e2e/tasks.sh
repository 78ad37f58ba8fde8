#!/usr/bin/env bash
# Runs of tasks alone: no shards, no tokenizer. Equal in bits after a resume, the same accuracy on meshes, refusals.
source "$(dirname "$0")/lib.sh"
config=configs/test/tasks.yaml
run() { # run NAME [ARGUMENTS...]
  local name=$1
  shift
  "$KSA" train "$config" --set run.dir="$work/$name" --set run.device="$device" "$@"
}
ranks() { # ranks N NAME [ARGUMENTS...]
  local count=$1 name=$2
  shift 2
  mpirun --oversubscribe --bind-to none -np "$count" "$KSA" train "$config" --set run.dir="$work/$name" \
    --set run.device="$device" --set run.threads=1 "$@"
}
# json FILE EXPRESSION: of the last line of the file, or of the file as a whole, `it` in Python.
json() {
  python3 - "$@" <<'END'
import json, sys
text = open(sys.argv[1]).read()
it = json.loads(text if text.startswith("{\n") else text.splitlines()[-1])
print(json.dumps(eval(sys.argv[2]), sort_keys=True))
END
}
last() { json "$work/$1/metrics.jsonl" "$2"; }

expect_exit 0 run straight
expect_output "train recall_stream: a task, share 768/1024"
expect_output "| recall_stream "
[ "$(last straight 'sorted(it["task_accuracy"])')" = '["pairs", "recall_stream"]' ] || fail "accuracies are missing"
[ "$(last straight 'sorted(it["loss_by_source"])')" = '["needle", "recall_stream"]' ] || fail "losses by source are missing"
[ "$(last straight 'sorted(it["validation_loss"])')" = '["copy"]' ] || fail "the validation is missing"
[ ! -e "$work/straight/tokenizer.json" ] || fail "a tokenizer came from nowhere"

# What tasks take is in the estimate, also where there is nothing else to validate on.
expect_exit 0 run dry --dry-run --set "data.validation=[]" --set evaluation.tasks="[{task: recall_stream, samples: 4000, keys: 16, values: 16}]"
expect_output ", 2 validations of "
python3 - "$work/output" <<'END'
import re, sys
seconds = float(re.search(r"2 validations of ([0-9.]+) s", open(sys.argv[1]).read()).group(1))
assert seconds > 0.1, seconds  # 4000 samples of 48 tokens
END

# Stopped half way, and gone on: the same bits, the same accuracies.
expect_exit 0 run resumed --set training.hard_stop=10
expect_exit 0 run resumed
expect_output "resumed from"
expect_exit 0 "$KSA" compare "$work/straight" "$work/resumed" --assert-equal
[ "$(last straight 'it["task_accuracy"]')" = "$(last resumed 'it["task_accuracy"]')" ] || fail "accuracies differ after a resume"

# Data, context and tensor ranks: the same samples, and the same answers right.
for mesh in "2 parallel.data=2" "2 parallel.context=2" "2 parallel.tensor=2"; do
  expect_exit 0 ranks "${mesh%% *}" "mesh" --set "${mesh#* }"
  expect_exit 0 "$KSA" compare "$work/straight" "$work/mesh" --rtol 1e-4
  [ "$(last straight 'it["task_accuracy"]')" = "$(last mesh 'it["task_accuracy"]')" ] || fail "accuracies differ with ${mesh#* }"
  rm -r "$work/mesh"
done

# The pool that was resolved stays when the run gets longer; a task's keys are not changed.
longer=(--set training.max_steps=30 --set checkpoint.allow_change=[training.max_steps])
expect_exit 0 run longer --set training.hard_stop=10
expect_exit 0 run longer "${longer[@]}"
grep -q 'pool_samples: 36' "$work/longer/config.resolved.yaml" || fail "the pool moved with the run's length"
expect_exit 78 run resumed --set 'data.train=[{task: recall_stream, weight: 3, keys: 15, values: 16, pool_start: 4}]'
expect_output "data.train"

# Accuracy of a checkpoint.
expect_exit 0 "$KSA" eval "$work/straight" --task mqar:pairs=[2,4],keys=16,values=16 --lengths 24,48 --samples 20 \
  --json "$work/mqar.json"
expect_output "by pairs"
values='[it["samples"]] + [[one["value"] for one in it["by"][key]] for key in ("length", "pairs")]'
[ "$(json "$work/mqar.json" "$values")" = '[40, [24.0, 48.0], [2.0, 4.0]]' ] ||
  fail "the JSON is not what it should be: $(cat "$work/mqar.json")"
[ "$(json "$work/mqar.json" 'len({sum(one["targets"] for one in counts) for counts in it["by"].values()})')" = 1 ] ||
  fail "answers are counted differently"
expect_exit 0 "$KSA" eval "$work/straight" --task needle:keys=16,values=16 --depths 0,0.5,1 --samples 5 --json "$work/needle.json"
[ "$(json "$work/needle.json" '[one["value"] for one in it["by_length_and_depth"][0]["depths"]]')" = '[0.0, 0.5, 1.0]' ] || fail "depths are missing"
expect_exit 0 "$KSA" eval "$work/straight"
expect_output "copy"

# Refused: unknown, too long, too many ids, without a tokenizer, without a depth.
expect_exit 64 "$KSA" eval "$work/straight" --task mqra
expect_exit 64 "$KSA" eval "$work/straight" --task mqar --lengths 4096
expect_exit 64 "$KSA" eval "$work/straight" --task copy:span=8 --depths 0.5
expect_exit 78 "$KSA" eval "$work/straight" --task mqar:pairs=13
expect_exit 65 "$KSA" eval "$work/straight" --task copy:symbols=300
expect_exit 66 "$KSA" eval "$work/straight" --task vt
expect_exit 65 "$KSA" check "$config" --set model.vocab_size=30
expect_output "vocabulary"
expect_exit 78 "$KSA" check "$config" --set 'data.train=[{task: vt}]'
expect_output "data.train has no shard folder"
expect_exit 78 "$KSA" check "$config" --set evaluation.batches=all
