#!/usr/bin/env bash
# Updates that are skipped: named with their samples, the same on every rank and after a resume, and so many in a row at most.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
# A factor just above 1 takes many updates for spikes.
spikes=(--set training.max_steps=40 --set checkpoint.interval=5 --set training.spike_factor=1.05 --set training.max_skips=39)
skipped() { grep -o "update [0-9]* was skipped" "$work/$1/log.txt" | sort -u -V; }

expect_exit 0 train straight "$config" "${spikes[@]}"
skipped straight >"$work/straight.skips"
count=$(wc -l <"$work/straight.skips")
[ "$count" -ge 3 ] && [ "$count" -le 35 ] || fail "$count of 40 updates were skipped"
grep -q 'update [0-9]* was skipped: gradient norm [0-9.]* is above [0-9.]*, training.spike_factor x the median; on samples' "$work/straight/log.txt" ||
  fail "the warning lacks its reason"
grep -q '"recent_grad_norms"' "$work/straight/checkpoints/step_00000040/manifest.json" || fail "the checkpoint lacks the norms"

# A skipped update leaves weights and moments as they were, and counts: two checkpoints around one.
last=$(sed 's/[^0-9]//g' "$work/straight.skips" | awk '$1 > 12' | head -n 1)
expect_exit 0 train before "$config" "${spikes[@]}" --set checkpoint.interval=1 --set training.hard_stop=$((last - 1))
cp -r "$work/before" "$work/after"
expect_exit 0 train after "$config" "${spikes[@]}" --set checkpoint.interval=1 --set training.hard_stop="$last"
expect_exit 0 "$KSA" ckpt diff "$work/before/checkpoints/$(printf 'step_%08d' $((last - 1)))" "$work/after/checkpoints/$(printf 'step_%08d' "$last")"

# Killed and resumed, and on two ranks: the same are skipped.
mapfile -t arguments < <(options killed)
kill_after 17 killed "$KSA" train "$config" "${arguments[@]}" "${spikes[@]}"
expect_exit 0 train killed "$config" "${spikes[@]}"
expect_exit 0 "$KSA" compare "$work/straight" "$work/killed" --assert-equal
skipped killed | cmp - "$work/straight.skips" || fail "the resumed run skipped others"
expect_exit 0 train_ranks 2 two "$config" "${spikes[@]}" --set training.spike_factor=1.2
expect_exit 0 train one "$config" "${spikes[@]}" --set training.spike_factor=1.2
skipped one >"$work/one.skips"
skipped two | cmp - "$work/one.skips" || fail "two ranks skipped others than one"
[ -s "$work/one.skips" ] || fail "nothing was skipped"

# Nothing is remembered where nothing is asked for.
expect_exit 0 train plain "$config" --set training.hard_stop=10
! grep -q "recent_grad_norms" "$work/plain/checkpoints/step_00000010/manifest.json" || fail "norms without spike_factor"

# A learning rate that spoils the weights at once: updates 2, 3, 4 are skipped, the next one ends the run.
hopeless=(--set training.max_steps=40 --set optimizer.lr=1e30 --set optimizer.min_lr=0 --set checkpoint.interval=1000)
expect_exit 70 train abort "$config" "${hopeless[@]}"
expect_output "training diverged at update 2"
expect_exit 70 train skip "$config" "${hopeless[@]}" --set training.on_nonfinite=skip --set training.max_skips=3
expect_output "update 4 was skipped: loss"
expect_output "3 of at most 3 in a row"
expect_output "training diverged at update 5"
expect_output "training.max_skips allows 3"
[ "$(steps_written skip)" -eq 4 ] || fail "$(steps_written skip) rows instead of 4"
# The count goes on after a resume.
expect_exit 0 train resumed "$config" "${hopeless[@]}" --set training.on_nonfinite=skip --set training.max_skips=3 --set training.hard_stop=3
expect_exit 70 train resumed "$config" "${hopeless[@]}" --set training.on_nonfinite=skip --set training.max_skips=3
expect_output "training diverged at update 5"
