#!/usr/bin/env bash
# Checkpoints that are written beside training, where something is lacking: memory for the copy, threads, updates before the end.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
common=(--set training.max_steps=40 --set checkpoint.interval=10 --set evaluation.interval=0 --set run.threads=1
        --set training.micro_batch_size=1)
says() { grep -q "checkpoint.async: $2" "$work/$1/log.txt" || { cat "$work/$1/log.txt" >&2; fail "$1: the log lacks: $2"; }; }
equal() { expect_exit 0 "$KSA" compare "$work/straight" "$work/$1" --assert-equal; }

# Training waits for each, by wish; and beside it, which is the default: the same weights, moments and metrics.
expect_exit 0 train straight "$config" "${common[@]}" --set checkpoint.async=false
! grep -q "checkpoint.async: " "$work/straight/log.txt" || fail "false: the log speaks of a copy"
expect_exit 0 train beside "$config" "${common[@]}"
says beside "[0-9.]* [KMG]iB of host memory for a copy of the state, taken in"
equal beside
[ "$(ls "$work/beside/checkpoints")" = "$(ls "$work/straight/checkpoints")" ] || fail "other checkpoints: $(ls "$work/beside/checkpoints")"

# No checkpoint before the last one: no memory is taken.
expect_exit 0 train last "$config" "${common[@]}" --set checkpoint.interval=40
! grep -q "checkpoint.async: " "$work/last/log.txt" || fail "one checkpoint at the end: a copy was made"
equal last

# No thread can be started from some update on: training waits for the files.
mapfile -t arguments < <(options threads)
LD_PRELOAD=$NO_THREADS NO_MORE_THREADS=$work/no_more "$KSA" train "$config" "${arguments[@]}" "${common[@]}" >"$work/output" 2>&1 &
pid=$!
until [ "$(steps_written threads)" -ge 2 ]; do kill -0 "$pid" || fail "the run ended early"; sleep 0.01; done
touch "$work/no_more"
code=0
wait "$pid" || code=$?
[ "$code" -eq 0 ] || { cat "$work/output" >&2; fail "no threads: exit code $code"; }
equal threads

# The memory is free and yet not given (a limit of the process): the one block whose size is that of the state,
# which is padded a little.
bytes=$(python3 - "$work/straight/checkpoints/step_00000040/manifest.json" <<'PY'
import json, math, sys
print(sum(4 * math.prod(tensor["shape"]) for tensor in json.load(open(sys.argv[1]))["tensors"]))
PY
)
mapfile -t arguments < <(options limited)
expect_exit 0 env LD_PRELOAD="$NO_MEMORY" NO_BLOCK_OF="$bytes" "$KSA" train "$config" "${arguments[@]}" "${common[@]}"
says limited "the memory for a copy of the state cannot be taken (the host gives no [0-9]* bytes of memory"
equal limited

# No room for the copy: said, and training waits for the files. A file in the place of what the system says of its memory.
if ! unshare --mount --propagation private true 2>/dev/null; then
  echo "not tested here: mounts of one's own (unshare --mount)"
  exit 0
fi
printf 'MemTotal: 1000 kB\nMemAvailable: 1000 kB\n' >"$work/meminfo"
export KSA work
mapfile -t arguments < <(options poor)
expect_exit 0 unshare --mount --propagation private bash -euc 'mount --bind "$work/meminfo" /proc/meminfo; exec "$@"' _ \
  "$KSA" train "$config" "${arguments[@]}" "${common[@]}"
says poor "on some rank a copy of its state ([0-9.]* [KMG]iB on rank 0) does not fit"
equal poor
