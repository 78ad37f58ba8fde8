#!/usr/bin/env bash
# `ksa bench context` on ranks of the CPU: a row for each mask, way and length; heads that don't divide and sequences
# without a slice for every rank are refused. So are meshes of `ksa bench step` that don't fit ranks, model or sequence.
source "$(dirname "$0")/lib.sh"
expect_exit 0 mpirun --oversubscribe --bind-to none -np 2 "$KSA" bench context --device cpu --threads 1 \
  --text-tokens 256 300 --window-chunks 4 --repeat 1 --json "$work/context.json"
[ "$(grep -c '"method"' "$work/context.json")" -eq 8 ] || { cat "$work/context.json" >&2; fail "not 8 rows"; }
expect_output "time by heads over time by keys"
expect_exit 64 mpirun --oversubscribe --bind-to none -np 2 "$KSA" bench context --device cpu --heads 3 --repeat 1 \
  --text-tokens 256
expect_output "a multiple of 2 ranks"

# refused COMMAND [ARGUMENTS...]: `ksa bench COMMAND` on two ranks is a wrong command line, told by rank 0 alone.
refused() {
  expect_exit 64 mpirun --oversubscribe --bind-to none -np 2 "$KSA" bench "$@" --device cpu --threads 1
  ! grep -q "check \|rank 1 on host" "$work/output" || { cat "$work/output" >&2; fail "not a plain refusal: $*"; }
}
refused context --text-tokens 256 3
expect_output "2 ranks hold two slices of whole chunks each, but 3 tokens are 1 chunk(s) of 8; use at most 1"
step=(step --model configs/model/tiny.yaml --steps 1)
refused "${step[@]}" --sequence-length 48 --tensor 3
expect_output "3 does not divide num_attention_heads 4; this model takes 1, 2, 4"
expect_output "meshes of 2 ranks (data x context x tensor): 2 x 1 x 1, 1 x 2 x 1, 1 x 1 x 2"
refused "${step[@]}" --sequence-length 48 --tensor 2 --context 2
expect_output "2 rank(s) are no multiple of context 2 x tensor 2; start a multiple of 4 or change them"
expect_output "meshes of 2 ranks (data x context x tensor): 2 x 1 x 1, 1 x 2 x 1, 1 x 1 x 2"
refused "${step[@]}" --sequence-length 48 4 --context 2
expect_output "2 ranks hold two slices of whole chunks each, but 4 tokens are 1 chunk(s) of 4; use at most 1"
expect_exit 0 mpirun --oversubscribe --bind-to none -np 2 "$KSA" bench "${step[@]}" --sequence-length 48 --context 2 \
  --device cpu --threads 1
expect_output "1x2x1"
