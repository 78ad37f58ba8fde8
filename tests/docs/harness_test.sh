#!/usr/bin/env bash
# The test of the documents can fail: pages with one fault each, and what is said of them.
set -euo pipefail
: "${KSA:?the path of the ksa program}"
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# page NAME STATUS TEXT: runs $work/NAME.md, standard input, and looks for a text in what is said.
page() {
  local status=0
  cat >"$work/$1.md"
  python3 "$here/run_docs.py" "$work/$1.md" >"$work/output" 2>&1 || status=$?
  if [ "$status" -eq "$2" ] && grep -qF -- "$3" "$work/output"; then echo "ok: $1"; return; fi
  echo "FAILED: $1: status $status (expected $2), expected text: $3"
  cat "$work/output"
  failures=$((failures + 1))
}

page good 0 "good.md:2: ran" <<'PAGE'
```bash
ksa data tokenize --input books/*.txt --output shards/books --tokenizer byte \
  --documents file    # a comment
ksa data verify shards/books
```
PAGE
page mistyped 1 "mistyped.md:4: exit code 64: ksa frobnicate" <<'PAGE'
Text.
```
ksa --version
ksa frobnicate
```
PAGE
page missing_file 1 "missing_file.md:2: exit code 66" <<'PAGE'
```bash
ksa check configs/train/no_such_file.yaml
```
PAGE
# The configuration is judged as it stands on the page, not as the small one that is trained.
page wrong_as_documented 1 "wrong_as_documented.md:5: exit code 78: ksa train tiny.yaml --set schedule.warmup_steps=5000" <<'PAGE'
```bash
ksa check run.yaml
```
```bash
ksa train tiny.yaml --set schedule.warmup_steps=5000
```
PAGE
page own_config 1 "unknown key; did you mean 'training.max_steps'?" <<'PAGE'
```yaml
run: {name: mine}
training: {max_stepz: 5}
```
```bash
ksa check mine.yaml
```
PAGE
page other_commands 1 "other_commands.md:3: exit code 127: no-such-program" <<'PAGE'
```bash
ksa --version
no-such-program --here
```
PAGE
page excused_block 0 "excused_block.md:2: not run: needs a tape robot" <<'PAGE'
```bash not run: needs a tape robot
launch/tape.sh ksa train config.yaml
```
PAGE
page excused_line 0 "excused_line.md:3: not run: sbatch" <<'PAGE'
```bash
ksa --version
sbatch launch/slurm.sbatch config.yaml \
  --set a=b
```
PAGE
page unclosed 1 "unclosed.md:2: this block is never closed" <<'PAGE'

```bash
ksa --version
PAGE
page not_ours 0 "all blocks ran or are excused" <<'PAGE'
```
ksa: watchdog: a message, not a command
no-such-program
```
PAGE
exit $((failures > 0))
