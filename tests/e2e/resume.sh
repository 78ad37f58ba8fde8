#!/usr/bin/env bash
# 40 updates in one go, and 25 + kill -9 + resume: weights, moments and metrics equal in bits; with one rank and two.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
# Long enough updates for the run to be caught between 20 and 40.
long=(--set training.max_steps=40 --set checkpoint.interval=10 --set training.sequence_length=512
      --set training.global_batch_size=4 --set model.hidden_size=128 --set model.intermediate_size=256)
export KSA work
export -f train train_ranks options

train straight "$config" "${long[@]}" >/dev/null
kill_after 25 killed bash -c 'train killed "$@"' _ "$config" "${long[@]}" --set logging.interval=1
# The one of update 20 may still be written; it has waited for the one before.
[ -d "$work/killed/checkpoints/step_00000010" ] || fail "no checkpoint of update 10"
[ ! -d "$work/killed/checkpoints/step_00000040" ] || fail "the run was complete before it was killed"
expect_exit 0 train killed "$config" "${long[@]}"
expect_output "resumed from"
expect_exit 0 "$KSA" compare "$work/straight" "$work/killed" --assert-equal
expect_exit 0 train killed "$config" "${long[@]}"
expect_output "complete"

train_ranks 2 straight2 "$config" "${long[@]}" >/dev/null
kill_after 25 killed2 bash -c 'train_ranks 2 killed2 "$@"' _ "$config" "${long[@]}"
[ ! -d "$work/killed2/checkpoints/step_00000040" ] || fail "the two-rank run was complete before it was killed"
expect_exit 0 train_ranks 2 killed2 "$config" "${long[@]}"
expect_exit 0 "$KSA" compare "$work/straight2" "$work/killed2" --assert-equal

# The test can fail: another seed is another run.
train other "$config" "${long[@]}" --set run.seed=7 >/dev/null
expect_exit 2 "$KSA" compare "$work/straight" "$work/other" --assert-equal
