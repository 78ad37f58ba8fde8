#!/usr/bin/env bash
# Reports: of a run, of several, of a sweep; of folders without metrics and with torn lines; hostile names; a long run.
source "$(dirname "$0")/lib.sh"
make_corpus
check() { python3 tests/e2e/report_page.py "$@" || fail "the page is not as it should be: $*"; }

name='<b>"x"&<script>alert(1)<'
train one configs/test/ksa.yaml --set evaluation.interval=10 --set "run.name='$name'" >/dev/null
train two configs/test/ksa.yaml --set optimizer.lr=5e-4 --set run.name=two >/dev/null
"$KSA" eval "$work/two" --json "$work/two/eval.json" >/dev/null
printf '{"run_id":"torn' >>"$work/two/metrics.jsonl"

expect_exit 0 "$KSA" report "$work/one" --output "$work/one.html"
check "$work/one.html" "$name" 1 loss lr grad_norm tokens_per_second memory data_wait_ms comm_wait_ms
expect_exit 0 "$KSA" report "$work/two" "$work/one" --output "$work/both.html" --csv "$work/csv"
expect_output "1 line(s) of metrics.jsonl are torn"
check "$work/both.html" "two and 1 more" 2 loss
[ "$(head -n 1 "$work/csv/curves.csv")" = "run,series,step,tokens,hours,value" ] || fail "the CSV has another head"
[ "$(grep -c '^two,eval.json,' "$work/csv/positions.csv")" -gt 10 ] || fail "loss by position is not in the CSV"
# The same numbers as the run wrote.
python3 - "$work/csv/curves.csv" "$work/two/metrics.jsonl" <<'PYTHON' || fail "the CSV has other losses than the run"
import csv, json, sys
rows = [row for row in csv.DictReader(open(sys.argv[1])) if (row["run"], row["series"]) == ("two", "loss")]
rows = {int(row["step"]): float(row["value"]) for row in rows}
lines = [json.loads(line) for line in open(sys.argv[2]) if line.endswith("}\n")]
assert lines and rows == {line["step"]: line["loss"] for line in lines}
PYTHON

# Nothing of a run, and a run that has not begun.
mkdir "$work/empty" "$work/begun"
expect_exit 66 "$KSA" report "$work/empty" --output "$work/no.html"
expect_exit 66 "$KSA" report "$work/gone" --output "$work/no.html"
expect_exit 64 "$KSA" report "$work/one"
[ ! -e "$work/no.html" ] || fail "a refused report wrote its file"
cp "$work/two/config.resolved.yaml" "$work/begun"
expect_exit 0 "$KSA" report "$work/begun" --output "$work/begun.html"
expect_output "no metrics.jsonl here"
check "$work/begun.html" two 1

# A run of 100,000 updates: within 5 MB, and within two seconds of processor time.
mkdir "$work/long"
python3 - "$work/two/metrics.jsonl" "$work/long/metrics.jsonl" <<'PYTHON'
import json, math, sys
row = json.loads(open(sys.argv[1]).readline())
with open(sys.argv[2], "w") as out:
    for step in range(1, 100001):
        loss = 2 + 8 / math.sqrt(step) + (step * 7919 % 1000) / 5e3
        row.update(step=step, tokens=step * 1024, loss=loss, seconds=step * .05)
        row["loss"] += 30 * (step == 54321)
        row["validation_loss"] = {"books": row["loss"] + .1} if step % 500 == 0 else {}
        out.write(json.dumps(row, separators=(",", ":")) + "\n")
PYTHON
TIMEFORMAT=%U
seconds=$({ time "$KSA" report "$work/long" --output "$work/long.html" >"$work/output" 2>&1; } 2>&1) ||
  fail "the long report failed"
echo "a report of 100,000 updates: $seconds s of processor time, $(wc -c <"$work/long.html") bytes"
[ "$(wc -c <"$work/long.html")" -le 5000000 ] || fail "the page is too large"
awk -v seconds="$seconds" 'BEGIN { exit !(seconds <= 2) }' || fail "the report took $seconds s"
check "$work/long.html" long 1 loss validation_loss/books
python3 - "$work/long.html" <<'PYTHON' || fail "thinning lost the spike"
import json, re, sys
data = json.loads(re.search(r'id="data">(.*?)</script>', open(sys.argv[1]).read()).group(1))
curve = next(c for c in data["runs"][0]["curves"] if c["name"] == "loss")
assert 54321 in curve["step"] and max(curve["value"]) > 30 and curve["step"][-1] == 100000
PYTHON

# A sweep: by its file, and by its folder once it has a table.
cat >"$work/sweep.yaml" <<YAML
name: seeds
dir: $work/sweep
base: configs/test/ksa.yaml
axes: {run.seed: [1, 2]}
variants: {full: {model.attention.pattern: [full]}, ksa: {}}
mean_over: [run.seed]
YAML
sets=(--set "data.train=[{path: $work/corpus/train}]" --set "data.validation=[{path: $work/corpus/validation}]"
      --set training.hard_stop=2 --set evaluation.interval=2 --set evaluation.batches=1)
expect_exit 0 "$KSA" ablate "$work/sweep.yaml" "${sets[@]}" --jobs 2
expect_exit 0 "$KSA" report "$work/sweep.yaml" --output "$work/sweep.html" --csv "$work/sweep_csv"
check "$work/sweep.html" seeds 4 loss
[ "$(grep -c '^seeds,' "$work/sweep_csv/sweep.csv")" -eq 4 ] || fail "the CSV lacks cells"
expect_exit 0 "$KSA" report "$work/sweep" --output "$work/sweep_folder.html"
check "$work/sweep_folder.html" seeds 4 loss
