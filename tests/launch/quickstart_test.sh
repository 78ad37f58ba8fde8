#!/usr/bin/env bash
# launch/quickstart.sh on a small text with the program that was built: every part of its last screen, the same again from
# what is there, and what it refuses. Packages, build and the download of the corpus are left out.
# shellcheck source=../e2e/lib.sh
source "$(dirname "$0")/../e2e/lib.sh"
export OMP_WAIT_POLICY=passive

quickstart() {
  launch/quickstart.sh --text "$work/text" --output "$work/runs" --steps 4 --control
}
mkdir "$work/text"
find docs -name '*.md' | sort | xargs cat | split -C 2000 - "$work/text/page-"  # enough of them to hold some out

expect_exit 0 quickstart
for part in "4-gram" "training the control" "counts of pairs" "counts of 4-grams, Witten-Bell" "this model without summaries" \
  "the 4-grams" "512-1023" "KV cache of 1024 tokens in bf16: 552.0 KiB" "run folder    $work/runs/quickstart"; do
  expect_output "$part"
done
awk '/^ *positions +summaries +none +gain/ { table = 1; next }
  table && $1 ~ /^[0-9]+(-[0-9]+)?$/ { rows++; off = $3 - $2 - $4; if (off > 2e-4 || off < -2e-4) exit 1 }
  END { exit !(rows >= 6) }' "$work/output" || { cat "$work/output" >&2; fail "the table by position is not one"; }
grep -q "pattern: .*sca" "$work/runs/quickstart_control/config.resolved.yaml" || fail "the control is no sca"
cp "$work/output" "$work/first"

# Again: the corpus is used again, the runs are complete, and the result is the same.
expect_exit 0 quickstart
expect_output "$work/runs/corpus/quickstart is there, and used again"
[ "$(grep -c "the run is complete" "$work/output")" -eq 2 ] || { cat "$work/output" >&2; fail "it trained again"; }
diff <(sed -n '/^loss on held-out/,/^run folder/p' "$work/first") <(sed -n '/^loss on held-out/,/^run folder/p' "$work/output") ||
  fail "the second result differs"

# Another text in the same place; no text; not a number.
expect_exit 1 launch/quickstart.sh --text docs/design --output "$work/runs"
expect_output "was made from: $work/text"
expect_exit 66 launch/quickstart.sh --text "$work/none"
expect_exit 64 launch/quickstart.sh --steps 0
expect_exit 64 launch/quickstart.sh --text
