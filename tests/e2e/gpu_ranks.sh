#!/usr/bin/env bash
# Ranks on GPUs: more of them than GPUs are refused with host and numbers. With two GPUs or more: data, context and tensor
# parallel runs equal one rank, and a rank that hangs ends the job. The second part is skipped (77) on one GPU.
device=cuda
source "$(dirname "$0")/lib.sh"
need_gpu
make_corpus
config=configs/test/ksa.yaml
gpus=$(gpu_count)

expect_exit 78 train_ranks "$((gpus + 1))" crowded "$config"
expect_output "host $(hostname) has $((gpus + 1)) ranks and $gpus GPU(s)"
device=auto expect_exit 78 train_ranks "$((gpus + 1))" crowded "$config"
expect_output "run.device: auto needs a GPU for every rank"
device=cpu expect_exit 78 train_ranks "$((gpus + 1))" mesh "$config" --set "parallel.data=$gpus" --set training.micro_batch_size=1
expect_output "ranks (data x context x tensor)"
if [ "$gpus" -lt 2 ]; then
  echo "SKIPPED: several ranks need several GPUs, here is one"
  exit 77
fi

train one "$config" --set training.precision=fp32 >/dev/null
for axis in data context tensor; do
  sizes=()
  if [ "$axis" != data ]; then sizes=(--set "parallel.$axis=2" --set training.micro_batch_size=2); fi
  expect_exit 0 train_ranks 2 "$axis" "$config" --set training.precision=fp32 ${sizes[@]+"${sizes[@]}"}
  expect_output "rank 1 on $(hostname): GPU 1 "
  mkdir -p "$work/metrics/one" "$work/metrics/$axis"
  for run in one "$axis"; do
    cp "$work/$run/metrics.jsonl" "$work/$run/config.resolved.yaml" "$work/metrics/$run"
  done
  expect_exit 0 "$KSA" compare "$work/metrics/one" "$work/metrics/$axis" --rtol 1e-4
done

# Rank 1 stops; rank 0 waits for its own GPU, which waits for the other.
cat >"$work/rank.sh" <<'EOF'
#!/usr/bin/env bash
echo $$ >"$work/pid.$OMPI_COMM_WORLD_RANK"
exec "$KSA" train "$@"
EOF
chmod +x "$work/rank.sh"
export work KSA KSA_WATCHDOG_SECONDS=10
mapfile -t arguments < <(options hangs)
mpirun --oversubscribe --bind-to none -np 2 "$work/rank.sh" "$config" "${arguments[@]}" --set training.max_steps=1000000 \
  --set evaluation.interval=0 --set checkpoint.interval=1000000 >"$work/output" 2>&1 &
job=$!
for _ in $(seq 600); do
  [ "$(steps_written hangs)" -ge 3 ] && break
  sleep 0.1
done
kill -STOP "$(cat "$work/pid.1")"
code=0
wait "$job" || code=$?
[ "$code" -eq 75 ] || { cat "$work/output" >&2; fail "exit code $code instead of 75"; }
expect_output "nothing is heard of rank(s) 1 on $(hostname)"
grep 'watchdog: rank 0' "$work/output" | cut -c1-300
