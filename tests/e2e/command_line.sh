#!/usr/bin/env bash
# Help screens and messages of the command line, of every command.
source "$(dirname "$0")/lib.sh"
commands=$("$KSA" completion bash | sed -n 's/^# Commands: //p')
[ "$(tr ';' '\n' <<<"$commands" | wc -l)" -ge 18 ] || fail "commands are missing: $commands"

# screen NAME: the help of a command is readable at 80 columns, shows words instead of the parser's terms, and examples.
screen() {
  local path
  read -ra path <<<"$1"
  expect_exit 0 "$KSA" "${path[@]}" --help
  expect_output "usage: ksa"
  if awk 'length($0) > 80 { exit 1 }' "$work/output"; then :; else cat "$work/output" >&2; fail "ksa $1 --help: over 80 columns"; fi
  if grep -E 'ENUM|BOOLEAN|:INT|UINT|FLOAT|REQUIRED|Excludes|->[0-9]|\{false\}' "$work/output"; then
    fail "ksa $1 --help: the parser's words"
  fi
}

export LC_ALL=C.UTF-8
screen ""
expect_output "From text to a model"
for group in data ckpt bench; do
  screen "$group"
  expect_exit 64 "$KSA" "$group"
  expect_output "\`ksa $group\` needs a command"
done
while read -r command; do
  screen "$command"
  expect_output "Example"
  expect_exit 64 "$KSA" $command --frobnicate
  expect_output "ksa $command has no option '--frobnicate'"
done < <(tr ';' '\n' <<<"$commands" | sed 's/^ *//')

expect_exit 64 "$KSA"
expect_output "usage: ksa COMMAND"
expect_exit 0 "$KSA" help data tokenize
expect_output "usage: ksa data tokenize"
expect_exit 64 "$KSA" trian config.yaml
expect_output "ksa: unknown command 'trian'; did you mean 'ksa train'?"
expect_exit 64 "$KSA" train config.yaml --dryrun
expect_output "did you mean '--dry-run'?"
expect_exit 64 "$KSA" data tokenize --input a --output b --tokenizer byte --documents lines
expect_output "--documents: expected line, file or blank-line, got 'lines'; did you mean 'line'?"
expect_exit 64 "$KSA" generate runs/x --prompt a --threads 0
expect_output "--threads: expected a whole number from 1 to 1024, got '0'"
expect_exit 64 "$KSA" train a.yaml b.yaml
expect_output "unexpected argument 'b.yaml'"
expect_exit 64 "$KSA" check
expect_output "ksa check needs CONFIG|SWEEP"
