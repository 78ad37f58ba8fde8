#!/usr/bin/env bash
# `ksa check`: configuration, sweep and data, without starting anything.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml

# check [ARGUMENTS...]: of the test's configuration on the test's corpus.
check() {
  "$KSA" check "$config" --set "data.train=[{path: $work/corpus/train}]" \
    --set "data.validation=[{path: $work/corpus/validation}]" "$@"
}

# Data: absent is a warning unless asked for; present and wrong is an error, each source for itself.
expect_exit 0 check
expect_output "no mistakes found, and its data fits"
expect_exit 0 check --set "data.train=[{path: $work/nowhere}]"
expect_output "warning: data.train[0]: $work/nowhere is not there"
expect_exit 66 check --set "data.train=[{path: $work/nowhere}]" --data
expect_output "data.train[0]: $work/nowhere: there is no such folder"
expect_exit 65 check --set model.vocab_size=100
expect_output "data.train[0]: "
expect_output "data.validation[0]: "
expect_output "model.vocab_size is 100"
expect_exit 65 check --set training.sequence_length=10000000
expect_output "a sample of sequence length 10000000 takes 10000001"
expect_exit 0 check --set training.sequence_length=10000000 --no-data
expect_output "its data was not looked at"
expect_exit 64 check --data --no-data
printf '1 2 3\n%.0s' $(seq 200) >"$work/numbers.txt"
expect_exit 0 "$KSA" data train-tokenizer --input "$work/text.txt" --output "$work/m.model" --vocab-size 400
expect_exit 0 "$KSA" data tokenize --input "$work/numbers.txt" --output "$work/pieces" --tokenizer "$work/m.model" \
  --documents file
expect_exit 65 check --set "data.validation=[{path: $work/pieces, name: pieces}]" --set model.vocab_size=400
expect_output "data.validation[0]: $work/corpus/train was made with the tokenizer 'byte'"
expect_exit 66 check --set "data.train=[{path: $work}]"  # a folder, but not of shards
# A mistake of the configuration comes first, whatever the data is.
expect_exit 78 check --set "data.train=[{path: $work/nowhere}]" --set optimizer.lr=-1 --data

# Sweeps: every cell, and once what all share.
cat >"$work/sweep.yaml" <<YAML
name: s
base: $PWD/$config
axes: {run.seed: [1, 2]}
zip: [{model.attention.ksa.chunk_size: 4}, {model.attention.ksa.chunk_size: 0}]
variants: {full: {model.attention.pattern: [fulll]}}
YAML
expect_exit 78 "$KSA" check "$work/sweep.yaml" --set optimizer.lr=-1
[ "$(grep -c optimizer.lr: "$work/output")" -eq 1 ] || { cat "$work/output" >&2; fail "said more than once"; }
expect_output "every cell: --set 'optimizer.lr=-1': optimizer.lr: "
expect_output "cell seed=1,chunk_size=0 and 1 more: --set 'model.attention.ksa.chunk_size=0': "
expect_output "cell seed=1,full and 1 more: --set 'model.attention.pattern=[fulll]': "
sed -i -e 's/chunk_size: 0/chunk_size: 8/' -e 's/fulll/full/' "$work/sweep.yaml"
expect_exit 0 "$KSA" check "$work/sweep.yaml" --set "data.train=[{path: $work/nowhere}]"
expect_output "warning: every cell: data.train[0]: $work/nowhere is not there"
expect_output "no mistakes found in 6 cells"
expect_exit 65 "$KSA" check "$work/sweep.yaml" --set "data.train=[{path: $work/corpus/train}]" --set model.vocab_size=100
[ "$(grep -c data.train "$work/output")" -eq 1 ] || { cat "$work/output" >&2; fail "said more than once"; }
expect_output "every cell: data.train[0]: "
expect_exit 0 "$KSA" check "$work/sweep.yaml" --print --no-data
[ "$(grep -c '^---  # cell' "$work/output")" -eq 6 ] || fail "not every cell was printed"
expect_output "cell seed=2,full"
[ ! -e runs/s ] || fail "something was written"
