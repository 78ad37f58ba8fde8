// Speed of the products of the 1.9B model, of the cross-entropy behind it, and of cuDNN's full causal attention, on GPU
// 0. Peers: tests/bench/gemm_torch.py. Run by hand on an otherwise idle machine:
//   cmake --build build/cuda --target gemm_bench && build/cuda/tests/bench/gemm_bench
// Inputs are random normal, every figure is a median after warm-up.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include <fmt/core.h>

#include "kernels/attention/attention.h"
#include "kernels/core/arena.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "kernels/core/philox.h"
#include "kernels/gemm/gemm.h"
#include "kernels/loss/linear_cross_entropy.h"

namespace ksa {
namespace {

constexpr int64_t kDim = 2048;
constexpr int64_t kFfn = 6144;
constexpr int64_t kVocabulary = 151936;
constexpr int64_t kChunk = 4096;  // rows of logits at a time

class Bench {
 public:
  // Median milliseconds of one run.
  double Time(const std::function<void()>& run, int repeats = 15) const {
    for (int i = 0; i < 3; ++i) {
      run();
    }
    std::vector<double> times;
    for (int i = 0; i < repeats; ++i) {
      Event start;
      Event end;
      start.Record(stream());
      run();
      end.Record(stream());
      end.Wait();
      times.push_back(end.MillisecondsSince(start));
    }
    std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
    return times[static_cast<size_t>(repeats / 2)];
  }

  // The same 4M normal numbers over and over.
  Tensor Normal(const Shape& shape, DType dtype) {
    Tensor x = Tensor::Empty(shape, dtype, memory_);
    constexpr int64_t kBlock = int64_t{1} << 22;
    HostAllocator host;
    const Tensor block = Tensor::Empty({kBlock}, dtype, host);
    for (int64_t i = 0; i < kBlock; ++i) {
      const auto value = static_cast<float>(NormalAt(1, static_cast<uint64_t>(i)));
      if (dtype == DType::kBF16) {
        block.As<BFloat16>()[i] = BFloat16(value);
      } else {
        block.As<float>()[i] = value;
      }
    }
    const TensorView flat = x.view().Reshape({x.size()});
    for (int64_t begin = 0; begin < x.size(); begin += kBlock) {
      const int64_t count = std::min(kBlock, x.size() - begin);
      CopyFromHost(block.view().Rows(0, count), flat.Rows(begin, count), stream());
    }
    Synchronize(stream());
    return x;
  }

  [[nodiscard]] const Stream& stream() const { return queue_.stream(); }

  Allocator& memory() { return memory_; }

 private:
  GpuStream queue_{0, 1};
  GpuSlabs slabs_{0};
  ArenaAllocator memory_{slabs_};
};

double TeraFlops(double flops, double milliseconds) {
  return flops / milliseconds / 1e9;
}

// y = x W^T for x [rows, in], W [out, in]; then dx = dy W, and dW += dy^T x in fp32.
void RunLinear(Bench& bench, int64_t rows, int64_t in, int64_t out, DType y_type) {
  const Tensor x = bench.Normal({rows, in}, DType::kBF16);
  const Tensor w = bench.Normal({out, in}, DType::kBF16);
  const Tensor y = bench.Normal({rows, out}, y_type);
  const Tensor dy = bench.Normal({rows, out}, DType::kBF16);
  const Tensor dx = bench.Normal({rows, in}, DType::kBF16);
  const Tensor dw = bench.Normal({out, in}, DType::kF32);
  const Stream& stream = bench.stream();
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
  const auto rate = [&](const GemmArgs& args) { return TeraFlops(flops, bench.Time([&] { Gemm(args, stream); })); };
  fmt::print("linear {:5} x {:5} -> {:6}: forward {:4.0f}, dx {:4.0f}, dW {:4.0f} TFLOP/s\n",
             rows,
             in,
             out,
             rate({.a = x, .b = w, .c = y, .transpose_b = true}),
             rate({.a = dy, .b = w, .c = dx}),
             rate({.a = dy, .b = x, .c = dw, .transpose_a = true, .beta = 1.0}));
}

// Of one part of the vocabulary, whose exchange of statistics is not counted.
void RunLoss(Bench& bench, int64_t rows, int parts) {
  const int64_t v = kVocabulary / parts;
  const Tensor x = bench.Normal({rows, kDim}, DType::kBF16);
  const Tensor w = bench.Normal({v, kDim}, DType::kBF16);
  const Tensor dx = Tensor::Empty({rows, kDim}, DType::kBF16, bench.memory());
  const Tensor dw = bench.Normal({v, kDim}, DType::kF32);
  const Tensor loss = Tensor::Empty({1}, DType::kF64, bench.memory());
  const Tensor targets = Tensor::Empty({rows}, DType::kI32, bench.memory());
  HostAllocator host;
  const Tensor numbers = Tensor::Empty({rows}, DType::kI32, host);
  for (int64_t r = 0; r < rows; ++r) {
    numbers.As<int32_t>()[r] = static_cast<int32_t>(r * 7919 % kVocabulary);
  }
  CopyFromHost(numbers, targets, bench.stream());
  const double ms = bench.Time([&] {
    LinearCrossEntropy({.x = x,
                        .weight = w,
                        .targets = targets,
                        .loss_sum = loss,
                        .dx = dx,
                        .dweight = dw,
                        .grad_scale = 1.0 / static_cast<double>(rows),
                        .shard = {.vocab = kVocabulary, .parts = parts, .gather_stats = [](const TensorView&) {}},
                        .allocator = &bench.memory()},
                       bench.stream());
  });
  const double flops = 6.0 * static_cast<double>(rows) * kDim * static_cast<double>(v);
  fmt::print("cross-entropy with gradients, {} rows, 1 part of {}: {:.2f} ms, {:.0f} TFLOP/s\n",
             rows,
             parts,
             ms,
             TeraFlops(flops, ms));
}

void RunAttention(Bench& bench, int32_t tokens, int64_t heads, int64_t head_dim) {
  const Shape shape{tokens, heads, head_dim};
  const auto normal = [&] { return bench.Normal(shape, DType::kBF16); };
  const Tensor q = normal();
  const Tensor k = normal();
  const Tensor v = normal();
  const Tensor out = normal();
  const Tensor dout = normal();
  const Tensor dq = normal();
  const Tensor dk = normal();
  const Tensor dv = normal();
  const Tensor lse = Tensor::Empty({tokens, heads}, DType::kF32, bench.memory());
  SummaryLayout layout;
  layout.text_tokens = tokens;
  layout.chunk_size = 8;
  const double forward = bench.Time([&] {
    AttentionForward({.q = q,
                      .k = k,
                      .v = v,
                      .out = out,
                      .lse = lse,
                      .layout = layout,
                      .path = AttentionPath::kCudnn,
                      .allocator = &bench.memory()},
                     bench.stream());
  });
  const auto backward = [&](bool deterministic) {
    Stream stream = bench.stream();
    stream.deterministic = deterministic;
    return bench.Time([&] {
      AttentionBackward({.q = q,
                         .k = k,
                         .v = v,
                         .out = out,
                         .lse = lse,
                         .dout = dout,
                         .dq = dq,
                         .dk = dk,
                         .dv = dv,
                         .layout = layout,
                         .path = AttentionPath::kCudnn,
                         .allocator = &bench.memory()},
                        stream);
    });
  };
  const double pairs = 0.5 * tokens * tokens * static_cast<double>(heads * head_dim);
  const double fast = backward(false);
  const double repeatable = backward(true);
  fmt::print(
      "cuDNN full causal, {} tokens, {} heads of {}: forward {:.3f} ms ({:.0f} TFLOP/s), backward {:.3f} ms ({:.0f}), "
      "deterministic {:.3f} ms ({:.0f})\n",
      tokens,
      heads,
      head_dim,
      forward,
      TeraFlops(4.0 * pairs, forward),
      fast,
      TeraFlops(10.0 * pairs, fast),
      repeatable,
      TeraFlops(10.0 * pairs, repeatable));
}

int Main() {
  if (GpuCount() == 0) {
    fmt::print("no GPU\n");
    return 1;
  }
  fmt::print("{}\n", QueryGpu(0).name);
  for (const int64_t rows : {9088, 8192}) {
    Bench bench;
    RunLinear(bench, rows, kDim, kDim, DType::kBF16);
    RunLinear(bench, rows, kDim, kFfn, DType::kBF16);
    RunLinear(bench, rows, kFfn, kDim, DType::kBF16);
  }
  {
    Bench bench;
    RunLinear(bench, kChunk, kDim, kVocabulary, DType::kF32);
  }
  for (const int parts : {1, 2}) {
    Bench bench;
    RunLoss(bench, 8192, parts);
  }
  for (const int32_t tokens : {8192, 32768}) {
    Bench bench;
    RunAttention(bench, tokens, 16, 128);
  }
  return 0;
}

}  // namespace
}  // namespace ksa

int main() {
  return ksa::Main();
}
