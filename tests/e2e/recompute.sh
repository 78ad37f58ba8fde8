#!/usr/bin/env bash
# Recompute changes no bit: every policy against none, on a plain and on a hybrid model.
source "$(dirname "$0")/lib.sh"
make_corpus
for name in ksa hybrid_attend; do
  train "none_$name" "configs/test/$name.yaml" >/dev/null
  for policy in attention mlp block; do
    train "${policy}_$name" "configs/test/$name.yaml" --set "training.recompute=$policy" >/dev/null
    expect_exit 0 "$KSA" compare "$work/none_$name" "$work/${policy}_$name" --assert-equal
  done
done
