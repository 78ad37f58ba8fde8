// Heads made of latents on the GPU against the CPU's.
#include <vector>

#include <fmt/core.h>

#include "kernels/latent/absorbed_heads.h"
#include "kernels/latent/latent_heads.h"
#include "kernels/rope/qk_norm_rope.h"
#include "tests/gpu/layout_on_gpu.h"
#include "tests/kernels/attention/attention_case.h"

namespace ksa::testing {
namespace {

struct Heads {
  int64_t h;
  int64_t nope;
  int64_t rope;
  int64_t values;
};

const std::vector<Heads> kHeads = {{16, 128, 64, 128}, {3, 8, 16, 24}, {1, 0, 64, 8}, {5, 7, 2, 3}, {2, 16, 8, 12}};

class GpuLatentHeads : public GpuLayoutTest {};

// Copies, and sums in the same order: the same bits.
TEST_F(GpuLatentHeads, TheBitsOfTheCpu) {
  for (const Heads& c : kHeads) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int64_t n : {0, 1, 37}) {
        SCOPED_TRACE(
            fmt::format("{} rows, {} heads of {} | {}, {}, {}", n, c.h, c.nope, c.rope, c.values, NameOf(dtype)));
        const Tensor kv = Normal("kv", {n, c.h, c.nope + c.values}, dtype, host());
        const Tensor rope = Normal("rope", {n, c.rope}, dtype, host());
        const auto forward = [&](const Tensor& from, const Tensor& shared, Allocator& memory, const Stream& on) {
          std::vector<Tensor> out = {Tensor::Empty({n, c.h, c.nope + c.rope}, dtype, memory),
                                     Tensor::Empty({n, c.h, c.values}, dtype, memory)};
          LatentHeadsForward({.kv = from, .rope = shared, .k = out[0], .v = out[1]}, on);
          return out;
        };
        const auto backward = [&](const Tensor& dk, const Tensor& dv, Allocator& memory, const Stream& on) {
          std::vector<Tensor> out = {Tensor::Empty(kv.shape(), dtype, memory),
                                     Tensor::Empty(rope.shape(), dtype, memory)};
          LatentHeadsBackward({.dk = dk, .dv = dv, .dkv = out[0], .drope = out[1]}, on);
          return out;
        };
        const std::vector<Tensor> heads = forward(kv, rope, host(), {});
        const std::vector<Tensor> gpu_heads = forward(ToGpu(kv), ToGpu(rope), device(), stream());
        ExpectSameBits(ToCpu(gpu_heads[0]), heads[0], "k");
        ExpectSameBits(ToCpu(gpu_heads[1]), heads[1], "v");
        const std::vector<Tensor> gradients = backward(heads[0], heads[1], host(), {});
        const std::vector<Tensor> gpu_gradients = backward(gpu_heads[0], gpu_heads[1], device(), stream());
        ExpectSameBits(ToCpu(gpu_gradients[0]), gradients[0], "dkv");
        ExpectSameBits(ToCpu(gpu_gradients[1]), gradients[1], "drope");
      }
    }
  }
}

// Heads that are not expanded. Latents of 512 columns and of odd numbers; more rows than one block takes.
TEST_F(GpuLatentHeads, AbsorbedHeadsAgreeWithTheCpu) {
  for (const Heads& c : kHeads) {
    for (const int64_t latent : {512, 24, 7}) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        for (const int64_t n : {0, 1, 4, 9}) {
          SCOPED_TRACE(fmt::format("{} rows, {} heads of {} | {}, {}, latents of {}, {}",
                                   n,
                                   c.h,
                                   c.nope,
                                   c.rope,
                                   c.values,
                                   latent,
                                   NameOf(dtype)));
          const Tensor q = Normal("q", {n, c.h, c.nope + c.rope}, dtype, host());
          const Tensor x = Normal("x", {n, c.h, latent}, dtype, host());
          const Tensor weight = Normal("weight", {c.h, c.nope + c.values, latent}, dtype, host());
          const auto run =
              [&](const Tensor& queries, const Tensor& sums, const Tensor& by, Allocator& memory, const Stream& on) {
                std::vector<Tensor> out = {Tensor::Empty({n, c.h, latent + c.rope}, by.dtype(), memory),
                                           Tensor::Empty({n, c.h, c.values}, by.dtype(), memory)};
                AbsorbQueries({.q = queries, .weight = by, .y = out[0]}, on);
                ExpandValues({.x = sums, .weight = by, .y = out[1]}, on);
                return out;
              };
          const auto on_cpu = [&](DType type) {
            return run(Cast(q, type), Cast(x, type), Cast(weight, type), host(), {});
          };
          const std::vector<Tensor> exact = on_cpu(DType::kF64);
          const std::vector<Tensor> plain = on_cpu(dtype);
          const std::vector<Tensor> actual = run(ToGpu(q), ToGpu(x), ToGpu(weight), device(), stream());
          ExpectAsAccurate(ToCpu(actual[0]), plain[0], exact[0], "queries");
          ExpectAsAccurate(ToCpu(actual[1]), plain[1], exact[1], "values");
        }
      }
    }
  }
}

TEST_F(GpuLatentHeads, TailsAreRotated) {
  AttentionCase packed;
  packed.layout = {.sequences = 2, .text_tokens = 61, .chunk_size = 4, .summary_tokens = 1, .live_chunks = 7};
  const SummaryLayout whole = packed.layout;
  packed.Pack([](int32_t i) { return 1 + i * 7 % 19; });
  for (const SummaryLayout& layout : {whole, packed.Layout()}) {
    for (const Heads& c : kHeads) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        for (const bool inverse : {false, true}) {
          SCOPED_TRACE(fmt::format("{} heads of {} | {}, {}", c.h, c.nope, c.rope, NameOf(dtype)));
          const int64_t first_row = inverse ? 5 : 0;
          const Shape shape = {layout.rows() - first_row, c.h, c.nope + c.rope};
          const Tensor x = Normal("x", shape, dtype, host());
          const Tensor table = Tensor::Empty({layout.total(), c.rope / 2, 2}, DType::kF64, host());
          FillRopeTable(table, 10000.0, {});
          const auto rotate = [&](const Tensor& in,
                                  const Tensor& angles,
                                  const Tensor& out,
                                  const SummaryLayout& at,
                                  const Stream& on) {
            RotateTails({.x = in, .table = angles, .y = out, .layout = at, .first_row = first_row, .inverse = inverse},
                        on);
          };
          const Tensor angles = Cast(table, DType::kF32);
          const Tensor plain = Tensor::Empty(shape, dtype, host());
          rotate(x, angles, plain, layout, {});
          const Tensor exact = Tensor::Empty(shape, DType::kF64, host());
          rotate(Cast(x, DType::kF64), table, exact, layout, {});
          const Tensor gpu_x = ToGpu(x);
          const Tensor gpu = Tensor::Empty(shape, dtype, device());
          const SummaryLayout gpu_layout = OnGpu(layout);
          rotate(gpu_x, ToGpu(angles), gpu, gpu_layout, stream());
          ExpectAsAccurate(ToCpu(gpu), plain, exact, "y");
          rotate(gpu_x, ToGpu(angles), gpu_x, gpu_layout, stream());
          ExpectSameBits(ToCpu(gpu_x), ToCpu(gpu), "in place");
        }
      }
    }
  }
}

}  // namespace
}  // namespace ksa::testing
