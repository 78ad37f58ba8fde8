#!/usr/bin/env bash
# From a bare machine to a trained KSA model: packages, build, corpus, tokens, 3-5 minutes of training, a sample.
# Started again it goes on where it stopped, and does nothing twice.
set -euo pipefail
launch_folder=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'EOF'
usage: launch/quickstart.sh [--text FILE] [--steps N] [--output DIR]
  --text FILE   train on this UTF-8 text instead of the dictionary in Debian's package dict-gcide
  --steps N     train for N steps instead of the configuration's number; the schedule is scaled to match
  --output DIR  put the corpus and the run under DIR (default: runs)
examples:
  launch/quickstart.sh
  launch/quickstart.sh --text novel.txt --output runs/novel
EOF
}

fail() {
  echo "quickstart: $*" >&2
  exit 1
}

say() {
  printf '\n== %s\n' "$*"
}

text=""
steps=""
output=runs
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) usage; exit 0 ;;
    --text|--steps|--output) [ $# -ge 2 ] || { echo "quickstart: $1 needs a value" >&2; exit 64; } ;;&
    --text) text=$(cd "$launch_folder" && realpath -- "$2") ;;
    --steps) steps=$2 ;;
    --output) output=$2 ;;
    *) echo "quickstart: unknown argument '$1'" >&2; usage >&2; exit 64 ;;
  esac
  shift 2
done
[ -z "$text" ] || [ -f "$text" ] || { echo "quickstart: no such file: $text" >&2; exit 66; }
[[ "$steps" =~ ^([1-9][0-9]*)?$ ]] || { echo "quickstart: --steps wants a number, got '$steps'" >&2; exit 64; }

config=configs/train/quickstart.yaml
ksa=build/release/trainer/ksa
corpus=$output/corpus/quickstart
run=$output/quickstart

# fetch_dictionary FILE: the Collaborative International Dictionary of English, 40 MB of text, unpacked from Debian's
# package without installing it.
fetch_dictionary() {
  local work=$1.download archive=/usr/share/dictd/gcide.dict.dz
  if [ ! -f "$archive" ]; then
    rm -rf "$work"
    mkdir -p "$work"
    download_package "$work" || fail "could not download the package dict-gcide: apt's message is above.
Without a network, give the quickstart a text of your own, 20 MB or more: launch/quickstart.sh --text FILE"
    dpkg -x "$work"/dict-gcide_*.deb "$work"
    archive=$work$archive
  fi
  gzip -dc <"$archive" >"$1.part"
  mv "$1.part" "$1"
  rm -rf "$work"
}

# The package lists of a fresh machine may be empty; root can mend that.
download_package() {
  local get=(apt-get --quiet -o APT::Sandbox::User=root)
  (cd "$1" && "${get[@]}" download dict-gcide) && return
  [ "$(id -u)" -eq 0 ] && "${get[@]}" update && (cd "$1" && "${get[@]}" download dict-gcide)
}

# What the corpus in place was made from must be what is asked for now.
check_source() {
  local source=$1
  if [ -d "$corpus" ] && [ "$(cat "$corpus.source")" != "$source" ]; then
    fail "$corpus was made from: $(cat "$corpus.source")
and now the text is: $source
Give --output another folder, or remove $corpus, $corpus.* and $run"
  fi
  mkdir -p "$(dirname "$corpus")"
  printf '%s\n' "$source" >"$corpus.source"
}

say "packages and build"
launch/bootstrap.sh
cmake --preset release >/dev/null
cmake --build --preset release --parallel "$(nproc)" --target ksa

say "corpus"
if [ -n "$text" ]; then
  check_source "$text, $(stat -c '%s bytes' -- "$text")"
else
  check_source "dict-gcide"
  text=$corpus.txt
  [ -f "$text" ] || fetch_dictionary "$text"
fi
echo "$text: $(stat -c %s -- "$text") bytes"
if [ ! -d "$corpus" ]; then  # the folder appears when it is complete, or not at all
  rm -f "$corpus.inspect.txt"
  "$ksa" data tokenize --input "$text" --output "$corpus" --tokenizer byte --documents blank-line \
    --validation-fraction 0.01 --invalid-utf8 replace
fi
if [ ! -f "$corpus.inspect.txt" ]; then
  "$ksa" data inspect "$corpus" >"$corpus.inspect.part"
  mv "$corpus.inspect.part" "$corpus.inspect.txt"
fi
cat "$corpus.inspect.txt"

say "training (Ctrl-C is safe: start again to go on)"
arguments=(--set "run.dir=$run" --set "data.train=[{path: $corpus/train}]"
           --set "data.validation=[{path: $corpus/validation}]")
if [ -n "$steps" ]; then
  arguments+=(--set "training.max_steps=$steps" --set "schedule.warmup_steps=$((steps / 20))"
              --set "schedule.decay_steps=$((steps / 4))" --set "evaluation.interval=$(((steps + 9) / 10))")
fi
"$ksa" train "$config" "${arguments[@]}"

say "samples"
for prompt in "Ocean" "To make" "A kind of"; do
  "$ksa" generate "$run" --prompt "$prompt" --max-tokens 200 --temperature 0.7 --seed 1
  echo
done

say "result"
floor=$(sed -n 's/^  bigram *\([0-9.]*\) nats a token$/\1/p' "$corpus.inspect.txt" | tail -n 1)
loss=$(sed -n 's/.*"validation_loss":{"[^"]*":\([0-9.e+-]*\).*/\1/p' "$run/metrics.jsonl" | tail -n 1)
awk -v loss="$loss" -v floor="$floor" 'BEGIN {
  printf "validation loss %.3f nats a token, %.3f %s the bigram floor of %.3f\n", loss,
    loss < floor ? floor - loss : loss - floor, loss < floor ? "below" : "above", floor
}'
cat <<EOF
run folder:   $run (log.txt, metrics.jsonl, tensorboard/, checkpoints/)
corpus:       $corpus
more samples: $ksa generate $run --prompt "Summary"
EOF
