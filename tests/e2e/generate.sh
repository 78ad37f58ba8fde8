#!/usr/bin/env bash
# Decoding as a user sees it: prompts from everywhere, where texts end, what is said beside them, what is refused.
source "$(dirname "$0")/lib.sh"
make_corpus
run=$work/run
train run configs/test/ksa.yaml >/dev/null

# refused CODE TEXT ARGUMENTS...: and no text is printed.
refused() {
  local code=$1 text=$2
  shift 2
  expect_exit "$code" "$KSA" generate "$run" --max-tokens 3 "$@"
  expect_output "$text"
}

# Texts are on standard output alone, speed and cache on standard error.
texts "$work/one" "$run" --prompt "The run" --max-tokens 30 --seed 3
[ "$(head -c 7 "$work/one")" = "The run" ] || fail "the text does not begin with its prompt"
grep -Eq '^ksa: [0-9]+ tokens behind 7 of prompts, [0-9.]+ tokens/s ' "$work/said" || fail "no speed"
grep -Eq '^ksa: cache for 1 x 37 tokens in fp32: [0-9.]+ [KM]iB; full attention' "$work/said" || fail "no cache"

# Decoding is what whole passes give: kinds, options, windows that end. The cut of a context too: one prompt nearly fills the
# 48 positions, so that it comes soon, whatever the weights make of the others.
for config in ksa hybrid_bypass m2 mixed_kinds hca mla options short_chunk; do
  train "$config" "configs/test/$config.yaml" --set training.max_steps=2 --set schedule.warmup_steps=0 \
    --set schedule.decay_steps=0 --set evaluation.interval=0 >/dev/null
  expect_exit 0 "$KSA" generate "$work/$config" --prompt "The run" --prompt "" --prompt "Documents of" \
    --prompt "$(tr -d '\n' <"$work/text.txt" | cut -c 1-47)" --max-tokens 90 --recompute --seed 5
  expect_output "differ from those of whole passes by at most"
  expect_output "and was cut to its last"
done

# A batch is what its prompts give by themselves; the first keeps its samples.
printf 'The run\nDocuments\r\n' >"$work/prompts"
texts "$work/batch" "$run" --prompts "$work/prompts" --prompt "Shards" --max-tokens 2e1 --temperature 0
for prompt in "Shards" "The run" "Documents"; do
  texts "$work/alone" "$run" --prompt "$prompt" --max-tokens 20 --temperature 0
  printf '==> text %d of 3 <==\n' "$((number = ${number:-0} + 1))"
  cat "$work/alone"
  [ "$number" -eq 3 ] || echo
done >"$work/expected"
cmp "$work/batch" "$work/expected" || fail "a batch gives other texts"
texts "$work/batch" "$run" --prompt "The run" --prompt "The run" --max-tokens 30 --seed 3
head -n $(($(wc -l <"$work/one") + 1)) "$work/batch" | tail -n +2 | cmp - "$work/one" ||
  fail "the first of several texts has other samples"
python3 -c "
import sys
first, second = open('$work/batch', 'rb').read().split(b'==> text 2 of 2 <==\n')
sys.exit(first.split(b'<==\n')[1].strip() == second.strip())" || fail "equal prompts have equal samples"

# Tensor ranks: the same texts and one rank that prints them, the caches' bytes together and on each.
texts "$work/alone" "$run" --prompt "The run" --prompt "Documents" --max-tokens 20 --temperature 0
mpirun --oversubscribe --bind-to none -np 2 "$KSA" generate "$run" --prompt "The run" --prompt "Documents" \
  --max-tokens 20 --temperature 0 --recompute --threads 1 >"$work/two" 2>"$work/said" || fail "$(cat "$work/said")"
cmp "$work/two" "$work/alone" || fail "two ranks print other texts than one"
grep -q 'differ from those of whole passes by at most' "$work/said" || fail "no check"
grep -Eq '^ksa: cache for 2 x 29 tokens in fp32: .* on 2 ranks, .* on each; full' "$work/said" ||
  fail "no cache: $(cat "$work/said")"
expect_exit 78 mpirun --oversubscribe --bind-to none -np 3 "$KSA" generate "$run" --prompt "The run" --threads 1
expect_output "num_attention_heads"

# Tokens in place of text.
texts "$work/ids" "$run" --prompt-ids 84,104,101 --max-tokens 4 --temperature 0
grep -Eqx '84,104,101(,[0-9]+){0,4}' "$work/ids" || fail "$(cat "$work/ids"): no ids"

# Where texts end. The text of a small model may lack what one can stop at: then that of the next seed.
for seed in $(seq 3 40); do
  texts "$work/whole" "$run" --prompt "The run" --max-tokens 40 --seed "$seed"
  stop=$(python3 - "$work/whole" <<'PYTHON'
import sys

# Something to stop at: the last visible character that the text has and its prompt has not.
text = open(sys.argv[1], encoding="utf-8", errors="replace", newline="").read()[7:]
print(([""] + [c for c in text if c.isascii() and c.isalnum() and c not in "Therun"])[-1])
PYTHON
  )
  [ -z "$stop" ] || break
done
[ -n "$stop" ] || fail "no text has anything to stop at"
texts "$work/stopped" "$run" --prompt "The run" --max-tokens 40 --seed "$seed" --stop nowhere --stop "$stop"
python3 - "$work/stopped" "$work/whole" "$stop" <<'PYTHON' || fail "the text does not end before '$stop'"
import sys

stopped, whole = (open(path, encoding="utf-8", errors="replace", newline="").read() for path in sys.argv[1:3])
sys.exit(stopped != whole[:whole.index(sys.argv[3], 7)] + "\n")
PYTHON
texts "$work/never" "$run" --prompt "The run" --max-tokens 40 --seed "$seed" --stop "never there"
cmp "$work/never" "$work/whole" || fail "a stop text that never comes changes the text"
grep -qF "text 1: no --stop text came" "$work/said" || fail "nobody says that no stop text came"
texts "$work/nothing" "$run" --prompt "The run" --max-tokens 0
[ "$(cat "$work/nothing")" = "The run" ] || fail "no token is a token"
texts "$work/cut" "$run" --prompt "$(head -c 300 "$work/text.txt")" --max-tokens 2 --recompute
grep -qF "tokens, the model positions for 48: the last 48 are its context" "$work/said" || fail "a prompt was cut in silence"

# What is refused.
refused 64 "nothing to continue: give --prompt TEXT, --prompts FILE or --prompt-ids I,J,..."
refused 64 "expected ids between commas, such as 17,4,250, got ''" --prompt-ids=
refused 64 "expected ids between commas, such as 17,4,250, got 'x'" --prompt-ids 1,x
refused 65 "the vocabulary has the ids 0 to 256, not 257" --prompt-ids 1,257
refused 65 "--prompt: not UTF-8 (byte 1 of it)" --prompt $'a\xff'
printf 'good\nb\xc3\n' >"$work/bad"
refused 65 "$work/bad:2: not UTF-8 (byte 1 of it)" --prompts "$work/bad"
: >"$work/empty"
refused 65 "$work/empty: an empty file; expected a prompt a line" --prompts "$work/empty"
refused 66 "$work/absent" --prompts "$work/absent"
refused 64 "--stop: expected a text in UTF-8 of at least one character" --prompt a --stop=
refused 64 "--temperature: expected a number, at least 0, got 'nan'" --prompt a --temperature nan
refused 64 "--top-p: expected a number from 0 to 1, got '2'" --prompt a --top-p 2

# More than memory holds: said before it is taken, with a table.
train long configs/test/full.yaml --set training.max_steps=1 --set schedule.warmup_steps=0 --set schedule.decay_steps=0 \
  --set evaluation.interval=0 --set model.max_position_embeddings=1048576 >/dev/null
for _ in $(seq 4000); do echo "The run"; done >"$work/many"
expect_exit 71 "$KSA" generate "$work/long" --device cpu --prompts "$work/many" --max-tokens 1000000
expect_output "decoding 4000 sequences of up to 1000007 tokens needs"
expect_output "caches of a sequence of 1000007 tokens"
expect_output "give fewer prompts at a time"
