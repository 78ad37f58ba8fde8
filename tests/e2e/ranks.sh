#!/usr/bin/env bash
# One rank against two at the same global batch, with ZeRO and without: losses equal to 1e-6 relative over 20 updates in
# fp32, weights within the contract's bound for another order of additions. And a checkpoint of two ranks goes on with one.
source "$(dirname "$0")/lib.sh"
make_corpus
# same ONE OTHER: metrics, weights and moments of the last checkpoints to 5e-4 (relative L2 of a tensor).
same() {
  for run in "$1" "$2"; do
    mkdir -p "$work/metrics/$run"
    cp "$work/$run/metrics.jsonl" "$work/$run/config.resolved.yaml" "$work/metrics/$run"
  done
  same_metrics "$work/metrics/$1" "$work/metrics/$2"
  expect_exit 0 "$KSA" compare "$work/$1" "$work/$2" --rtol 5e-4
}
for name in ksa documents hybrid_bypass; do
  config=configs/test/$name.yaml
  train "one_$name" "$config" >/dev/null
  for zero in 0 1; do
    expect_exit 0 train_ranks 2 "two_${name}_$zero" "$config" --set "parallel.zero=$zero"
    same "one_$name" "two_${name}_$zero"
  done
  # The optimizer's sharding changes where numbers are kept, not what they are.
  expect_exit 0 "$KSA" compare "$work/two_${name}_0" "$work/two_${name}_1" --rtol 1e-7
done
expect_exit 0 train_ranks 2 moved configs/test/ksa.yaml --set training.hard_stop=10
expect_exit 0 train moved configs/test/ksa.yaml
expect_output "resumed from"
same one_ksa moved
expect_exit 78 train_ranks 3 uneven configs/test/ksa.yaml
expect_output "global_batch_size"
