#!/usr/bin/env bash
# training.micro_batch_size: auto: one line for any number of ranks, what a run took stays its own, and the shipped
# quickstart starts on two ranks.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
auto=(--set training.micro_batch_size=auto --set training.hard_stop=10)
resolved() { grep -E '^ *micro_batch_size:' "$work/$1/config.resolved.yaml" | tr -d ' '; }
took() { [ "$(resolved "$1")" = "micro_batch_size:$2" ] || fail "$1 took $(resolved "$1") instead of $2"; }

expect_exit 0 "$KSA" check "$config" "${auto[@]}" --print
expect_output "micro_batch_size: auto"
expect_exit 0 train one "$config" "${auto[@]}"
expect_output "training.micro_batch_size: auto takes 4 of the 4 samples of a data rank"
took one 4
expect_exit 0 train_ranks 2 two "$config" "${auto[@]}"
expect_output "auto takes 2 of the 2 samples"
took two 2
expect_exit 0 "$KSA" compare "$work/one" "$work/two" --rtol 5e-4  # as tests/e2e/ranks.sh

# The same layout again: what was taken once. Equal in bits to the run that was given that number and never stopped.
sed -i 's/micro_batch_size: 2/micro_batch_size: 1/' "$work/two/config.resolved.yaml"
expect_exit 0 train_ranks 2 two "$config" --set training.micro_batch_size=auto
expect_output "auto stays at 1, as the run began on this layout"
took two 1
expect_exit 0 train one "$config" --set training.micro_batch_size=auto
expect_output "auto stays at 4"
train straight "$config" --set training.micro_batch_size=4 >/dev/null
expect_exit 0 "$KSA" compare "$work/straight" "$work/one" --assert-equal
# Another layout: anew.
train moved "$config" "${auto[@]}" >/dev/null
expect_exit 0 train_ranks 2 moved "$config" --set training.micro_batch_size=auto
expect_output "auto takes 2 of the 2 samples"
took moved 2
expect_exit 78 train_ranks 3 uneven "$config" "${auto[@]}"
expect_output "4 is not a multiple of 3 data ranks"

# As the help and the README say, but for the corpus and the size: the quickstart's batch divides on two ranks.
expect_exit 0 train_ranks 2 quickstart configs/train/quickstart.yaml --set training.hard_stop=1 \
  --set training.sequence_length=64 --set model.num_hidden_layers=2 --set model.hidden_size=32 \
  --set model.intermediate_size=32 --set model.num_attention_heads=2 --set evaluation.interval=0
expect_output "auto takes"
