#!/usr/bin/env bash
# Evaluating a checkpoint: on the run's own validation data, on shards, on a text; and a checkpoint that was copied
# somewhere else, without its run.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
cp -r "$work/corpus/validation" "$work/second"
sources="data.validation=[{path: $work/corpus/validation, name: held_out}, {path: $work/second, name: again}]"
train run "$config" --set "$sources" --set evaluation.batches=all --set evaluation.interval=1000 >/dev/null

# What was measured at the run's end, by another path through the same code: batches of other samples.
expect_exit 0 "$KSA" eval "$work/run" --json "$work/own.json"
expect_output "held_out ($work/corpus/validation)"
expect_output "bits a byte"
expect_output "loss by position; a text window is"
cp "$work/output" "$work/own.txt"
expect_exit 0 "$KSA" eval "$work/run" --data "$work/second" --json "$work/one.json"
expect_exit 0 "$KSA" eval "$work/run" --data "$work/second" --samples 3 --json "$work/few.json"
expect_output "3 of "
expect_exit 0 "$KSA" eval "$work/run" --data "$work/second" --replace-far 16 --json "$work/far.json"
expect_output "far context: all but the last 16 tokens of each sample replaced by another's"
expect_exit 64 "$KSA" eval "$work/run" --data "$work/second" --replace-far 100000
expect_output "keep fewer of them"
expect_exit 64 "$KSA" eval "$work/run" --data "$work/second" --samples 1 --replace-far 16
expect_output "ask for more --samples"
! grep -q "loss by position" "$work/output" || fail "what is refused was measured first"
# What was there stays until there is something to put in its place.
echo kept >"$work/kept.json"
expect_exit 64 "$KSA" eval "$work/run" --data "$work/second" --replace-far 100000 --json "$work/kept.json"
expect_exit 66 "$KSA" eval "$work/nowhere" --json "$work/kept.json"
[ "$(cat "$work/kept.json")" = kept ] || fail "a refused command emptied a result"
expect_exit 66 "$KSA" eval "$work/nowhere" --json "$work/new.json"
[ ! -e "$work/new.json" ] || fail "a refused command left an empty result"
python3 - "$work" <<'PYTHON'
import json
import math
import re
import sys

work = sys.argv[1]
own, one, few = (json.load(open(f"{work}/{name}.json")) for name in ("own", "one", "few"))
last = [json.loads(line) for line in open(f"{work}/run/metrics.jsonl")][-1]
keys = ["loss", "standard_error", "bits_per_byte", "by_position"]
assert list(one) == keys, list(one)
assert list(own) == keys + ["sources"], list(own)
assert [source["name"] for source in own["sources"]] == ["held_out", "again"]
for source in own["sources"]:
    # The trainer adds its losses in other groups.
    assert abs(source["loss"] - last["validation_loss"][source["name"]]) < 1e-6 * source["loss"], source["loss"]
    assert source["loss"] == one["loss"]
far = json.load(open(f"{work}/far.json"))
assert {key: far[key] for key in keys} == one
far = far["far_context"]
assert far["kept"] == 16 and far["standard_error"] > 0 and far["loss"] != far["loss_replaced"], far
# Of the last 8 positions, where every sample is whole.
ends = one["by_position"][-8:]
assert abs(far["loss"] - sum(ends) / 8) < 1e-5, (far, ends)
# The same n samples twice: the same mean, and n/(n - 1) becomes 2n/(2n - 1) over four times the square of the targets.
assert abs(own["loss"] - one["loss"]) < 1e-12
n = int(re.search(r": (\d+) of \1 samples", open(f"{work}/own.txt").read()).group(1))
expected = one["standard_error"] * math.sqrt((2 * n / (2 * n - 1)) * 2 / 4 / (n / (n - 1)))
assert abs(own["standard_error"] - expected) < 1e-9, (own["standard_error"], expected)
# Bytes: every target is one, but for the ends of documents, which are targets as well.
bits = one["loss"] / math.log(2)
assert bits < one["bits_per_byte"] < 1.05 * bits, (bits, one["bits_per_byte"])
positions = one["by_position"]
assert len(positions) == 48, len(positions)
assert abs(sum(positions) / len(positions) - one["loss"]) < 1e-9
assert few["loss"] != one["loss"] and few["standard_error"] > one["standard_error"]
PYTHON

# A text is what shards of it would be; they hold one window less where the last is short.
head -n 100 "$work/text.txt" >"$work/piece.txt"
[ $(($(wc -c <"$work/piece.txt") % 48)) -ne 0 ] || echo "one byte more" >>"$work/piece.txt"
expect_exit 0 "$KSA" data tokenize --input "$work/piece.txt" --output "$work/piece" --tokenizer byte --documents file
expect_exit 0 "$KSA" eval "$work/run" --data "$work/piece" --json "$work/shards.json"
expect_exit 0 "$KSA" eval "$work/run" --text "$work/piece.txt" --json "$work/text.json"
expect_output "piece.txt ($work/piece.txt)"
python3 - "$work" <<'PYTHON'
import json
import os
import sys

work = sys.argv[1]
shards, text = (json.load(open(f"{work}/{name}.json")) for name in ("shards", "text"))
tokens = os.path.getsize(f"{work}/piece.txt") + 1
whole, rest = divmod(tokens - 1, 48)
assert rest > 0 and len(text["by_position"]) == 48
# Position 47 has a target in whole windows alone. Batches of other sizes add in other orders.
assert abs(shards["by_position"][47] - text["by_position"][47]) < 1e-5
assert shards["loss"] != text["loss"] and abs(shards["loss"] - text["loss"]) < 0.1
PYTHON
printf 'ok \377' >"$work/bad.txt"
: >"$work/empty.txt"
expect_exit 65 "$KSA" eval "$work/run" --text "$work/bad.txt"
expect_output "not UTF-8 (byte 3)"
expect_exit 65 "$KSA" eval "$work/run" --text "$work/empty.txt"
expect_exit 66 "$KSA" eval "$work/run" --text "$work/nowhere.txt"
expect_exit 64 "$KSA" eval "$work/run" --text "$work/piece.txt" --data "$work/second"

# Data that moved: the cure is --data. A run without validation data: that, or a text.
mv "$work/second" "$work/moved"
expect_exit 66 "$KSA" eval "$work/run"
expect_output "'again' was expected here"
expect_output "--data DIR"
train bare "$config" --set data.validation=[] --set training.hard_stop=1 >/dev/null
expect_exit 64 "$KSA" eval "$work/bare"
expect_output "--data DIR (a shard folder) or --text FILE"

# A checkpoint that was copied works alone: nothing of its run is left.
mkdir "$work/elsewhere"
cp -r "$work/run/checkpoints/step_00000020" "$work/elsewhere/best"
texts "$work/text" "$work/run" --prompt "The run" --max-tokens 20 --temperature 0
mv "$work/moved" "$work/second"
rm -r "$work/run"
cd "$work/elsewhere"
texts "$work/of_copy" best --prompt "The run" --max-tokens 20 --temperature 0
cmp "$work/text" "$work/of_copy" || fail "the copy continues the text in another way"
expect_exit 0 "$KSA" eval best
tail -n +2 "$work/own.txt" >"$work/expected"
tail -n +2 "$work/output" | cmp "$work/expected" - || fail "the copy was evaluated otherwise"
expect_exit 0 "$KSA" eval best --text "$work/piece.txt"
expect_exit 0 "$KSA" eval best --data "$work/piece"
expect_exit 0 "$KSA" data train-tokenizer --input "$work/text.txt" --output "$work/other.model" --vocab-size 400
expect_exit 0 "$KSA" data tokenize --input "$work/piece.txt" --output "$work/other" --tokenizer "$work/other.model"
expect_exit 65 "$KSA" eval best --data "$work/other"
expect_exit 0 "$KSA" ckpt verify best
expect_exit 0 "$KSA" ckpt inspect best
