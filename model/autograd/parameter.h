// Parameters in flat buffers: weights, gradients, master weights and moments lie one parameter after the other in one
// buffer a kind, so that clipping, AdamW, reductions over ranks and checkpoints are loops over ranges.
//
// With ZeRO-1 over P data ranks, rank r updates the elements [r·n/P, (r+1)·n/P) of the flat buffers and alone holds
// their moments (and, in bf16, their master weights).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"
#include "parallel/mesh/placement.h"

namespace ksa {

enum class ParameterKind : int {
  kEmbedding,
  kHead,
  kAttention,
  kMlp,
  kNorm,
  kSummaryEmbedding,
  kSummaryAttention,
  kSummaryNorm
};

[[nodiscard]] std::string_view NameOf(ParameterKind kind);  // "embedding", "head", ...

// What a parameter is, before any memory exists.
struct ParameterSpec {
  std::string name;  // as in tests/golden/README.md
  Shape shape;       // of the whole, unpadded tensor
  ParameterKind kind = ParameterKind::kNorm;
  bool decays = false;                         // weight decay applies
  Placement tensor = Placement::Replicated();  // of the value over the tensor axis
  bool gradient_partial_over_tensor = false;   // whether ranks of the tensor axis hold parts of its gradient
  double init_std = 0.0;                       // of the normal initial values; 0: all ones (norm weights)
};

// One parameter: views into the flat buffers.
struct Parameter {
  ParameterSpec spec;
  int64_t offset = 0;         // first element in the flat buffers
  TensorView value;           // compute dtype, spec.shape
  TensorView grad;            // accumulation type, spec.shape
  bool grad_written = false;  // whether this update has put something into grad

  // Call before writing grad: whether to add to it (true), or to overwrite what an earlier update left (false).
  [[nodiscard]] bool Accumulate() {
    const bool accumulate = grad_written;
    grad_written = true;
    return accumulate;
  }
};

// A half-open range of elements of the flat buffers.
struct FlatRange {
  int64_t begin = 0;
  int64_t end = 0;

  [[nodiscard]] int64_t size() const { return end - begin; }
};

// How the flat buffers are divided among data ranks: `parts` equal ranges, of which this rank has number `rank`.
struct FlatSharding {
  int parts = 1;
  int rank = 0;
  bool shard_optimizer = false;  // ZeRO-1: update and keep the state of this rank's range only
};

class ParameterStore {
 public:
  // Memory comes from `allocator`, which must outlive the store; `stream` computes there. Parameters that decay come
  // first in the flat buffers, so that an update is one pass over each of the two kinds.
  ParameterStore(std::vector<ParameterSpec> specs,
                 DType compute,
                 Allocator& allocator,
                 const FlatSharding& sharding = {},
                 const Stream& stream = {});

  // Initial values: a pure function of (seed, parameter name, element).
  void Initialize(uint64_t seed, const Stream& stream);

  // The elements of the flat buffers whose parameters decay: [0, decay_end()).
  [[nodiscard]] int64_t decay_end() const { return decay_end_; }

  // Sets a whole parameter to `values` [its size], state dtype, in host memory: the weights, and of the master weights
  // what lies in this rank's shard.
  void SetWeights(const Parameter& parameter, const TensorView& values, const Stream& stream);

  [[nodiscard]] std::vector<Parameter>& parameters() { return parameters_; }

  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }

  [[nodiscard]] Parameter& Get(std::string_view name);   // throws when there is none
  [[nodiscard]] Parameter* Find(std::string_view name);  // null when there is none

  [[nodiscard]] DType compute_dtype() const { return compute_; }

  [[nodiscard]] DType state_dtype() const { return AccumulationType(compute_); }

  [[nodiscard]] int64_t padded_size() const { return padded_size_; }  // elements of a flat buffer, with padding

  [[nodiscard]] int64_t element_count() const;  // without padding

  [[nodiscard]] FlatRange shard() const { return shard_; }  // the elements this rank updates

  // The elements this rank writes into a checkpoint: every element has exactly one writer, with ZeRO or without.
  [[nodiscard]] FlatRange write_range() const { return write_range_; }

  // Whole flat buffers [padded_size].
  [[nodiscard]] TensorView weights() const { return weights_; }  // compute dtype

  [[nodiscard]] TensorView grads() const { return grads_; }  // state dtype

  // This rank's shard, [shard().size()], state dtype. In fp32 and fp64 the master weights are the weights themselves.
  [[nodiscard]] TensorView master() const;

  [[nodiscard]] TensorView exp_avg() const { return exp_avg_; }

  [[nodiscard]] TensorView exp_avg_sq() const { return exp_avg_sq_; }

  [[nodiscard]] bool has_separate_master() const { return compute_ == DType::kBF16; }

  // Call before the first micro-batch of an update, and after the last one: gradients that nothing wrote become zero.
  void BeginUpdate();
  void FinishGradients(const Stream& stream);

 private:
  std::vector<Parameter> parameters_;
  DType compute_;
  Allocator& allocator_;
  int64_t padded_size_ = 0;
  int64_t decay_end_ = 0;
  FlatRange shard_;
  FlatRange write_range_;
  Tensor weights_;
  Tensor grads_;
  Tensor master_;
  Tensor exp_avg_;
  Tensor exp_avg_sq_;
};

}  // namespace ksa
