#!/usr/bin/env bash
# `ksa bench comm` on ranks of the CPU: a row for each call and size, and a plain answer where there is one rank.
source "$(dirname "$0")/lib.sh"
expect_exit 0 mpirun --oversubscribe --bind-to none -np 2 "$KSA" bench comm --device cpu --mib 1 2 --repeat 1 \
  --json "$work/comm.json"
[ "$(grep -c '"call"' "$work/comm.json")" -eq 10 ] || { cat "$work/comm.json" >&2; fail "not 10 rows"; }
for call in all-reduce reduce-scatter all-gather all-to-all exchange; do
  expect_output "$call"
done
expect_exit 64 "$KSA" bench comm --device cpu
expect_output "mpirun -np 2 ksa bench comm"

# A rank that stops ends the other one, as in training.
cat >"$work/rank.sh" <<'EOF'
#!/usr/bin/env bash
echo $$ >"$work/pid.$OMPI_COMM_WORLD_RANK"
exec "$KSA" bench comm --device cpu --mib 1 --repeat 1000 --calls 10000
EOF
chmod +x "$work/rank.sh"
export work
KSA_WATCHDOG_SECONDS=3 mpirun --oversubscribe --bind-to none -np 2 "$work/rank.sh" >"$work/output" 2>&1 &
job=$!
for _ in $(seq 600); do
  [ -s "$work/pid.1" ] && break
  sleep 0.1
done
sleep 2
kill -STOP "$(cat "$work/pid.1")"
start=$SECONDS code=0
wait "$job" || code=$?
[ "$code" -eq 75 ] || { cat "$work/output" >&2; fail "a bench with a stopped rank ended with $code instead of 75"; }
[ $((SECONDS - start)) -le 30 ] || fail "it took $((SECONDS - start)) s"
expect_output "watchdog: rank 0 on host $(hostname):"
