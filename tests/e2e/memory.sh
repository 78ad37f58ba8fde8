#!/usr/bin/env bash
# After the first updates no allocation grows: anonymous memory at update 50 is within 1 MiB of that at update 3.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
mapfile -t arguments < <(options memory)
"$KSA" train "$config" "${arguments[@]}" --set training.max_steps=100000 --set checkpoint.interval=100000 \
  --set evaluation.interval=0 --set training.sequence_length=512 --set model.hidden_size=128 --set model.head_dim=32 \
  >"$work/memory.log" 2>&1 &
pid=$!
anonymous_at() {
  for _ in $(seq 2000); do
    [ "$(steps_written memory)" -ge "$1" ] && break
    sleep 0.02
  done
  awk '/RssAnon/ { print $2 }' "/proc/$pid/status"
}
early=$(anonymous_at 3)
late=$(anonymous_at 50)
kill -USR1 "$pid"
wait "$pid" || true
[ -n "$early" ] && [ -n "$late" ] || { cat "$work/memory.log" >&2; fail "the run ended early"; }
echo "anonymous memory: $early KiB at update 3, $late KiB at update 50"
[ $((late - early)) -le 1024 ] || fail "memory grew by $((late - early)) KiB"
