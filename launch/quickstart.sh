#!/usr/bin/env bash
# From a bare machine to a trained KSA model: packages, build, corpus, tokens, minutes of training; then samples, the loss
# beside that of counting, by position, and the size of the cache. Started again it goes on where it stopped, and does
# nothing twice.
set -euo pipefail
launch_folder=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'EOF'
usage: launch/quickstart.sh [--control] [--text PATH] [--steps N] [--output DIR]
  --control     also train the same model without summaries (kind sca), and show both by position; doubles the training
  --text PATH   train on this UTF-8 text instead of the manual pages in Debian's package perl-doc: a folder of long
                documents, or one file whose paragraphs are the documents
  --steps N     train for N steps instead of the configuration's number; the schedule is scaled to match
  --output DIR  put the corpus and the runs under DIR (default: runs)
examples:
  launch/quickstart.sh
  launch/quickstart.sh --control
  launch/quickstart.sh --text books --output runs/books
With KSA=PROGRAM in the environment that program is used, and nothing is installed or built.
EOF
}

fail() {
  echo "quickstart: $*" >&2
  exit 1
}

say() {
  printf '\n== %s   [%d:%02d]\n' "$*" $((SECONDS / 60)) $((SECONDS % 60))
}

text="" steps="" output=runs control=false
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --control) control=true; shift; continue ;;
    --text | --steps | --output) [ $# -ge 2 ] || { echo "quickstart: $1 needs a value" >&2; exit 64; } ;;&
    --text) text=$(cd "$launch_folder" && realpath -- "$2") ;;
    --steps) steps=$2 ;;
    --output) output=$2 ;;
    *) echo "quickstart: unknown argument '$1'" >&2; usage >&2; exit 64 ;;
  esac
  shift 2
done
[ -z "$text" ] || [ -e "$text" ] || { echo "quickstart: no such file or folder: $text" >&2; exit 66; }
[[ "$steps" =~ ^([1-9][0-9]*)?$ ]] || { echo "quickstart: --steps wants a number, got '$steps'" >&2; exit 64; }

config=configs/train/quickstart.yaml
ksa=${KSA:-build/release/trainer/ksa}
corpus=$output/corpus/quickstart
tokenizer=$corpus.model
run=$output/quickstart
control_run=$output/quickstart_control

# fetch_manual FOLDER: Perl's manual, a file a page: those of 8 to 200 kB in English, without the long generated lists.
# The package is taken apart, not installed; where it is installed nothing is downloaded.
fetch_manual() {
  local work=$1.download pages
  rm -rf "$work" "$1.part"
  mkdir -p "$work" "$1.part"
  pages=$(dpkg-query --listfiles perl-doc 2>/dev/null | sed -n 's|/perlfunc\.pod$||p') || true
  if [ -z "$pages" ]; then
    download_package "$work" || fail "could not download the package perl-doc: apt's message is above.
Without a network, give the quickstart long documents of your own, 5 MB or more in all: launch/quickstart.sh --text FOLDER"
    dpkg -x "$work"/perl-doc_*.deb "$work"
    pages=$work/usr/share/perl
  fi
  find -L "$pages" -name '*.pod' -size +8k -size -200k ! -name perlcn.pod ! -name perljp.pod ! -name perlko.pod \
    ! -name perltw.pod -exec cp {} "$1.part/" \;
  mv "$1.part" "$1"
  rm -rf "$work"
}

# The package lists of a fresh machine may be empty; root can mend that.
download_package() {
  local get=(apt-get --quiet -o APT::Sandbox::User=root)
  (cd "$1" && "${get[@]}" download perl-doc) && return
  [ "$(id -u)" -eq 0 ] && "${get[@]}" update && (cd "$1" && "${get[@]}" download perl-doc)
}

# What the corpus in place was made from must be what is asked for now.
check_source() {
  local source=$1
  if [ -d "$corpus" ] && [ "$(cat "$corpus.source")" != "$source" ]; then
    fail "$corpus was made from: $(cat "$corpus.source")
and now the text is: $source
Give --output another folder, or remove $corpus, $corpus.*, $run and $control_run"
  fi
  mkdir -p "$(dirname "$corpus")"
  printf '%s\n' "$source" >"$corpus.source"
}

make_corpus() {
  local documents=file
  if [ -n "$text" ]; then
    check_source "$text, $(du -sb -- "$text" | cut -f 1) bytes"
    [ -d "$text" ] || documents=blank-line
  else
    check_source "perl-doc"
    text=$corpus.text
    [ -d "$text" ] || [ -d "$corpus" ] || fetch_manual "$text"
  fi
  if [ -d "$corpus" ]; then  # the folder appears when it is complete, or not at all
    echo "$corpus is there, and used again"
  else
    rm -f "$corpus.inspect.txt" "$tokenizer"
    "$ksa" data train-tokenizer --input "$text" --output "$tokenizer" --vocab-size 2048 --invalid-utf8 replace
    "$ksa" data tokenize --input "$text" --output "$corpus" --tokenizer "$tokenizer" --documents "$documents" \
      --validation-fraction 0.05 --invalid-utf8 replace
  fi
  if [ ! -f "$corpus.inspect.txt" ]; then
    "$ksa" data inspect "$corpus" >"$corpus.inspect.part"
    mv "$corpus.inspect.part" "$corpus.inspect.txt"
  fi
  tail -n 4 "$corpus.inspect.txt"
  echo "(more of it: $corpus.inspect.txt)"
}

# train_into FOLDER ARGUMENTS...
train_into() {
  local folder=$1 arguments
  shift
  arguments=(--set "run.dir=$folder" --set "data.train=[{path: $corpus/train}]"
             --set "data.validation=[{path: $corpus/validation}]" "$@")
  if [ -n "$steps" ]; then
    arguments+=(--set "training.max_steps=$steps" --set "evaluation.interval=$(((steps + 3) / 4))")
  fi
  "$ksa" train "$config" "${arguments[@]}"
}

# number FILE PATTERN: the first number behind a text at the beginning of a line.
number() {
  sed -n "s/^ *$2 *\([0-9.]*\).*/\1/p" "$1" | head -n 1
}

# by_position FILE [FILE]: loss by position as `ksa eval` prints it, of one run, or of two side by side.
by_position() {
  sed -n 's/^\( *[0-9]\{1,\}\) - \([0-9]\{1,\} \)/\1-\2/; /^ *[0-9][-0-9]* .*[0-9]$/p; /^loss [0-9]/p' "$@" | awk -v runs=$# '
    $1 == "loss" { run++; next }
    run == 1 { positions[++rows] = $1 }
    { loss[run, $1] = $(NF - 1) }
    END {
      printf (runs == 1 ? "  %-10s %9s\n" : "  %-10s %9s %9s %9s\n"), "positions", "summaries", "none", "gain"
      for (i = 1; i <= rows; i++) {
        at = positions[i]
        printf "  %-10s %9.4f", at, loss[1, at]
        if (runs == 2) {
          gain = loss[2, at] - loss[1, at]
          printf " %9.4f %9.4f  ", loss[2, at], gain
          for (shown = 0.01; shown <= gain && shown <= 0.3; shown += 0.01) printf "#"
        }
        printf "\n"
      }
    }'
}

if [ -z "${KSA:-}" ]; then
  say "packages and build"
  launch/bootstrap.sh
  echo "packages: all there"
  cmake --preset release >/dev/null
  cmake --build --preset release --parallel "$(nproc)" --target ksa
fi

say "corpus"
make_corpus

say "training (Ctrl-C is safe: start again to go on)"
train_into "$run"
if $control; then
  say "training the control: the same window, no summaries"
  train_into "$control_run" --set "model.attention.pattern=[sca]" --set model.attention.sca.chunk_size=4 \
    --set model.attention.sca.window_chunks=4
fi

say "samples"
for prompt in "=head1 DESCRIPTION" "The following " "This function returns "; do
  "$ksa" generate "$run" --prompt "$prompt" --max-tokens 200 --temperature 0.7 --seed 1
  echo "--"
done

say "result"
files=("$run.eval.txt")
"$ksa" eval "$run" --data "$corpus/validation" >"$run.eval.txt"
if $control; then
  files+=("$control_run.eval.txt")
  "$ksa" eval "$control_run" --data "$corpus/validation" >"$control_run.eval.txt"
fi
echo "loss on held-out text, nats a token:"
inspect=$corpus.inspect.txt
awk -v bigram="$(number "$inspect" bigram)" -v ngram="$(number "$inspect" 4-gram)" \
  -v loss="$(number "$run.eval.txt" loss)" -v none="$($control && number "$control_run.eval.txt" loss)" 'BEGIN {
  printf "  %-34s %.4f\n  %-34s %.4f\n", "counts of pairs", bigram, "counts of 4-grams, Witten-Bell", ngram
  if (none != "") printf "  %-34s %.4f\n", "this model without summaries", none
  printf "  %-34s %.4f, %.3f %s the 4-grams\n", "this model", loss, loss < ngram ? ngram - loss : loss - ngram,
    loss < ngram ? "below" : "above"
}'
printf '\nby position; the text window is 16, behind it there are only summaries:\n'
by_position "${files[@]}"
printf '\n%s\n' "$(grep '^KV cache' "$run.eval.txt")"
cat <<EOF

run folder    $run (log.txt, metrics.jsonl, tensorboard/, checkpoints/)
corpus        $corpus
more samples  $ksa generate $run --prompt "Summary"
go on with    docs/user-guide.md: your own text; $ksa ablate configs/ablate/chunk_size.yaml: what each k costs
EOF
