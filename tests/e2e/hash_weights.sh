#!/usr/bin/env bash
# hash_weights.sh CORPUS OUT: what a change of the code must leave alone, in bits. Trains every configuration of
# configs/test for 50 updates on the CPU, in fp32 and fp64, and some of them on two ranks, and writes the XXH3 of every
# tensor of every last checkpoint to OUT, a line each. device=cuda: on one GPU in fp32 and bf16, with heads of 64, which
# its tensor-core kernels take. Run with the program before (KSA=...) and with the one after, on
# one machine, with one corpus (`ksa data tokenize`) and the same configurations; then `diff`. No test: other
# processors and BLAS kernels add in another order.
set -euo pipefail
: "${KSA:?the path of the ksa program}"
corpus=${1:?"usage: hash_weights.sh CORPUS OUT"}
out=${2:?"usage: hash_weights.sh CORPUS OUT"}
device=${device:-cpu}
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none
: >"$out"

# hash NAME RANKS CONFIG [--set key=value]...
hash() {
  local name=$1 ranks=$2 config=$3 launcher=()
  shift 3
  [ "$ranks" -eq 1 ] || launcher=(mpirun --oversubscribe --bind-to none -np "$ranks")
  "${launcher[@]}" "$KSA" train "$config" --set "run.dir=$runs/$name" --set "run.device=$device" --set run.threads=1 \
    --set "data.train=[{path: $corpus/train}]" --set "data.validation=[{path: $corpus/validation}]" \
    --set training.max_steps=50 --set checkpoint.interval=50 "$@" >"$runs/log" 2>&1 ||
    { cat "$runs/log" >&2; echo "$name failed" >&2; return 1; }
  python3 - "$runs/$name"/checkpoints/step_00000050/manifest.json "$name" >>"$out" <<'PYTHON'
import json, sys
for tensor in json.load(open(sys.argv[1]))["tensors"]:
    for piece in tensor["pieces"]:
        print(sys.argv[2], tensor["name"], piece["offset"], piece["flat"], piece["xxh3"])
PYTHON
  rm -rf "${runs:?}/$name"
}

precisions=(fp32 fp64) heads=()
if [ "$device" = cuda ]; then
  precisions=(fp32 bf16) heads=(--set model.head_dim=64)
fi
for config in configs/test/*.yaml; do
  name=$(basename "$config" .yaml)
  ranks=$(awk '/^parallel:/ { inside = 1 } inside && $1 == "data:" { print $2 }' "$config")
  if [ "$device" = cuda ] && { [ "${ranks:-1}" -gt 1 ] || ! "$KSA" check "$config" --set run.device=cuda >/dev/null 2>&1; }; then
    echo "$name is left out: one GPU does not train it"
    continue
  fi
  for precision in "${precisions[@]}"; do
    hash "$name,$precision" "${ranks:-1}" "$config" --set "training.precision=$precision" ${heads[@]+"${heads[@]}"}
  done
done
[ "$device" = cpu ] || exit 0
for config in ksa mixed_kinds hybrid_attend hybrid_bypass documents own_all; do
  for axis in tensor context; do
    hash "$config,$axis" 2 "configs/test/$config.yaml" --set "parallel.$axis=2"
  done
done
hash bf16 1 configs/test/bf16.yaml
