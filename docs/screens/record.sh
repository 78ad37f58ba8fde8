#!/usr/bin/env bash
# docs/screens/record.sh RUN_FOLDER: what a terminal shows, wide and narrow, written beside this script: a training with its
# bar, its end, and help screens. Run by hand after `launch/quickstart.sh`, whose shards it uses; needs tmux. It trains
# into RUN_FOLDER, which must not exist.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:?"usage: docs/screens/record.sh RUN_FOLDER"}
[ ! -e "$folder" ] || { echo "record: $folder exists" >&2; exit 73; }
export KSA=${KSA:-build/release/trainer/ksa}
out=$PWD/docs/screens
session=ksa_record_$$
trap 'tmux kill-session -t "$session" 2>/dev/null || true' EXIT

# shown FILE: the screen as it is now, without the empty lines at its end.
shown() {
  tmux capture-pane -p -t "$session" | sed -e 's/[[:space:]]*$//' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' >"$out/$1"
}

# await TEXT: until the screen has it.
await() {
  local i screen
  for ((i = 0; i < 3000; i++)); do
    screen=$(tmux capture-pane -p -t "$session")
    [[ "$screen" == *"$1"* ]] && return
    sleep 0.2
  done
  echo "record: the screen never had: $1" >&2
  exit 1
}

for width in 100 60; do
  run=$folder/$width
  tmux new-session -d -s "$session" -x "$width" -y 45 "PS1='\$ ' bash --norc"
  tmux send-keys -t "$session" "clear; $KSA train configs/train/quickstart.yaml --set run.dir=$run" \
    " --set training.max_steps=60 --set evaluation.interval=20 --set evaluation.batches=4 --set logging.interval=10" Enter
  await "30/60"
  shown "training_$width.txt"
  await "next:"
  sleep 0.5
  shown "end_$width.txt"
  tmux kill-session -t "$session"
done
for command in "" "train" "data tokenize"; do
  name=help${command:+_${command// /_}}
  # shellcheck disable=SC2086  # a command of two words
  COLUMNS=80 "$KSA" $command --help >"$out/$name.txt"
done
