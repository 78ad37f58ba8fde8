#!/usr/bin/env bash
# How a run ends on the screen and in the log: validation in rows under the log line, then a summary whose commands work.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
head -c 40000 "$work/text.txt" >"$work/more.txt"
expect_exit 0 "$KSA" data tokenize --input "$work/more.txt" --output "$work/more words" --tokenizer byte --documents blank-line
two=(--set "data.validation=[{path: $work/corpus/validation}, {path: '$work/more words', name: more}]")

# line TEXT: the output has it, as a whole line; a regular expression.
line() {
  grep -qxE -- "$1" "$work/output" || { cat "$work/output" >&2; fail "the output lacks the line: $1"; }
}
number='[0-9]+\.[0-9]+' perplexity='[0-9.]+'

# commands: what the summary of the last output advises, a line each.
commands() {
  sed -n '/^next:$/,$ s/^  //p' "$work/output"
}
# try COUNT: so many commands are advised, and all of them work.
try() {
  commands >"$work/commands"
  [ "$(wc -l <"$work/commands")" -eq "$1" ] || { cat "$work/output" >&2; fail "$(wc -l <"$work/commands") commands instead of $1"; }
  while read -r command; do
    bash -c "$command" >"$work/tried" 2>&1 </dev/null || { cat "$work/tried" >&2; fail "an advised command fails: $command"; }
  done <"$work/commands"
}

# Two sources, a start that stops at training.hard_stop and one to the end. The advice goes on with the run.
expect_exit 0 train run "$config" "${two[@]}" --set training.hard_stop=10
line "validation +10/20 \| validation $number \+- $number nats a token \| $number bits \| perplexity $perplexity \| 8 of [0-9]+ samples"
line "validation +10/20 \| more       $number \+- $number nats a token \| $number bits \| perplexity $perplexity \| 8 of [0-9]+ samples"
line "run test_ksa: 10 of 20 updates, 1\.9K tokens in [0-9]+s, [0-9.]+K? tok/s"
line "checkpoint $work/run/checkpoints/step_00000010"
commands >"$work/commands"
[ "$(wc -l <"$work/commands")" -eq 3 ] || fail "$(cat "$work/commands"): not three commands"
expect_exit 0 bash -c "$(head -n 1 "$work/commands")"
line "training loss $number nats a token, mean of the last 10 updates"
line "run test_ksa: 20 of 20 updates, 3\.8K tokens in [0-9]+s of 2 starts, .* tok/s"
line "of more: 8 of [0-9]+ samples"
try 2

# The numbers are those of metrics.jsonl and follow from each other.
python3 - "$work/run/metrics.jsonl" "$work/output" <<'PYTHON'
import json, math, sys
rows = {}
for text in open(sys.argv[1]):
    row = json.loads(text)
    rows[row["step"]] = row
found = {}
for text in open(sys.argv[2]):
    words = text.split()
    if len(words) == 8 and words[1] in ("last", "best", "last=best"):
        found.setdefault(words[0], {})[words[1]] = words[2:]
assert set(found) == {"validation", "more"}, found
for source, which in found.items():
    losses = {step: row["validation_loss"][source] for step, row in rows.items() if row["validation_loss"]}
    assert sorted(losses) == [10, 20]
    best = min(losses, key=losses.get)
    expected = {"last=best": 20} if best == 20 else {"last": 20, "best": best}
    assert {name: int(row[0]) for name, row in which.items()} == expected, (which, losses)
    for name, row in which.items():
        nats = losses[int(row[0])]
        assert row[1] == f"{nats:.4f}", (row, nats)
        assert row[3] == f"{nats / math.log(2):.3f}", row
        assert float(row[4]) > float(row[3]), "an end of document is no byte: bits a byte are more than bits a token"
        assert abs(float(row[5]) / math.exp(nats) - 1) < 0.01, row
PYTHON

# The same again has nothing to do, and says the same.
expect_exit 0 train run "$config" "${two[@]}"
line "the run is complete: 20 of 20 updates done"
line "training loss $number nats a token, of the last update"
try 2

# Without validation data; and stopped by a person: the first command goes on.
touch_stop() {
  while [ "$(steps_written stopped)" -lt 2 ]; do sleep 0.05; done
  touch "$work/stopped/STOP"
}
touch_stop &
expect_exit 86 train stopped "$config" --set data.validation=[] --set evaluation.interval=0 --set training.max_steps=100000 \
  --set checkpoint.interval=100000 --set logging.interval=1
wait
! grep -q "^validation" "$work/output" || fail "a validation of nothing"
commands >"$work/commands"
[ "$(wc -l <"$work/commands")" -eq 2 ] || fail "$(cat "$work/commands"): not two commands"
head -n 1 "$work/commands" | grep -qF "train $config" || fail "the first command does not go on"
tail -n 1 "$work/commands" | bash >/dev/null || fail "the advised generate fails"

# A dry run measures three updates, and writes nothing.
expect_exit 0 train dry "$config" "${two[@]}"  --dry-run
[ "$(grep -c '^step ' "$work/output")" -eq 3 ] || fail "not three updates"
line "a step takes $number ms \($number and $number ms; the first, $number ms, is not counted\), .* tokens a second"
line "the run takes about .*: 20 updates in .*, 2 validations of $number s in .*"
line "not counted: 2 checkpoints of .*, which depend on the disk"
line "dry run: 3 updates done in memory, nothing written"
expect_exit 0 train dry "$config" --dry-run --set training.max_steps=1 --set schedule.warmup_steps=0 --set schedule.decay_steps=0
line "a step takes $number ms or less .*"
expect_exit 0 train dry "$config" --dry-run --trace "$work/trace.json"
[ "$(grep -c '^step ' "$work/output")" -eq 4 ] || fail "the trace is not of a fourth update"
line "trace of update 4: $work/trace.json"
line "dry run: 3 updates done in memory, nothing written"
[ ! -e "$work/dry" ] || fail "a dry run wrote something"
