#!/usr/bin/env bash
# On a GPU: 40 updates in one go, again in one go, and 25 + kill -9 + resume: weights, moments and metrics equal in bits.
device=cuda
source "$(dirname "$0")/lib.sh"
need_gpu
make_corpus
config=configs/test/hybrid_attend.yaml
# Many micro-batches make an update long enough for the run to be caught between 20 and 40.
long=(--set training.max_steps=40 --set checkpoint.interval=10 --set training.sequence_length=512 --set logging.interval=1
      --set training.global_batch_size=64 --set training.micro_batch_size=1 --set model.hidden_size=128
      --set model.head_dim=64 --set model.intermediate_size=256 --set evaluation.interval=0)
export KSA work device
export -f train options

train straight "$config" "${long[@]}" >/dev/null
train again "$config" "${long[@]}" >/dev/null
expect_exit 0 "$KSA" compare "$work/straight" "$work/again" --assert-equal
kill_after 25 killed bash -c 'train killed "$@"' _ "$config" "${long[@]}"
# The one of update 20 may still be written; it has waited for the one before.
[ -d "$work/killed/checkpoints/step_00000010" ] || fail "no checkpoint of update 10"
[ ! -d "$work/killed/checkpoints/step_00000040" ] || fail "the run was complete before it was killed"
expect_exit 0 train killed "$config" "${long[@]}"
expect_output "resumed from"
expect_exit 0 "$KSA" compare "$work/straight" "$work/killed" --assert-equal

# The test can fail: another seed is another run.
train other "$config" "${long[@]}" --set run.seed=7 >/dev/null
expect_exit 2 "$KSA" compare "$work/straight" "$work/other" --assert-equal
