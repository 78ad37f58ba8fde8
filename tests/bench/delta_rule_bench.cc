// Times the gated delta rule on GPU 0, heads of 128 columns in bf16: milliseconds of a call, the median of 7 batches of
// 5 calls queued at once. Arguments: none.
#include <algorithm>
#include <functional>
#include <vector>

#include <fmt/core.h>

#include "kernels/copy/elementwise.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "kernels/delta_rule/gated_delta_rule.h"
#include "kernels/delta_rule/l2_norm.h"

namespace ksa {
namespace {

constexpr int64_t kDim = 128;
constexpr int kBatches = 7;
constexpr int kCalls = 5;

class Bench {
 public:
  Bench() : queue_(0, 1), slabs_(0), memory_(slabs_, int64_t{24} << 30) {}

  [[nodiscard]] const Stream& stream() const { return queue_.stream(); }

  [[nodiscard]] Allocator& memory() { return memory_; }

  Tensor Empty(const Shape& shape, DType dtype) { return Tensor::Empty(shape, dtype, memory_); }

  // Numbers between `least` and `most`.
  Tensor Values(const Shape& shape, DType dtype, float least, float most) {
    HostAllocator host;
    const Tensor numbers = Tensor::Empty({shape.size()}, DType::kF32, host);
    for (int64_t i = 0; i < numbers.size(); ++i) {
      numbers.As<float>()[i] = least + (most - least) * static_cast<float>((i * 7919) % 20011) / 20010.0F;
    }
    const Tensor typed = Tensor::Empty({shape.size()}, dtype, host);
    Copy(numbers, typed, {});
    Tensor x = Empty(shape, dtype);
    CopyFromHost(typed, x.view().Reshape({shape.size()}), stream());
    Synchronize(stream());
    return x;
  }

  [[nodiscard]] double Median(const std::function<void()>& call) const {
    std::vector<double> milliseconds;
    for (int batch = 0; batch <= kBatches; ++batch) {
      Event begin;
      Event end;
      begin.Record(stream());
      for (int i = 0; i < kCalls; ++i) {
        call();
      }
      end.Record(stream());
      end.Wait();
      if (batch > 0) {  // the first one warms up
        milliseconds.push_back(end.MillisecondsSince(begin) / kCalls);
      }
    }
    std::sort(milliseconds.begin(), milliseconds.end());
    return milliseconds[milliseconds.size() / 2];
  }

 private:
  GpuStream queue_;
  GpuSlabs slabs_;
  ArenaAllocator memory_;
};

void Measure(Bench& b, int64_t key_heads, int64_t value_heads, int32_t tokens) {
  const Shape keys = {tokens, key_heads, kDim};
  const Shape values = {tokens, value_heads, kDim};
  const Tensor q = b.Values(keys, DType::kBF16, -1.0F, 1.0F);
  const Tensor k = b.Values(keys, DType::kBF16, -1.0F, 1.0F);
  L2NormForward({.x = q, .y = q}, b.stream());
  L2NormForward({.x = k, .y = k}, b.stream());
  const Tensor v = b.Values(values, DType::kBF16, -1.0F, 1.0F);
  const Tensor g = b.Values({tokens, value_heads}, DType::kF32, -0.2F, 0.0F);
  const Tensor beta = b.Values({tokens, value_heads}, DType::kF32, 0.0F, 1.0F);
  const Tensor out = b.Empty(values, DType::kBF16);
  const Tensor dq = b.Empty(keys, DType::kBF16);
  const Tensor dk = b.Empty(keys, DType::kBF16);
  const Tensor dg = b.Empty(g.shape(), DType::kF32);
  const Tensor dbeta = b.Empty(g.shape(), DType::kF32);
  const Tensor dv = b.Empty(values, DType::kBF16);
  const SummaryLayout layout = {.text_tokens = tokens};
  const double forward = b.Median([&] {
    GatedDeltaRuleForward(
        {.q = q, .k = k, .v = v, .g = g, .beta = beta, .out = out, .layout = layout, .allocator = &b.memory()},
        b.stream());
  });
  const double backward = b.Median([&] {
    GatedDeltaRuleBackward({.q = q,
                            .k = k,
                            .v = v,
                            .g = g,
                            .beta = beta,
                            .dout = out,
                            .dq = dq,
                            .dk = dk,
                            .dv = dv,
                            .dg = dg,
                            .dbeta = dbeta,
                            .layout = layout,
                            .allocator = &b.memory()},
                           b.stream());
  });
  fmt::print("{:>3} / {:<3} heads, {:>6} tokens: forward {:.3f} ms, backward {:.3f} ms\n",
             key_heads,
             value_heads,
             tokens,
             forward,
             backward);
}

}  // namespace
}  // namespace ksa

int main() {
  ksa::Bench bench;
  ksa::Measure(bench, 16, 16, 8192);
  ksa::Measure(bench, 8, 16, 8192);
  ksa::Measure(bench, 16, 32, 8192);
  ksa::Measure(bench, 16, 32, 32768);
  return 0;
}
