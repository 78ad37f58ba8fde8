#!/usr/bin/env bash
# Every configuration of configs/test trains, its loss falls, and its checkpoint verifies.
source "$(dirname "$0")/lib.sh"
make_corpus
for config in configs/test/*.yaml; do
  name=$(basename "$config" .yaml)
  ranks=$(awk '/^parallel:/ { inside = 1 } inside && $1 == "data:" { print $2 }' "$config")
  expect_exit 0 train_ranks "${ranks:-1}" "$name" "$config"
  expect_exit 0 "$KSA" ckpt verify "$work/$name"
  awk -F'"loss":' -v name="$name" '
    NF > 1 { split($2, value, /[,}]/); if (!first) first = value[1]; last = value[1] }
    END { if (!(last < first - 0.2)) { print name ": loss " first " -> " last; exit 1 } }' "$work/$name/metrics.jsonl" ||
    fail "the loss of $name did not fall"
  echo "$name: trained"
done
