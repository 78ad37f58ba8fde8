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
