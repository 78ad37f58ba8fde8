// Parameters in flat buffers: weights, gradients, master weights and moments lie one parameter after the other in one
// buffer a kind, so that clipping, AdamW, reductions over ranks and checkpoints are loops over ranges.
//
// A rank holds its tensor-parallel shard of every parameter. Over the ranks that hold the same shards (data x context)
// the flat buffers are divided bucket by bucket: a bucket is a run of whole parameters whose gradients are reduced
// together, and each of P ranks has the same 1/P of it. With ZeRO-1 a rank updates its parts alone, and alone holds
// their moments (and, in bf16, their master weights).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/error.h"
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
  Shape shape;       // of the whole tensor
  ParameterKind kind = ParameterKind::kNorm;
  bool decays = false;                         // weight decay applies
  Placement tensor = Placement::Replicated();  // of the value over the tensor axis: Replicated or Sharded(dim)
  int replicas = 1;                            // of a sharded one: neighbouring tensor ranks that share a shard
  bool gradient_partial_over_tensor = false;   // whether all ranks of the tensor axis hold parts of its gradient
  double init_std = 0.0;                       // of the normal initial values; 0: all ones (norm weights)
  // Initial values of another kind: of element `element` of the whole tensor; `key` is drawn from seed and name.
  double (*initial)(uint64_t key, uint64_t element) = nullptr;
  bool trained = true;       // false: its values stay as they are, and it has neither gradient nor moments
  int32_t first_layer = -1;  // that uses it; -1: something before the layers does; their number: only what follows them
};

// Over which tensor ranks a gradient is still to be summed when backward is done.
enum class TensorReduction : int { kNone, kReplicas, kAll };

// One parameter: views into the flat buffers.
struct Parameter {
  ParameterSpec spec;
  Shape shape;                // of what this rank holds: spec.shape, but its part of the sharded dimension
  int64_t shard_begin = 0;    // where that part begins in the sharded dimension
  bool counted = true;        // of the tensor ranks that hold the same elements, this one writes and counts them
  int64_t offset = 0;         // first element in the flat buffers
  TensorView value;           // compute dtype, `shape`
  TensorView grad;            // accumulation type, `shape`; none (empty) of one that is not trained
  bool grad_written = false;  // whether this update has put something into grad
  bool grad_final = false;    // nothing may be added any more: grad is being summed over ranks

  // Call before writing grad: whether to add to it (true), or to overwrite what an earlier update left (false).
  // Error(kInternal) when it is final.
  [[nodiscard]] bool Accumulate() {
    KSA_CHECK(spec.trained, "{}: a gradient of a parameter that is not trained", spec.name);
    KSA_CHECK(!grad_final, "{}: a gradient comes after the parameter's gradients were said to be complete", spec.name);
    const bool accumulate = grad_written;
    grad_written = true;
    return accumulate;
  }
};

// Where a kernel puts the gradient of a parameter: its place in the flat buffer, or, of one that is not trained, memory
// that is forgotten. For kernels that always compute it, of vectors and other small tensors; a product that nobody
// wants is left out instead.
struct GradientTarget {
  GradientTarget(Parameter& parameter, Allocator& allocator)
      : forgotten(parameter.spec.trained
                      ? Tensor()
                      : Tensor::Empty(parameter.shape, AccumulationType(parameter.value.dtype), allocator)),
        to(parameter.spec.trained ? parameter.grad : forgotten.view()),
        accumulate(parameter.spec.trained && parameter.Accumulate()) {}

  Tensor forgotten;
  TensorView to;
  bool accumulate;
};

// A half-open range of elements of the flat buffers.
struct FlatRange {
  int64_t begin = 0;
  int64_t end = 0;

  [[nodiscard]] int64_t size() const { return end > begin ? end - begin : 0; }

  friend bool operator==(const FlatRange&, const FlatRange&) = default;
};

// Where the elements lie that a rank holds of a parameter, in the whole tensor, row-major: in `runs` stretches of
// `length` consecutive elements, `stride` apart, the first one at `first`. So for any number of dimensions and
// whichever of them is cut.
struct HeldRuns {
  int64_t runs = 1;
  int64_t length = 0;
  int64_t stride = 0;
  int64_t first = 0;

  // The element of the whole tensor that is element `held` of what the rank holds.
  [[nodiscard]] int64_t InWhole(int64_t held) const { return held / length * stride + first + held % length; }
};

[[nodiscard]] HeldRuns HeldRunsOf(const Parameter& parameter);

// What both hold; empty (size 0) when there is nothing.
[[nodiscard]] FlatRange Intersect(const FlatRange& a, const FlatRange& b);

// How parameters are divided among ranks.
struct FlatSharding {
  // Ranks that hold the same tensor shards: every bucket has `parts` equal parts, of which this rank has `rank`.
  int parts = 1;
  int rank = 0;
  bool shard_optimizer = false;  // ZeRO-1: update and keep the state of this rank's parts only
  int tensor_parts = 1;
  int tensor_rank = 0;
  int64_t bucket_elements = INT64_MAX;  // a bucket ends with the parameter that reaches this size
  // A model that is not trained has weights alone, in the type that it computes in: in bf16 a ninth of what training
  // holds.
  bool weights_alone = false;
};

struct Bucket {
  FlatRange range;
  FlatRange part;  // this rank's
  TensorReduction reduction = TensorReduction::kNone;
  bool trained = true;  // false: of parameters that have no gradients
};

// Parameters at their places in the flat buffers, before any memory exists.
struct FlatPlan {
  std::vector<Parameter> parameters;  // without views
  std::vector<Bucket> buckets;
  int64_t decay_end = 0;    // elements [0, decay_end) belong to parameters that decay
  int64_t trained_end = 0;  // and [0, trained_end) to those that are trained
  int64_t padded_size = 0;  // elements of a flat buffer
};

[[nodiscard]] FlatPlan PlanFlat(std::vector<ParameterSpec> specs, const FlatSharding& sharding);

class ParameterStore {
 public:
  // Memory comes from `allocator`, which must outlive the store; `stream` computes there. Parameters that decay come
  // first in the flat buffers, so that an update is one pass over each of the two kinds; then those of a kind whose
  // gradients are reduced alike. Parameters that are not trained come behind all others: gradients and moments end
  // before them.
  ParameterStore(std::vector<ParameterSpec> specs,
                 DType compute,
                 Allocator& allocator,
                 const FlatSharding& sharding = {},
                 const Stream& stream = {});

  // Initial values: a pure function of (seed, parameter name, element of the whole tensor).
  void Initialize(uint64_t seed, const Stream& stream);

  // The elements of the flat buffers whose parameters decay: [0, decay_end()).
  [[nodiscard]] int64_t decay_end() const { return decay_end_; }

  // The elements of the flat buffers that are trained: [0, trained_end()).
  [[nodiscard]] int64_t trained_end() const { return trained_end_; }

  // Sets what this rank holds of a parameter to `values` [its size], state dtype, in host memory: the weights, and of
  // the master weights what lies in this rank's shards.
  void SetWeights(const Parameter& parameter, const TensorView& values, const Stream& stream);

  [[nodiscard]] std::vector<Parameter>& parameters() { return parameters_; }

  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }

  [[nodiscard]] Parameter& Get(std::string_view name);   // throws when there is none
  [[nodiscard]] Parameter* Find(std::string_view name);  // null when there is none

  [[nodiscard]] DType compute_dtype() const { return compute_; }

  [[nodiscard]] DType state_dtype() const { return AccumulationType(compute_); }

  [[nodiscard]] int64_t padded_size() const { return padded_size_; }  // elements of a flat buffer, with padding

  [[nodiscard]] int64_t element_count() const;  // of the whole model, without padding
  [[nodiscard]] int64_t trained_count() const;  // of these, the trained ones

  // The tensor ranks that share key/value shards: the largest `replicas` of all parameters.
  [[nodiscard]] int replicas() const;

  // In order; they cover the flat buffers without overlap. Neighbours in the order of parameters are neighbours here.
  [[nodiscard]] const std::vector<Bucket>& buckets() const { return buckets_; }

  // The elements whose state this rank holds: with ZeRO-1 its part of every bucket, else everything. Of those that are
  // not trained the state is the master weights alone.
  [[nodiscard]] const std::vector<FlatRange>& shards() const { return shards_; }

  // Whether ranks update parts only, so that the weights must be gathered.
  [[nodiscard]] bool is_sharded() const { return sharding_.shard_optimizer && sharding_.parts > 1; }

  // The elements that this rank writes into a checkpoint and counts in the norm: every element of the model has exactly
  // one rank, with ZeRO or without. In order; within shards().
  [[nodiscard]] const std::vector<FlatRange>& owned() const { return owned_; }

  // Rows of a state buffer (master, exp_avg, exp_avg_sq) that hold the elements `range`, which lie in one of shards().
  [[nodiscard]] TensorView State(const TensorView& buffer, const FlatRange& range) const;

  // Whole flat buffers. With weights alone there are no others, and gradients of parameters are empty.
  [[nodiscard]] TensorView weights() const { return weights_; }  // [padded_size] compute dtype

  [[nodiscard]] TensorView grads() const { return grads_; }  // [trained_end] state dtype

  // The master weights of elements that lie in one of shards(). In fp32 and fp64 they are the weights themselves.
  [[nodiscard]] TensorView Master(const FlatRange& range) const;

  // All of this rank's master weights, where they are one run of elements.
  [[nodiscard]] TensorView master() const;

  // Of what is trained in shards(), one after the other, state dtype.

  [[nodiscard]] TensorView exp_avg() const { return exp_avg_; }

  [[nodiscard]] TensorView exp_avg_sq() const { return exp_avg_sq_; }

  [[nodiscard]] bool has_separate_master() const { return compute_ == DType::kBF16 && !sharding_.weights_alone; }

  [[nodiscard]] int64_t master_bytes() const { return has_separate_master() ? master_.view().bytes() : 0; }

  // Call before the first micro-batch of an update, and after the last one: gradients that nothing wrote become zero.
  void BeginUpdate();
  void FinishGradients(const Stream& stream);

  // The same for one of its parameters.
  static void FinishGradient(Parameter& parameter, const Stream& stream);

 private:
  void DivideAmongRanks();

  std::vector<Parameter> parameters_;
  DType compute_;
  Allocator& allocator_;
  FlatSharding sharding_;
  int64_t padded_size_ = 0;
  int64_t decay_end_ = 0;
  int64_t trained_end_ = 0;
  std::vector<Bucket> buckets_;
  std::vector<FlatRange> shards_;
  std::vector<int64_t> shard_offsets_;  // of each shard in the state buffers
  int64_t state_size_ = 0;
  int64_t moment_size_ = 0;  // of these elements, those that are trained: the first ones
  std::vector<FlatRange> owned_;
  Tensor weights_;
  Tensor grads_;
  Tensor master_;
  Tensor exp_avg_;
  Tensor exp_avg_sq_;
};

}  // namespace ksa
