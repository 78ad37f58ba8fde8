#!/usr/bin/env bash
# log.txt holds who ran what where, everything that was printed, and why a run ended; colours are for terminals.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
log=$work/run/log.txt

# A header, then what was printed, line by line.
expect_exit 0 train run "$config" --set training.hard_stop=10
[ "$(head -n 1 "$log" | cut -c 1-6)" = "# $(date +%Y)" ] || fail "the log does not begin with the date: $(head -n 1 "$log")"
grep -qF "$("$KSA" --version), start 1 of this run" <(head -n 1 "$log") || fail "the first line lacks the program: $(head -n 1 "$log")"
command=$(sed -n 's/^# command: //p' "$log")
grep -qxF "# in: $PWD" "$log" || fail "the header lacks the folder"
grep -qE "^# host: .+, process [0-9]+$" "$log" || fail "the header lacks the host"
grep -qE "^# devices: 1 rank on cpu, [0-9]+ threads? a rank$" "$log" || fail "the header lacks the devices"
grep -v '^#' "$log" | diff - "$work/output" >&2 || fail "the log is not what was printed"

# The command of the header is the command: it says the same again, and the log has a second header behind an empty line.
lines=$(wc -l <"$log")
expect_exit 0 bash -c "$command"
[ -z "$(sed -n "$((lines + 1))p" "$log")" ] || fail "the second header does not stand apart"
sed -n "$((lines + 2))p" "$log" | grep -q "start 2 of this run" || fail "the second start has no header"
[ "$(sed -n 's/^# command: //p' "$log" | sort -u)" = "$command" ] || fail "the same command is another one in the log"
tail -n +$((lines + 2)) "$log" | grep -v '^#' | diff - "$work/output" >&2 || fail "the second start's log is not what was printed"

# Warnings of the configuration, and the error that ends a run.
expect_exit 70 train diverges "$config" --set optimizer.lr=1e30 --set optimizer.clip_grad_norm=0 --set optimizer.min_lr=1e29 \
  --set data.validation=[] --set schedule.warmup_steps=0
expect_output "warning: $config: evaluation.interval"
grep -q "^warning: $config: evaluation.interval" "$work/diverges/log.txt" || fail "the log lacks the warning"
grep -q "^error: training diverged at update" "$work/diverges/log.txt" || fail "the log does not say why the run ended"

# Pipes and files have no colours, unless they are asked for, and then on both sides of the command's name.
escape=$(printf '\033')
if grep -q "$escape" "$work/output"; then fail "colours in a file"; fi
for arguments in "--color always train" "train --color=always"; do
  # shellcheck disable=SC2086  # words
  expect_exit 66 "$KSA" $arguments "$work/none.yaml"
  expect_output "${escape}[1;31mksa:${escape}[0m"
done
expect_exit 64 "$KSA" --color sometimes check "$config"
if grep -q "$escape" "$log"; then fail "colours in the log"; fi
