#!/usr/bin/env bash
# The sweeps and comparisons that the pages show, on a small model and corpus: shortened by one key, and on two ranks.
source "$(dirname "$0")/lib.sh"
make_corpus
sweep=configs/ablate/chunk_size.yaml
# What the lines leave to the size and the corpus of the sweep. Two updates of the 200 of the schedule, and one seed.
small=(--set training.hard_stop=2 --set training.sequence_length=128 --set model.num_hidden_layers=2
       --set model.hidden_size=32 --set model.intermediate_size=32 --set model.num_attention_heads=2
       --set evaluation.batches=1 --set run.device=cpu --set run.threads=1
       --set "data.train=[{path: $work/corpus/train}]" --set "data.validation=[{path: $work/corpus/validation}]")
{ cat docs/ablation.md; "$KSA" ablate --help; } >"$work/shown"
documented() { grep -qF -- "$1" "$work/shown" || fail "neither docs/ablation.md nor the help shows: $1"; }

# ablate FOLDER ARGUMENTS...: the shipped sweep, its cells in FOLDER.
ablate() {
  local folder=$1
  shift
  sed -e "s|^name:|dir: $work/$folder\nname:|" -e "s|base: \.\./|base: $PWD/configs/|" \
    -e 's|run.seed: \[.*|run.seed: [1]|' "$sweep" >"$work/$folder.yaml"
  "$KSA" ablate "$work/$folder.yaml" "${small[@]}" "$@"
}
# all_done FOLDER: every cell of the sweep in it has a result, and there are several.
all_done() {
  expect_exit 0 ablate "$1" --list
  local cells
  cells=$(grep -oE '[0-9]+ cells in' "$work/output" | cut -d' ' -f1)
  [ "$cells" -ge 4 ] || { cat "$work/output" >&2; fail "the sweep has $cells cells"; }
  [ "$(grep -cE '(,|")done,' "$work/$1/table.csv")" -eq "$cells" ] || { cat "$work/$1/table.csv" >&2; fail "not every cell is done"; }
}
# resolved FOLDER LINE: of the cell with full attention.
resolved() { grep -q "$2" "$work/$1"/*full*/config.resolved.yaml || fail "the full cell of $1 lacks $2"; }

documented "ksa ablate $sweep --set training.max_steps=200"
expect_exit 0 ablate short --set training.max_steps=200
all_done short
resolved short 'max_steps: 200'
documented "ksa ablate $sweep --launcher \"mpirun -np 2 --bind-to none\""
expect_exit 0 ablate ranks --launcher "mpirun -np 2 --bind-to none --oversubscribe"
all_done ranks
resolved ranks ' data: 2'

# The lines of `ksa compare --help` and the guide with --rtol hold for the runs that they speak of: one configuration on
# one rank and on two, 20 updates.
train one_rank configs/test/ksa.yaml >/dev/null
train_ranks 2 two_ranks configs/test/ksa.yaml >/dev/null
mkdir -p "$work/there/runs"
ln -s "$work/one_rank" "$work/two_ranks" "$work/there/runs"
"$KSA" compare --help >"$work/help"
grep -hE '^ *ksa compare .*--rtol' "$work/help" docs/*.md | sed 's/ *#.*//' | sort -u >"$work/lines"
[ "$(wc -l <"$work/lines")" -ge 1 ] || fail "no line with --rtol is shown"
cd "$work/there"
while read -r _ arguments; do
  # shellcheck disable=SC2086
  expect_exit 0 "$KSA" $arguments
done <"$work/lines"
expect_exit 2 "$KSA" compare runs/one_rank runs/two_ranks --assert-equal
