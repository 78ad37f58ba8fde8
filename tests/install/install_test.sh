#!/usr/bin/env bash
# cmake --install into an empty folder: what is there, and that it works away from the tree.
source "$(dirname "$0")/../e2e/lib.sh"
stage=$work/stage
cmake --install "${BUILD:?the build folder}" --prefix "$stage" >"$work/output" 2>&1 || { cat "$work/output" >&2; fail "cmake --install"; }
ksa=$stage/bin/ksa share=$stage/share/ksa docs=$stage/share/doc/ksa
for file in "$ksa" "$share/launch/mpirun.sh" "$share/launch/supervise.sh" "$share/launch/slurm.sbatch" \
  "$share/configs/train/quickstart.yaml" "$share/configs/model/ksa_1b9.yaml" "$docs/README.md" "$docs/LICENSE" \
  "$docs/docs/user-guide.md" "$docs/docs/design/README.md"; do
  [ -s "$file" ] || fail "not installed: ${file#"$stage"/}"
done
for file in "$ksa" "$share"/launch/*; do [ -x "$file" ] || fail "cannot be executed: ${file#"$stage"/}"; done
for file in "$stage/include" "$stage/lib" "$share/configs/test" "$share/launch/test.sh"; do
  [ ! -e "$file" ] || fail "installed, and should not be: ${file#"$stage"/}"
done
! grep -rqs "$PWD" "$share" || fail "the scripts name the tree"

# Away from the tree.
make_corpus
cd "$work"
expect_exit 0 "$ksa" --version
expect_exit 0 "$ksa" check "$share/configs/train/quickstart.yaml" --no-data
small=(--set model.num_hidden_layers=2 --set model.hidden_size=16 --set model.intermediate_size=16 --set model.num_attention_heads=2
       --set model.num_key_value_heads=2 --set model.head_dim=8 --set training.sequence_length=64 --set run.device=cpu
       --set 'data.train=[{path: corpus/train}]' --set 'data.validation=[]' --set schedule.warmup_steps=0
       --set training.max_steps=2 --set schedule.decay_steps=1 --set run.dir=run)
expect_exit 0 "$share/launch/supervise.sh" --run run -- "$share/launch/mpirun.sh" --ranks 2 --device cpu -- \
  "$ksa" train "$share/configs/train/quickstart.yaml" "${small[@]}"
expect_exit 0 "$ksa" ckpt verify run
