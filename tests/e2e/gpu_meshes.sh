#!/usr/bin/env bash
# Meshes of two and three axes over all GPUs of this host, ZeRO 0 and 1. Five updates in fp32 are one GPU's, within what
# another order of additions may change; 200 in bf16 end with a checkpoint, whose making compares what ranks hold alike, bit
# by bit; a checkpoint of one mesh goes on on the next; a rank that is killed or stands still ends the job. Skipped (77) on
# fewer than four GPUs: e2e.gpu_ranks has those of one axis.
device=cuda
source "$(dirname "$0")/lib.sh"
need_gpu
gpus=$(gpu_count)
if [ "$gpus" -lt 4 ]; then
  echo "SKIPPED: meshes of two axes need four GPUs, here are $gpus"
  exit 77
fi
make_corpus
config=configs/test/gpu_mesh.yaml
meshes=(data=4,context=1,tensor=1 data=1,context=4,tensor=1 data=1,context=1,tensor=4  # tensor 4: each kv head twice
  data=2,context=1,tensor=2 data=2,context=2,tensor=1 data=1,context=2,tensor=2)
if [ "$gpus" -ge 8 ]; then
  meshes+=(data=2,context=2,tensor=2 data=4,context=1,tensor=2 data=1,context=4,tensor=2)
fi

# mesh_options MESH ZERO
mesh_options() {
  local axis
  for axis in ${1//,/ }; do printf -- '--set\nparallel.%s\n' "$axis"; done
  printf -- '--set\nparallel.zero=%s\n' "$2"
}

# ranks_of MESH
ranks_of() {
  local product=1 axis
  for axis in ${1//,/ }; do product=$((product * ${axis#*=})); done
  echo "$product"
}

# only_metrics RUN: without checkpoints, for comparing metrics alone.
only_metrics() {
  mkdir -p "$work/metrics/$1"
  cp "$work/$1/metrics.jsonl" "$work/$1/config.resolved.yaml" "$work/metrics/$1"
}

train one "$config" --set training.precision=fp32 --set training.hard_stop=5 >/dev/null
only_metrics one
last=""
for mesh in "${meshes[@]}"; do
  for zero in 0 1; do
    mapfile -t sizes < <(mesh_options "$mesh" "$zero")
    ranks=$(ranks_of "$mesh")
    rm -rf "$work/short" "$work/long"
    begin=$SECONDS
    expect_exit 0 train_ranks "$ranks" short "$config" --set training.precision=fp32 --set training.hard_stop=5 "${sizes[@]}"
    only_metrics short
    expect_exit 0 "$KSA" compare "$work/metrics/one" "$work/metrics/short" --rtol 1e-5
    expect_exit 0 "$KSA" compare "$work/one" "$work/short" --rtol 5e-4
    expect_exit 0 train_ranks "$ranks" long "$config" --set training.max_steps=200 "${sizes[@]}"
    [ "$(steps_written long)" -eq 200 ] || fail "$mesh, ZeRO $zero: $(steps_written long) updates of 200"
    echo "$mesh, ZeRO $zero: as one GPU after 5 updates, 200 updates, $((SECONDS - begin)) s"
  done
  # The mesh before saved after 5 updates, this one goes on from there.
  if [ -n "$last" ]; then
    expect_exit 0 train_ranks "$ranks" resumed "$config" --set training.precision=fp32 --set training.hard_stop=8 "${sizes[@]}"
    expect_output "5 updates done"
    only_metrics resumed
    expect_exit 0 "$KSA" compare "$work/metrics/eight" "$work/metrics/resumed" --rtol 1e-4
    echo "$mesh goes on from a checkpoint of $last"
  else
    train eight "$config" --set training.precision=fp32 --set training.hard_stop=8 >/dev/null
    only_metrics eight
  fi
  rm -rf "$work/resumed"
  mv "$work/short" "$work/resumed"
  last=$mesh
done

# One rank is killed, or stops: the job ends and says which.
cat >"$work/rank.sh" <<'RANK'
#!/usr/bin/env bash
echo $$ >"$work/pid.$OMPI_COMM_WORLD_RANK"
exec "$KSA" train "$@"
RANK
chmod +x "$work/rank.sh"
export work KSA KSA_WATCHDOG_SECONDS=10
for signal in KILL STOP; do
  rm -f "$work"/pid.*
  mapfile -t arguments < <(options "$signal")
  mapfile -t sizes < <(mesh_options data=2,context=1,tensor=2 1)
  mpirun --oversubscribe --bind-to none -np 4 "$work/rank.sh" "$config" "${arguments[@]}" "${sizes[@]}" \
    --set training.max_steps=1000000 --set evaluation.interval=0 --set checkpoint.interval=1000000 >"$work/output" 2>&1 &
  job=$!
  for _ in $(seq 600); do
    [ "$(steps_written "$signal")" -ge 3 ] && break
    sleep 0.1
  done
  begin=$SECONDS
  kill "-$signal" "$(cat "$work/pid.2")"
  code=0
  wait "$job" || code=$?
  echo "rank 2 got SIG$signal: code $code after $((SECONDS - begin)) s"
  case $signal,$code in
    KILL,137 | KILL,75 | STOP,75) ;;
    *) cat "$work/output" >&2; fail "exit code $code after SIG$signal" ;;
  esac
done
