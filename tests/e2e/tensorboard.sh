#!/usr/bin/env bash
# The event files of a run that stopped and went on, read back by the tensorboard package: every scalar is that of
# metrics.jsonl. VENV: a folder for the package, kept between runs. Exit code 77 (skipped) where pip does not offer it.
source "$(dirname "$0")/lib.sh"
: "${VENV:?a folder for the Python packages}"

python=python3
if ! python3 -c 'import tensorboard' 2>/dev/null; then
  python=$VENV/bin/python
  if ! "$python" -c 'import tensorboard' 2>/dev/null; then
    if ! { python3 -m venv "$VENV" && timeout 200 "$python" -m pip install --quiet tensorboard; } >"$work/pip" 2>&1; then
      tail -n 3 "$work/pip"
      echo "skipped: pip does not offer the tensorboard package here"
      exit 77
    fi
  fi
fi

make_corpus
expect_exit 0 train run configs/test/ksa.yaml --set training.hard_stop=7
expect_exit 0 train run configs/test/ksa.yaml
"$python" tests/e2e/tensorboard_read.py "$work/run"
