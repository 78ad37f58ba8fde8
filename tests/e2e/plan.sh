#!/usr/bin/env bash
# `ksa plan`: on a machine without a GPU, in seconds, with data or without.
source "$(dirname "$0")/lib.sh"
large=configs/train/ksa_1b9_8k.yaml

# The large run, whose data is not here: a warning, and epochs that are not known.
expect_exit 0 "$KSA" plan "$large" --ranks 64 --device H200 --json "$work/plan.json"
expect_output "warning: data.train[0]: data/pretrain/train is not there"
expect_output "64 x H200: data 64 x context 1 x tensor 1"
expect_output "meshes of 64 x H200"
for key in device ranks parameters flops_per_token memory communicated checkpoint_bytes step_seconds days meshes; do
  grep -q "\"$key\":" "$work/plan.json" || fail "the JSON lacks $key"
done
grep -q '"epochs": null' "$work/plan.json" || fail "epochs of data that is not there"

# What a mesh is not made for is said, and the best one taken.
expect_exit 0 "$KSA" plan "$large" --ranks 48
expect_output "planned on the best mesh"
expect_exit 78 "$KSA" plan "$large" --ranks 1000003  # a prime: no mesh at all
expect_exit 78 "$KSA" plan "$large" --device H9000
expect_output "there are no figures of a 'H9000'; there are of H200, H100"
expect_exit 64 "$KSA" plan "$large" --ranks 0
expect_exit 78 "$KSA" plan "$large" --set optimizer.lr=-1

# With data the epochs are known; data that does not fit is an error.
make_corpus
small=(configs/test/ksa.yaml --set "data.train=[{path: $work/corpus/train}]"
  --set "data.validation=[{path: $work/corpus/validation}]")
expect_exit 0 "$KSA" plan "${small[@]}" --json "$work/small.json"
expect_output " epochs"
grep -q '"epochs": null' "$work/small.json" && fail "epochs of data that is there"
expect_exit 65 "$KSA" plan "${small[@]}" --set model.vocab_size=100
