#!/usr/bin/env bash
# `ksa bench context` on ranks of the CPU: a row for each mask, way and length; heads that don't divide are refused.
source "$(dirname "$0")/lib.sh"
expect_exit 0 mpirun --oversubscribe --bind-to none -np 2 "$KSA" bench context --device cpu --threads 1 \
  --text-tokens 256 300 --window-chunks 4 --repeat 1 --json "$work/context.json"
[ "$(grep -c '"method"' "$work/context.json")" -eq 8 ] || { cat "$work/context.json" >&2; fail "not 8 rows"; }
expect_output "time by heads over time by keys"
expect_exit 64 mpirun --oversubscribe --bind-to none -np 2 "$KSA" bench context --device cpu --heads 3 --repeat 1 \
  --text-tokens 256
expect_output "a multiple of 2 ranks"
