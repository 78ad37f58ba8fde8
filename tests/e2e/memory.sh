#!/usr/bin/env bash
# After the first updates no allocation grows: anonymous memory at update 50 is within 1 MiB of that at update 3. With
# documents every sample needs other sizes, so the first updates are more, and the largest sample yet may come later.
# Generation grows with its context, and no more once that is full.
source "$(dirname "$0")/lib.sh"
make_corpus
config=configs/test/ksa.yaml
sizes=(--set training.sequence_length=512 --set model.hidden_size=128 --set model.head_dim=32
       --set model.max_position_embeddings=512)

# anonymous PID: KiB.
anonymous() {
  awk '/RssAnon/ { print $2 }' "/proc/$1/status"
}

# grows_at_most KIB EARLY LATE RUN [ARGUMENTS...]: from one update to another.
grows_at_most() {
  local limit=$1 updates=("$2" "$3") run=$4 arguments pid memory=() update
  shift 4
  mapfile -t arguments < <(options "$run")
  "$KSA" train "$config" "${arguments[@]}" "${sizes[@]}" --set training.max_steps=100000 \
    --set checkpoint.interval=100000 --set evaluation.interval=0 "$@" >"$work/$run.log" 2>&1 &
  pid=$!
  for update in "${updates[@]}"; do
    for _ in $(seq 2000); do
      [ "$(steps_written "$run")" -ge "$update" ] && break
      kill -0 "$pid" 2>/dev/null || { cat "$work/$run.log" >&2; fail "the run ended early"; }
      sleep 0.05
    done
    memory+=("$(anonymous "$pid")")
  done
  kill -USR1 "$pid"
  wait "$pid" || true
  echo "$run: ${memory[0]} KiB at update ${updates[0]}, ${memory[1]} KiB at update ${updates[1]}"
  [ $((memory[1] - memory[0])) -le "$limit" ] || fail "$run: memory grew by $((memory[1] - memory[0])) KiB"
}

grows_at_most 1024 3 50 plain
grows_at_most 1024 10 60 documents --set data.document_mask=true

# The prompt fills the context, which is cut again and again. --temperature 0: an untrained model does not end early.
train model "$config" "${sizes[@]}" --set evaluation.interval=0 >/dev/null
"$KSA" generate "$work/model" --device "$device" --prompt "$(head -c 600 "$work/text.txt")" --max-tokens 20000 \
  --temperature 0 >"$work/generated" 2>&1 &
pid=$!
early= late=
while kill -0 "$pid" 2>/dev/null; do
  now=$(anonymous "$pid" 2>/dev/null) || break
  [ -n "$now" ] || break
  samples=$((${samples:-0} + 1))
  [ "$samples" -ne 10 ] || early=$now
  late=$now
  sleep 0.1
done
wait "$pid" || { cat "$work/generated" >&2; fail "generate ended with $?"; }
[ "$(wc -c <"$work/generated")" -ge 20600 ] || fail "the model ended its text after $(wc -c <"$work/generated") bytes"
[ -n "$early" ] || fail "generation was over before it could be measured"
echo "generate: $early KiB after a second, $late KiB at the end"
[ $((late - early)) -le 1024 ] || fail "generate: memory grew by $((late - early)) KiB"
