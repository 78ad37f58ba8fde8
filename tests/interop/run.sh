#!/usr/bin/env bash
# Models out and in against transformers. By hand: it needs a Python with torch, transformers and h5py (PYTHON), and the
# programs ksa and interop_logits (BUILD, a build folder). Figures: docs/interop.md.
#   PYTHON=venv/bin/python BUILD=build/release bash tests/interop/run.sh
# UPDATES: of each training (200). ONLY: an extended regular expression of the cases to run; default all.
set -euo pipefail
: "${PYTHON:?a Python with torch, transformers and h5py}"
build=$(realpath "${BUILD:-build/release}")
export KSA=$build/trainer/ksa LOGITS=$build/tests/interop/interop_logits
export OMP_WAIT_POLICY=passive
source tests/e2e/lib.sh
updates=${UPDATES:-200}
common=(--set "training.max_steps=$updates" --set "checkpoint.interval=$updates" --set evaluation.interval=0 --set schedule.warmup_steps=10
        --set schedule.decay_steps=20 --set logging.tensorboard=false --set optimizer.lr=5e-3)

make_corpus
"$PYTHON" tests/interop/compare.py versions
asked() { [[ $1 =~ ^(${ONLY:-.*})$ ]]; }
if asked golden; then
  "$PYTHON" tests/interop/compare.py golden tests/golden
fi

# case NAME LAYOUT CONFIG [ARGUMENTS...]: train, export, compare logits, import again.
case_of() {
  local name=$1 layout=$2 config=$3
  shift 3
  asked "$name" || return 0
  expect_exit 0 train "$name" "$config" "${common[@]}" "$@"
  expect_exit 0 "$KSA" ckpt export-hf "$work/$name" "$work/$name.hf" --layout "$layout" --dtype fp32
  expect_exit 0 "$KSA" ckpt import-hf "$work/$name.hf" --output "$work/$name.back"
  expect_exit 0 "$KSA" ckpt diff "$work/$name" "$work/$name.back"
  "$PYTHON" tests/interop/compare.py logits "$work/$name.hf" "$work/$name" "$layout"
}

case_of ksa_m1 own configs/test/ksa.yaml
case_of ksa_m2 own configs/test/m2.yaml
case_of own_all_m2 own configs/test/own_all.yaml --set model.attention.ksa.summary_tokens=2
case_of shared own configs/test/shared.yaml
case_of shared_tied own configs/test/shared.yaml --set model.tie_word_embeddings=true
case_of inner_chunk own configs/test/inner_chunk.yaml
case_of hybrid_attend own configs/test/hybrid_attend.yaml
case_of hybrid_bypass own configs/test/hybrid_bypass.yaml
case_of mixed_kinds own configs/test/mixed_kinds.yaml
case_of no_qk_norm own configs/test/no_qk_norm.yaml
case_of no_mlp own configs/test/no_mlp.yaml
case_of anneal own configs/test/anneal.yaml --set model.attention.ksa.anneal.end_step=$((2 * updates))
case_of hca own configs/test/hca.yaml
case_of hca_overlap own configs/test/hca.yaml --set model.attention.hca.visibility=overlap --set model.attention.hca.gate=separate --set model.attention.hca.independent_kv=false --set model.attention.hca.compressed_positions=chunk_start
case_of mla own configs/test/mla.yaml
case_of options own configs/test/options.yaml
case_of full_own own configs/test/full.yaml
case_of full qwen3 configs/test/full.yaml
case_of full_tied qwen3 configs/test/full.yaml --set model.tie_word_embeddings=true
case_of swa qwen3 configs/test/swa.yaml

# A random Qwen3 of transformers: as it is, and as KSA.
random_cases() {
  "$PYTHON" tests/interop/compare.py random "$work/qwen3"
  expect_exit 0 "$KSA" ckpt import-hf "$work/qwen3" --output "$work/qwen3.ckpt"
  "$PYTHON" tests/interop/compare.py logits "$work/qwen3" "$work/qwen3.ckpt" random
  cat >"$work/ksa.yaml" <<'YAML'
model:
  vocab_size: 257
  hidden_size: 64
  intermediate_size: 96
  num_hidden_layers: 3
  num_attention_heads: 4
  num_key_value_heads: 2
  head_dim: 32
  rope_theta: 1e6
  max_position_embeddings: 128
  tie_word_embeddings: true
  attention: {pattern: [ksa, full, ksa], ksa: {chunk_size: 4, summary_tokens: 2, window_chunks: 2}}
YAML
  expect_exit 0 "$KSA" ckpt import-hf "$work/qwen3" --output "$work/qwen3_ksa.ckpt" --config "$work/ksa.yaml"
  cat "$work/output"
  expect_exit 0 "$KSA" ckpt export-hf "$work/qwen3_ksa.ckpt" "$work/qwen3_ksa.hf" --dtype fp32
  "$PYTHON" tests/interop/compare.py logits "$work/qwen3_ksa.hf" "$work/qwen3_ksa.ckpt" qwen3-as-ksa
}
if asked random; then
  random_cases
fi

# The released layout and back, then our Python on what came back.
case_released() {
  asked "$1" || return 0
  expect_exit 0 "$KSA" ckpt export-hf "$work/$1" "$work/$1.released" --layout released --dtype fp32
  expect_exit 0 "$KSA" ckpt import-hf "$work/$1.released" --output "$work/$1.from_released"
  expect_exit 0 "$KSA" ckpt export-hf "$work/$1.from_released" "$work/$1.from_released.hf" --dtype fp32
  "$PYTHON" tests/interop/compare.py logits "$work/$1.from_released.hf" "$work/$1" released
}
case_released ksa_m2
case_released hybrid_attend
echo "all that was asked agrees"
