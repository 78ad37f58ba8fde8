#!/usr/bin/env bash
# What a command prints is its result: where it cannot be written the exit code is 74. Training is on record elsewhere.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
export KSA work
export -f train options
train run "$config" --set training.hard_stop=2 >/dev/null
lost() {
  local code=0
  "$KSA" "$@" >/dev/full 2>"$work/output" || code=$?
  [ "$code" -eq 74 ] || { cat "$work/output" >&2; fail "exit code $code instead of 74: ksa $*"; }
  expect_output "standard output: cannot be written"
}
lost --help
lost --version
lost train --help
lost check "$config"
lost check "$config" --print
lost ckpt ls "$work/run"
lost ckpt inspect "$work/run" --config
lost ckpt verify "$work/run"
lost compare "$work/run" "$work/run"
lost eval "$work/run" --data "$work/corpus/validation" --samples 1
lost generate "$work/run" --prompt a --max-tokens 1
lost data inspect "$work/corpus/train"
lost data verify "$work/corpus/train"
mapfile -t arguments < <(options dry)
lost train "$config" "${arguments[@]}" --dry-run
expect_exit 0 bash -c 'train "$@" >/dev/full' _ run "$config" --set training.hard_stop=3
grep -q "done: 3 updates" "$work/run/log.txt" || fail "the log is not whole"

# One process needs no launcher: no ssh in PATH, no environment at all.
mapfile -t arguments < <(options bare)
expect_exit 0 env -i "$KSA" train "$config" "${arguments[@]}" --dry-run
expect_exit 0 env PATH=/nowhere "$KSA" train "$config" "${arguments[@]}" --dry-run
