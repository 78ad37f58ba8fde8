#!/usr/bin/env bash
# A small quickstart on four ranks, data 2 x context 2, started by launch/mpirun.sh; killed, and resumed on tensor 2. Its
# loss curve beside that of one rank, which was never killed.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/train/quickstart.yaml
small=(--set training.max_steps=40 --set training.micro_batch_size=1 --set schedule.warmup_steps=10
       --set schedule.decay_steps=15 --set optimizer.lr=1e-3 --set logging.interval=1 --set checkpoint.interval=5
       --set evaluation.interval=20 --set evaluation.batches=4 --set model.num_hidden_layers=4 --set run.threads=1)

# on_mesh RANKS ARGUMENTS...: the run `mesh` on so many ranks.
on_mesh() {
  local ranks=$1 arguments
  shift
  mapfile -t arguments < <(options mesh)
  exec launch/mpirun.sh --ranks "$ranks" --device cpu "$KSA" train "$config" "${arguments[@]}" "${small[@]}" "$@"
}
export -f on_mesh options
export KSA config work

train one "$config" "${small[@]}" >/dev/null
declare -p small >"$work/small"
# shellcheck disable=SC2016  # expanded by the inner shell
kill_after 15 mesh bash -c 'source "$work/small"; on_mesh 4 --set parallel.context=2'
grep -q "4 rank(s): data 2 x context 2 x tensor 1" "$work/mesh/log.txt" || fail "the first part did not run on data 2 x context 2"
echo "killed after $(steps_written mesh) updates on data 2 x context 2"
(expect_exit 0 on_mesh 2 --set parallel.tensor=2)
grep -q "2 rank(s): data 1 x context 1 x tensor 2" "$work/mesh/log.txt" || fail "the second part did not run on tensor 2"
grep "resumed from" "$work/mesh/log.txt"

mkdir -p "$work/curve/one" "$work/curve/mesh"
for run in one mesh; do
  cp "$work/$run/metrics.jsonl" "$work/$run/config.resolved.yaml" "$work/curve/$run"
done
same_metrics "$work/curve/one" "$work/curve/mesh"
cat "$work/output"
