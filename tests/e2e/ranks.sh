#!/usr/bin/env bash
# One rank against two at the same global batch, with ZeRO and without: losses equal to 1e-6 relative over 20 updates in
# fp32. And a checkpoint of two ranks goes on with one.
source "$(dirname "$0")/lib.sh"
make_corpus
for name in ksa documents hybrid_bypass; do
  config=configs/test/$name.yaml
  train "one_$name" "$config" >/dev/null
  for zero in 0 1; do
    expect_exit 0 train_ranks 2 "two_${name}_$zero" "$config" --set "parallel.zero=$zero"
    expect_exit 0 "$KSA" compare "$work/one_$name" "$work/two_${name}_$zero" --rtol 1e-6
  done
  # The optimizer's sharding changes where numbers are kept, not what they are.
  expect_exit 0 "$KSA" compare "$work/two_${name}_0" "$work/two_${name}_1" --rtol 1e-7
done
expect_exit 0 train_ranks 2 moved configs/test/ksa.yaml --set training.hard_stop=10
expect_exit 0 train moved configs/test/ksa.yaml
expect_output "resumed from"
expect_exit 0 "$KSA" compare "$work/one_ksa" "$work/moved" --rtol 1e-6
expect_exit 78 train_ranks 3 uneven configs/test/ksa.yaml
expect_output "global_batch_size"
