#!/usr/bin/env bash
# What a user does after training: list, inspect, evaluate, generate, start another run from the weights.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
expect_exit 0 train dry "$config" --dry-run
[ ! -e "$work/dry" ] || fail "a dry run wrote something"
train run "$config" >/dev/null
expect_exit 0 "$KSA" ckpt ls "$work/run"
expect_output step_00000020
expect_exit 0 "$KSA" ckpt inspect "$work/run"
expect_exit 0 "$KSA" eval "$work/run" --data "$work/corpus/validation" --json "$work/eval.json"
expect_output "nats a token"
texts "$work/first" "$work/run" --prompt "The run" --max-tokens 30 --seed 3
texts "$work/second" "$work/run" --prompt "The run" --max-tokens 30 --seed 3
cmp "$work/first" "$work/second" || fail "the same seed gave another text"
expect_exit 0 train warm "$config" --set "checkpoint.load=$work/run"
expect_output "weights of"
