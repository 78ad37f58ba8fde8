#!/usr/bin/env bash
# The quickstart's first 200 updates: at every one, the loss on a GPU in fp32 and in bf16 is within 1 % of that on the
# CPU in fp32.
device=cuda
source "$(dirname "$0")/lib.sh"
need_gpu
make_corpus
config=configs/train/quickstart.yaml
curve=(--set training.max_steps=200 --set schedule.warmup_steps=20 --set schedule.decay_steps=50 --set logging.interval=1
       --set evaluation.interval=0 --set checkpoint.interval=1000)
device=cpu train cpu "$config" "${curve[@]}" --set training.precision=fp32 >/dev/null
for precision in fp32 bf16; do
  train "$precision" "$config" "${curve[@]}" --set "training.precision=$precision" >/dev/null
done
# Weights and gradient norms may part further than losses, so that compare as a whole may end with 2.
"$KSA" compare "$work/cpu" "$work/fp32" "$work/bf16" --rtol 0.01 --json "$work/curve.json" >"$work/table" || [ $? -eq 2 ]
python3 - "$work/curve.json" <<'PYTHON'
import json
import sys

worst = 0.0
for run in json.load(open(sys.argv[1]))["differences"]:
    loss = next(q for q in run["quantities"] if q["quantity"] == "loss")
    assert run["common_updates"] == 200, run["common_updates"]
    print(run["run"].split("/")[-1], "loss is off by at most", loss["largest_relative_difference"], "of it")
    worst = max(worst, loss["largest_relative_difference"])
sys.exit(worst > 0.01)
PYTHON
# The curve means something: the loss fell.
awk -F'"loss":' 'NF > 1 { split($2, v, /[,}]/); if (!first) first = v[1]; last = v[1] }
                 END { print "loss " first " -> " last; exit !(last < 0.7 * first) }' "$work/bf16/metrics.jsonl" ||
  fail "the loss did not fall"
