#!/usr/bin/env bash
# sanitizer.sh TOOL: tests of small shapes, every kernel family and a whole model, under compute-sanitizer's memcheck or
# racecheck. GPU_TEST, GPU_MODEL_TEST: the test programs. Exit code 77 (skipped) without a GPU or without the tool.
set -euo pipefail
tool=${1:?"usage: sanitizer.sh memcheck|racecheck"}
if ! nvidia-smi --list-gpus 2>/dev/null | grep -q '^GPU '; then
  echo "SKIPPED: no GPU here (nvidia-smi --list-gpus names none)"
  exit 77
fi
if ! command -v compute-sanitizer >/dev/null; then
  echo "SKIPPED: compute-sanitizer is not in the PATH; it comes with the CUDA toolkit"
  exit 77
fi

operations='GpuElementwise.ZeroAddAndAxpby:GpuElementwise.SumOfSquaresShows*:GpuEmbedding.ReadsItsRow
GpuEmbedding.GradientAddsUp:GpuEmbedding.Foreign*:GpuGemmTest.TakesUnaligned*:GpuGemmTest.EmptyResults*
GpuLossTest.Writes*:GpuLossTest.ATarget*:GpuLossTest.NoRows:GpuVocabularyShardTest.Only*
GpuTableShard.Only*:GpuNorm.ResidualIs*:GpuNorm.Unaligned*:GpuAdamW.Ranges*
GpuAdamW.Skips*:GpuOptimizer.*:GpuRope.RowsFrom*:GpuRope.Documents*:GpuSwiglu.LargeInputs*
Paths/AttentionGpu.Heads/Plain:Paths/AttentionGpu.Heads/Mma:Paths/AttentionGpu.Heads/Wgmma
Paths/AttentionGpu.Documents/Mma:Paths/AttentionGpu.Documents/Wgmma:Paths/AttentionGpu.ManyTiles/Wgmma
Paths/AttentionGpu.PartsThatAreEmpty/Mma:Paths/AttentionGpu.AnyRangeOfQueries/Wgmma:GpuColumnBlock.*
GpuShortConv.PartsRead*:GpuPool.DocumentsAndParts:GpuPool.LargeLogits:GpuLatentHeads.*'
failed=0
report=$(mktemp)
trap 'rm -f "$report"' EXIT
# watch PROGRAM FILTER. The next program runs in any case, so that one call shows all there is.
#
# racecheck also reports races within cuBLAS's split-K kernels, which are not ours to mend: only what names a kernel of
# ours counts. (Its own filter by kernel makes programs fail that call cuBLAS.)
watch() {
  local run=("$1" --gtest_filter="$2" --gtest_brief=1)
  if [[ $tool == racecheck ]]; then
    compute-sanitizer --tool racecheck --print-limit 1000 "${run[@]}" >"$report" 2>&1 || failed=1
    awk 'NR <= 300 { print substr($0, 1, 400) }' "$report"
    if grep -qE '(Race reported|and (Read|Write) access).* ksa::' "$report"; then
      failed=1
    fi
  else
    compute-sanitizer --tool "$tool" --error-exitcode 1 --print-limit 20 "${run[@]}" || failed=1
  fi
}
watch "${GPU_TEST:?"the program gpu_test"}" "$(tr '\n' ':' <<<"$operations")"
model='GpuModelTest.DeadSummaries*'
if [[ $tool != racecheck ]]; then  # which watches cuBLAS too: minutes for an update
  model+=':GpuTrainingTest.WhatIsNotFinite*'
fi
watch "${GPU_MODEL_TEST:?"the program gpu_model_test"}" "$model"
exit "$failed"
