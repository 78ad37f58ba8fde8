#!/usr/bin/env python3
"""The products of tests/bench/gemm_bench.cc by torch.matmul, to be run beside it: TFLOP/s, medians, bf16 results.

    python3 tests/bench/gemm_torch.py
"""
import statistics

import torch


def rate(flops, run, repeats=15):
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return flops / statistics.median(times) / 1e9


def linear(rows, inner, outer):
    def normal(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)

    x, w, dy = normal(rows, inner), normal(outer, inner), normal(rows, outer)
    flops = 2.0 * rows * inner * outer
    print(f"torch  {rows:5} x {inner:5} -> {outer:6}: forward {rate(flops, lambda: x @ w.t()):4.0f}, "
          f"dx {rate(flops, lambda: dy @ w):4.0f}, dW {rate(flops, lambda: dy.t() @ x):4.0f} TFLOP/s")


def main():
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    for rows in (9088, 8192):
        for inner, outer in ((2048, 2048), (2048, 6144), (6144, 2048)):
            linear(rows, inner, outer)
    linear(4096, 2048, 151936)


if __name__ == "__main__":
    main()
