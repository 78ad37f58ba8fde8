#!/usr/bin/env bash
# Layers of hca, of latents, of gdn and with the options of attention on a GPU: five updates in fp32 are the CPU's, within what another order of additions
# and other exponentials may change; twenty in bf16, in one go and with a stop after ten, are equal in bits.
device=cuda
source "$(dirname "$0")/lib.sh"
need_gpu
make_corpus
for kind in hca mla gdn options; do
  config=configs/test/$kind.yaml
  short=(--set training.precision=fp32 --set training.hard_stop=5 --set logging.interval=1 --set checkpoint.interval=1000)
  rm -rf "$work/cpu" "$work/gpu" "$work/whole" "$work/stopped"
  device=cpu train cpu "$config" "${short[@]}" --set run.threads=4 >/dev/null
  train gpu "$config" "${short[@]}" >/dev/null
  for run in cpu gpu; do  # without checkpoints, for comparing metrics alone
    mkdir -p "$work/metrics/$kind/$run"
    cp "$work/$run/metrics.jsonl" "$work/$run/config.resolved.yaml" "$work/metrics/$kind/$run"
  done
  expect_exit 0 "$KSA" compare "$work/metrics/$kind/cpu" "$work/metrics/$kind/gpu" --rtol 1e-4
  train whole "$config" >/dev/null
  train stopped "$config" --set training.hard_stop=10 >/dev/null
  expect_exit 0 train stopped "$config"
  expect_output "resumed from"
  expect_exit 0 "$KSA" compare "$work/whole" "$work/stopped" --assert-equal
  echo "$kind: as the CPU after 5 updates; 20 in one go and with a stop are equal"
done
