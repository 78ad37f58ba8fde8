// What tests on a GPU share: guarded device memory, copies in both directions, and the rule for errors.
//
// The oracle is the CPU side of the same operation. A test runs it three times: in fp64 (exact), in the type that the
// GPU runs in (plain), and on the GPU (actual), all on the same input values.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/copy/elementwise.h"
#include "kernels/core/allocator.h"
#include "kernels/core/gpu.h"
#include "kernels/core/tensor.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {

// Device memory with sentinels around every block, looked at when it is freed. A block is an allocation of the driver's
// own, so that compute-sanitizer sees where it ends. Fresh memory is NaN in every floating type. A sentinel that is
// read as a number is -4e37, in fp32 and in bf16 alike, which no result survives unnoticed.
class GpuGuardAllocator final : public Allocator {
 public:
  explicit GpuGuardAllocator(const Stream& stream) : stream_(stream), slabs_(stream.device.ordinal) {}

  [[nodiscard]] Device device() const override { return stream_.device; }

  [[nodiscard]] void* Allocate(int64_t bytes) override {
    auto* block = static_cast<unsigned char*>(slabs_.Take(bytes + 2 * kGuard));
    KSA_CHECK(block != nullptr, "no {} bytes of GPU memory for a test", bytes);
    std::vector<unsigned char> fill(static_cast<size_t>(bytes + 2 * kGuard), kSentinel);
    std::memset(fill.data() + kGuard, 0xff, static_cast<size_t>(bytes));
    Upload(fill.data(), block, bytes + 2 * kGuard);
    CountTaken(bytes);
    return block + kGuard;
  }

  void Free(void* data, int64_t bytes) noexcept override {
    unsigned char* block = static_cast<unsigned char*>(data) - kGuard;
    try {
      ExpectSentinels(block, 0, bytes, "before");
      ExpectSentinels(block, kGuard + bytes, bytes, "behind");
    } catch (const std::exception& error) {
      ADD_FAILURE() << "freeing a block of " << bytes << " bytes: " << error.what();
    }
    slabs_.Give(block, bytes + 2 * kGuard);
    CountGiven(bytes);
  }

 private:
  static constexpr int64_t kGuard = 512;
  static constexpr unsigned char kSentinel = 0xfd;

  // Raw bytes as a tensor; every element type has an even number of them.
  [[nodiscard]] TensorView Bytes(void* data, int64_t bytes, const Device& device) const {
    return {data, DType::kBF16, device, {bytes / 2}};
  }

  void Upload(unsigned char* from, unsigned char* to, int64_t bytes) const {
    CopyFromHost(Bytes(from, bytes, {}), Bytes(to, bytes, stream_.device), stream_);
    Synchronize(stream_);
  }

  void ExpectSentinels(unsigned char* block, int64_t offset, int64_t bytes, const char* where) const {
    std::vector<unsigned char> guard(static_cast<size_t>(kGuard));
    CopyToHost(Bytes(block + offset, kGuard, stream_.device), Bytes(guard.data(), kGuard, {}), stream_);
    const auto bad = std::find_if(guard.begin(), guard.end(), [](unsigned char b) { return b != kSentinel; });
    EXPECT_TRUE(bad == guard.end()) << "byte " << bad - guard.begin() << " of the guard " << where << " a block of "
                                    << bytes << " was overwritten";
  }

  Stream stream_;
  GpuSlabs slabs_;
};

// A test that needs a GPU. `host()` is guarded host memory, `device()` guarded device memory.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (GpuCount() == 0) {
      GTEST_SKIP() << "no GPU";
    }
    gpu_ = std::make_unique<Gpu>();
  }

  [[nodiscard]] const Stream& stream() const { return gpu_->queue.stream(); }

  [[nodiscard]] Allocator& device() const { return gpu_->memory; }

  [[nodiscard]] Allocator& host() { return host_; }

  // The same values in device memory. A missing optional argument stays missing.
  [[nodiscard]] Tensor ToGpu(const TensorView& x) const {
    if (x.empty()) {
      return {};
    }
    Tensor copy = Tensor::Empty(x.shape, x.dtype, device());
    CopyFromHost(x, copy, stream());
    Synchronize(stream());
    return copy;
  }

  // The values of a device tensor, once everything queued before has run.
  [[nodiscard]] Tensor ToCpu(const TensorView& x) {
    if (x.empty()) {
      return {};
    }
    Tensor copy = Tensor::Empty(x.shape, x.dtype, host_);
    CopyToHost(x, copy, stream());
    return copy;
  }

  // A host tensor's values in another type (rounded where it is narrower), in host memory.
  [[nodiscard]] Tensor Cast(const TensorView& x, DType dtype) {
    if (x.empty()) {
      return {};
    }
    Tensor copy = Tensor::Empty(x.shape, dtype, host_);
    Copy(x, copy, {});
    return copy;
  }

  // run() returns device tensors that it wrote: equal in bits when it runs again.
  void ExpectRepeats(const std::function<std::vector<Tensor>()>& run) {
    std::vector<Tensor> first;
    for (const Tensor& x : run()) {
      first.push_back(ToCpu(x));
    }
    const std::vector<Tensor> second = run();
    ASSERT_EQ(first.size(), second.size());
    for (size_t i = 0; i < first.size(); ++i) {
      ASSERT_EQ(second[i].empty(), first[i].empty());
      if (!first[i].empty()) {
        ExpectSameBits(ToCpu(second[i]), first[i], "an output of a second run");
      }
    }
  }

 private:
  struct Gpu {
    GpuStream queue{0, 1};
    GpuGuardAllocator memory{queue.stream()};
  };

  std::unique_ptr<Gpu> gpu_;
  GuardAllocator host_;
};

struct Deviation {
  double largest = 0.0;  // of |x - exact|; infinity where one is NaN or infinite and the other is not the same
  double rms = 0.0;
  int64_t at = 0;  // where it is largest
};

[[nodiscard]] inline Deviation DeviationOf(const TensorView& x, const TensorView& exact) {
  Deviation deviation;
  double squares = 0.0;
  for (int64_t i = 0; i < x.size(); ++i) {
    const double value = ElementAt(x, i);
    const double want = ElementAt(exact, i);
    const bool same = value == want || (std::isnan(value) && std::isnan(want));
    double error = same ? 0.0 : std::abs(value - want);
    error = std::isnan(error) ? HUGE_VAL : error;
    squares += error * error;
    if (error > deviation.largest) {
      deviation.largest = error;
      deviation.at = i;
    }
  }
  deviation.rms = x.size() == 0 ? 0.0 : std::sqrt(squares / static_cast<double>(x.size()));
  return deviation;
}

// The rule: against fp64, `actual` (from the GPU) errs at most twice as much as `plain` (the CPU in the same type), in
// the largest error and in the root of the mean square, each plus `units` roundings of the largest magnitude to
// actual's type: with a few elements, plain may be exact by luck, and one rounding is nobody's fault. All three on the
// host.
inline void ExpectAsAccurate(const TensorView& actual,
                             const TensorView& plain,
                             const TensorView& exact,
                             std::string_view what,
                             double units = 1.0) {
  ASSERT_TRUE(actual.shape == exact.shape && plain.shape == exact.shape)
      << what << ": shapes " << actual.shape.ToString() << ", " << plain.shape.ToString() << " and "
      << exact.shape.ToString();
  double magnitude = 0.0;
  for (int64_t i = 0; i < exact.size(); ++i) {
    const double value = std::abs(ElementAt(exact, i));
    magnitude = std::isfinite(value) ? std::max(magnitude, value) : magnitude;
  }
  const double floor = units * UnitRoundoff(actual.dtype) * magnitude;
  const Deviation ours = DeviationOf(actual, exact);
  const Deviation theirs = DeviationOf(plain, exact);
  EXPECT_LE(ours.largest, 2.0 * theirs.largest + floor)
      << what << "[" << ours.at << "] of " << NameOf(actual.dtype) << " " << actual.shape.ToString() << ": got "
      << ElementAt(actual, ours.at) << ", exact " << ElementAt(exact, ours.at) << ", plain "
      << ElementAt(plain, ours.at);
  EXPECT_LE(ours.rms, 2.0 * theirs.rms + floor)
      << what << " of " << NameOf(actual.dtype) << " " << actual.shape.ToString();
}

}  // namespace ksa::testing
