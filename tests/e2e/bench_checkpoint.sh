#!/usr/bin/env bash
# `ksa bench checkpoint`: its figures, on one rank and on two, and nothing left behind.
source "$(dirname "$0")/lib.sh"
mkdir "$work/folder"
bench=("$KSA" bench checkpoint --model configs/model/tiny.yaml --sequence-length 64 --steps 2 --device cpu --threads 1
       --json "$work/checkpoint.json")
check() {
  python3 - "$work/checkpoint.json" <<'PY' || fail "figures: $(cat "$work/checkpoint.json")"
import json, sys
report = json.load(open(sys.argv[1]))
rows = {row["mode"]: row for row in report["rows"]}
assert set(rows) == {"synchronous", "asynchronous"}, rows
for row in rows.values():
    assert row["save_milliseconds"] > 0 and row["milliseconds"] > 0 and row["following_milliseconds"] > 0, row
    assert row["host_peak_mib"] is None or row["host_peak_mib"] >= 0, row
assert rows["synchronous"]["blocked_milliseconds"] == rows["synchronous"]["save_milliseconds"]
assert rows["asynchronous"]["blocked_milliseconds"] < rows["asynchronous"]["save_milliseconds"], rows
findings = {finding["key"]: finding["value"] for finding in report["findings"]} if isinstance(report["findings"], list) else report["findings"]
assert findings["checkpoint_mib"] > 0 and findings["copy_mib"] > 0, findings
PY
}
expect_exit 0 "${bench[@]}" --folder "$work/folder"
check
expect_exit 0 mpirun --oversubscribe --bind-to none -np 2 "${bench[@]}" --folder "$work/folder"
check
[ -z "$(ls -A "$work/folder")" ] || fail "left behind: $(ls -A "$work/folder")"
expect_exit 73 "${bench[@]}" --folder "$work/absent"
