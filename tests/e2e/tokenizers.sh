#!/usr/bin/env bash
# Tokenizers that others trained, from text to generated text: a tokenizer.json and a rank file.
source "$(dirname "$0")/lib.sh"
find docs -name '*.md' | sort | xargs cat >"$work/text.txt"
echo 'A text with <|endoftext|> and <think> in it.' >>"$work/text.txt"
given=tests/data/tokenizers

# documents NAME: the shards' number of tokens and documents, and the tokenizer's line.
documents() {
  expect_exit 0 "$KSA" data inspect "$work/$1"
  grep -m1 -o '[0-9]* tokens, [0-9]* documents' "$work/output"
}

for file in qwen2.json small.tiktoken; do
  mkdir -p "$work/$file.d"
  name=tokenizer.${file##*.}
  cp "$given/$file" "$work/$file.d/$name"
  corpus=$work/$file.corpus
  expect_exit 0 "$KSA" data tokenize --input "$work/text.txt" --output "$corpus" --tokenizer "$work/$file.d/$name" \
    --documents blank-line --validation-fraction 0.1
  cmp "$given/$file" "$corpus/train/$name" || fail "the shards' tokenizer is not the one that was given"
  expect_exit 0 "$KSA" data verify "$corpus/train"
  expect_exit 0 "$KSA" data inspect "$corpus"
  expect_output "bigram"
  expect_exit 0 "$KSA" data inspect "$corpus/train" --document 0 --tokens 100000
  # A model of a few rows more than the tokenizer has tokens, as usual: no sample of it may be one of those.
  expect_exit 0 "$KSA" train configs/test/ksa.yaml --set run.dir="$work/$file.run" --set model.vocab_size=512 \
    --set "data.train=[{path: $corpus/train}]" --set "data.validation=[{path: $corpus/validation}]"
  cmp "$given/$file" "$work/$file.run/$name" || fail "the run's tokenizer is not the one that was given"
  expect_exit 0 "$KSA" ckpt verify "$work/$file.run"
  expect_exit 0 "$KSA" eval "$work/$file.run" --data "$corpus/validation"
  expect_exit 0 "$KSA" generate "$work/$file.run" --prompt 'The window ' --max-tokens 60 --temperature 3
  expect_output "The window "
done

# Every document comes back; the two files are one tokenizer but for <think>.
expect_exit 0 "$KSA" data tokenize --input "$work/text.txt" --output "$work/whole" --tokenizer "$given/qwen2.json" --documents file
expect_exit 0 "$KSA" data inspect "$work/whole" --tokens 100000000
tail -n +1 "$work/text.txt" >"$work/expected"
python3 - "$work/output" "$work/expected" <<'END' || fail "the text does not come back"
import sys
output, expected = (open(name, encoding="utf-8").read() for name in sys.argv[1:])
sys.exit(expected not in output)
END

# Special tokens in text are text, unless they are asked for; and byte has none.
text=$(documents whole)
expect_exit 0 "$KSA" data tokenize --input "$work/text.txt" --output "$work/special" --tokenizer "$given/qwen2.json" \
  --documents file --special-tokens
[ "$(documents special)" != "$text" ] || fail "--special-tokens changed nothing"
expect_exit 64 "$KSA" data tokenize --input "$work/text.txt" --output "$work/never" --tokenizer byte --special-tokens
expect_output "--special-tokens"

# One that is not understood is refused by name, before anything is written.
sed 's/"type":"BPE"/"type":"WordPiece"/' "$given/qwen2.json" >"$work/other.json"
expect_exit 65 "$KSA" data tokenize --input "$work/text.txt" --output "$work/never" --tokenizer "$work/other.json"
expect_output "model.type: 'WordPiece'"
[ ! -e "$work/never" ] || fail "an output of a refused tokenizer"
# Data of one tokenizer is not evaluated with the model of another.
expect_exit 65 "$KSA" eval "$work/qwen2.json.run" --data "$work/small.tiktoken.corpus/validation"
expect_output "tokenizer"
