// What the tests of checkpoints share: a folder for one test, a small odd-sized model, and its values.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/copy/elementwise.h"
#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"
#include "model/autograd/parameter.h"
#include "trainer/checkpoint/checkpoint.h"

namespace ksa::testing {

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "ksa_scratch_XXXXXX").string();
    path_ = ::mkdtemp(path.data());
  }

  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string Slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void Spill(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// What `work` throws; fails the test when it throws nothing or something else than ksa::Error.
inline Error ErrorOf(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ExitCode::kDone, ""};
}

inline std::vector<ParameterSpec> SmallSpecs() {
  return {{.name = "embed.weight", .shape = {11, 7}, .init_std = 0.02},
          {.name = "layers.0.q_proj.weight", .shape = {13, 5}, .init_std = 0.02},
          {.name = "layers.0.norm.weight", .shape = {7}},
          {.name = "norm.weight", .shape = {1}}};
}

enum class Kind : int { kWeights, kExpAvg, kExpAvgSq };

// The value of an element: differs between any two elements, exact in fp32 and not in bf16. No rank or layout in it.
inline double ValueOf(Kind kind, size_t parameter, int64_t element) {
  return static_cast<double>(static_cast<int>(kind) + 1) +
         (static_cast<double>(parameter) * 1000.0 + static_cast<double>(element)) / 65536.0;
}

inline void SetAt(const TensorView& buffer, int64_t index, double value) {
  if (buffer.dtype == DType::kF64) {
    buffer.As<double>()[index] = value;
  } else if (buffer.dtype == DType::kF32) {
    buffer.As<float>()[index] = static_cast<float>(value);
  } else {
    buffer.As<BFloat16>()[index] = BFloat16(static_cast<float>(value));
  }
}

inline double At(const TensorView& buffer, int64_t index) {
  return buffer.dtype == DType::kF64   ? buffer.As<double>()[index]
         : buffer.dtype == DType::kF32 ? static_cast<double>(buffer.As<float>()[index])
                                       : static_cast<double>(static_cast<float>(buffer.As<BFloat16>()[index]));
}

// The element of a row-major tensor of shape `whole` that is element `inside` of its box [offset, offset + box).
inline int64_t ElementOfBox(const std::vector<int64_t>& whole,
                            const std::vector<int64_t>& offset,
                            const std::vector<int64_t>& box,
                            int64_t inside) {
  int64_t element = 0;
  int64_t stride = 1;
  for (size_t d = whole.size(); d-- > 0;) {
    element += (offset[d] + inside % box[d]) * stride;
    inside /= box[d];
    stride *= whole[d];
  }
  return element;
}

// Of the whole tensor, the element that a rank has as element `held` of what it holds.
inline int64_t WholeElement(const Parameter& parameter, int64_t held) {
  std::vector<int64_t> whole;
  std::vector<int64_t> offset;
  std::vector<int64_t> box;
  for (int d = 0; d < parameter.shape.rank(); ++d) {
    whole.push_back(parameter.spec.shape[d]);
    offset.push_back(parameter.spec.tensor == Placement::Sharded(d) ? parameter.shard_begin : 0);
    box.push_back(parameter.shape[d]);
  }
  return ElementOfBox(whole, offset, box, held);
}

// Calls `visit(kind, buffer, index in buffer, parameter, element)` for every element of master weights and moments that
// the store's rank holds.
template <typename Visit>
void VisitState(const ParameterStore& store, const Visit& visit) {
  for (size_t p = 0; p < store.parameters().size(); ++p) {
    const Parameter& parameter = store.parameters()[p];
    for (const FlatRange& shard : store.shards()) {
      const FlatRange held = Intersect(shard, {parameter.offset, parameter.offset + parameter.shape.size()});
      for (int64_t flat = held.begin; flat < held.end; ++flat) {
        const FlatRange one = {flat, flat + 1};
        const int64_t e = WholeElement(parameter, flat - parameter.offset);
        visit(Kind::kWeights, store.Master(one), 0, p, e);
        visit(Kind::kExpAvg, store.State(store.exp_avg(), one), 0, p, e);
        visit(Kind::kExpAvgSq, store.State(store.exp_avg_sq(), one), 0, p, e);
      }
    }
  }
}

inline void FillState(ParameterStore& store) {
  VisitState(store, [](Kind kind, const TensorView& buffer, int64_t index, size_t parameter, int64_t element) {
    SetAt(buffer, index, ValueOf(kind, parameter, element));
  });
}

// Whether the store holds what FillState put into another; weights are checked whole.
inline void ExpectState(const ParameterStore& store, bool moments = true) {
  VisitState(store, [&](Kind kind, const TensorView& buffer, int64_t index, size_t parameter, int64_t element) {
    const double expected = kind == Kind::kWeights || moments ? ValueOf(kind, parameter, element) : 0.0;
    ASSERT_EQ(At(buffer, index), expected) << static_cast<int>(kind) << " " << parameter << " " << element;
  });
  for (size_t p = 0; p < store.parameters().size(); ++p) {
    const Parameter& parameter = store.parameters()[p];
    const TensorView& value = parameter.value;
    for (int64_t e = 0; e < value.size(); ++e) {
      double expected = ValueOf(Kind::kWeights, p, WholeElement(parameter, e));
      if (value.dtype == DType::kBF16) {
        expected = static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(expected))));
      }
      ASSERT_EQ(At(value, e), expected) << p << " " << e;
    }
  }
}

inline CheckpointMeta MetaOf(int64_t step, const std::string& run_id = "00112233445566aa") {
  CheckpointMeta meta;
  meta.run_id = run_id;
  meta.step = step;
  meta.tokens = step * 512;
  meta.samples = step * 8;
  meta.configuration = "run: {name: test}\n# \"quoted\", ümlaut\n";
  meta.data_fingerprint = "fedcba9876543210";
  return meta;
}

// Saves the small model from one rank; returns the checkpoint's path.
inline std::string SaveSmallWith(const SaveOptions& options,
                                 int64_t step,
                                 const std::string& run_id = "00112233445566aa") {
  HostAllocator allocator;
  ParameterStore store(SmallSpecs(), DType::kF32, allocator);
  FillState(store);
  const auto self = MakeSelfCommunicator();
  return SaveCheckpoint(store, *self, MetaOf(step, run_id), options);
}

inline std::string SaveSmall(const std::string& folder,
                             int64_t step,
                             int32_t keep_last = 10,
                             const std::string& run_id = "00112233445566aa",
                             const std::function<void(SaveStage)>& on_stage = {}) {
  return SaveSmallWith({folder, keep_last, on_stage}, step, run_id);
}

}  // namespace ksa::testing
