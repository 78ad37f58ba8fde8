// Full causal attention of text by cuDNN's graph API.
#include <algorithm>
#include <cmath>

#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/cudnn/problem.h"
#include "kernels/core/error.h"

#ifdef KSA_HAVE_CUDNN

#include <memory>
#include <unordered_map>
#include <utility>

#include <cudnn.h>
#include <cudnn_frontend.h>

#include "kernels/core/cuda.h"
#include "kernels/core/gpu.h"
#include "kernels/core/lru_cache.h"
#include "kernels/core/stream_resources.h"

namespace ksa::cuda_attention::cudnn {
namespace {

namespace graph = cudnn_frontend::graph;
using cudnn_frontend::DataType_t;
using TensorPointer = std::shared_ptr<graph::Tensor_attributes>;

void Check(cudnn_frontend::error_t error, const char* what) {
  if (error.is_bad()) {
    throw DeviceError(ExitCode::kInternal, fmt::format("cuDNN: {} from {}", error.get_message(), what));
  }
}

// Where its tensors lie.
enum Uid : int64_t { kQ = 1, kK, kV, kOut, kLse, kDout, kDq, kDk, kDv };

using Pointers = std::unordered_map<int64_t, void*>;

// A call of cuDNN, built once. Tensors are [b, heads, T, e] with the strides of our rows.
class Plan {
 public:
  Plan(cudnnHandle_t handle, const Problem& problem) : problem_(problem) {
    graph_.set_io_data_type(DataType_t::BFLOAT16)
        .set_intermediate_data_type(DataType_t::FLOAT)
        .set_compute_data_type(DataType_t::FLOAT);
    problem.backward ? Backward() : Forward();
    Check(graph_.build(handle, {cudnn_frontend::HeurMode_t::A}), "building attention");
    Check(graph_.get_workspace_size(workspace_bytes_), "get_workspace_size");
  }

  [[nodiscard]] int64_t workspace_bytes() const { return workspace_bytes_; }

  void Run(cudnnHandle_t handle, Pointers& pointers, void* workspace) {
    Check(graph_.execute(handle, pointers, workspace), "running attention");
  }

 private:
  void Place(const TensorPointer& x, Uid uid, int64_t heads, int64_t row_heads, int64_t dim) const {
    const int64_t row = row_heads * dim;
    x->set_uid(uid)
        .set_dim({problem_.sequences, heads, problem_.tokens, dim})
        .set_stride({problem_.tokens * row, dim, row, 1})
        .set_data_type(dim == 1 ? DataType_t::FLOAT : DataType_t::BFLOAT16);
  }

  // Columns of a head.
  [[nodiscard]] int64_t DimOf(Uid uid) const {
    const bool of_values = uid == kV || uid == kDv || uid == kOut || uid == kDout;
    return of_values ? problem_.value_dim : problem_.head_dim;
  }

  void OfQueries(const TensorPointer& x, Uid uid) const {
    Place(x, uid, problem_.heads, problem_.row_heads, DimOf(uid));
  }

  void OfKeys(const TensorPointer& x, Uid uid) const {
    Place(x, uid, problem_.groups, problem_.row_groups, DimOf(uid));
  }

  void OfLse(const TensorPointer& x) const { Place(x, kLse, problem_.heads, problem_.row_heads, 1); }

  TensorPointer Queries(Uid uid) {
    TensorPointer x = graph_.tensor(graph::Tensor_attributes());
    OfQueries(x, uid);
    return x;
  }

  TensorPointer Keys(Uid uid) {
    TensorPointer x = graph_.tensor(graph::Tensor_attributes());
    OfKeys(x, uid);
    return x;
  }

  [[nodiscard]] float Scale() const {
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(problem_.head_dim)));
  }

  void Forward() {
    auto options = graph::SDPA_attributes().set_generate_stats(true).set_causal_mask(true).set_attn_scale(Scale());
    const TensorPointer q = Queries(kQ);
    const TensorPointer k = Keys(kK);
    const TensorPointer v = Keys(kV);
    const auto [out, lse] = graph_.sdpa(q, k, v, options);
    out->set_output(true);
    OfQueries(out, kOut);
    lse->set_output(true);
    OfLse(lse);
  }

  void Backward() {
    auto options =
        graph::SDPA_backward_attributes().set_causal_mask(true).set_attn_scale(Scale()).set_deterministic_algorithm(
            problem_.deterministic);
    const TensorPointer q = Queries(kQ);
    const TensorPointer k = Keys(kK);
    const TensorPointer v = Keys(kV);
    const TensorPointer out = Queries(kOut);
    const TensorPointer dout = Queries(kDout);
    const TensorPointer lse = graph_.tensor(graph::Tensor_attributes());
    OfLse(lse);
    const auto [dq, dk, dv] = graph_.sdpa_backward(q, k, v, out, dout, lse, options);
    dq->set_output(true);
    OfQueries(dq, kDq);
    dk->set_output(true);
    OfKeys(dk, kDk);
    dv->set_output(true);
    OfKeys(dv, kDv);
  }

  Problem problem_;
  graph::Graph graph_;
  int64_t workspace_bytes_ = 0;
};

struct DestroyHandle {
  void operator()(cudnnHandle_t handle) const { (void)cudnnDestroy(handle); }
};

void CheckStatus(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS) {
    throw DeviceError(ExitCode::kInternal, fmt::format("cuDNN: {} from {}", cudnnGetErrorString(status), what));
  }
}

// A plan, or why cuDNN refuses to make it; which is not asked again while it is remembered.
struct Answer {
  std::unique_ptr<Plan> plan;
  std::string refusal;
};

// A stream's handle of cuDNN and its plans.
class Plans final : public StreamResources::Item {
 public:
  explicit Plans(const Stream& stream) : stream_(cuda::Handle(stream)) {
    KSA_CUDA_CHECK(cudaSetDevice(stream.device.ordinal));
    cudnnHandle_t handle = nullptr;
    CheckStatus(cudnnCreate(&handle), "cudnnCreate");
    handle_.reset(handle);
    CheckStatus(cudnnSetStream(handle, stream_), "cudnnSetStream");
  }

  [[nodiscard]] cudnnHandle_t handle() const { return handle_.get(); }

  [[nodiscard]] size_t size() const { return answers_.size(); }

  void RefuseNew() { refuses_new_ = true; }

  // Valid until the next call.
  const Answer& Get(const Problem& problem) {
    if (const Answer* known = answers_.Find(problem)) {
      return *known;
    }
    if (answers_.full()) {
      KSA_CUDA_CHECK(cudaStreamSynchronize(stream_));  // kernels of the plan that goes may be queued
    }
    return answers_.Insert(problem, Ask(problem));
  }

 private:
  [[nodiscard]] Answer Ask(const Problem& problem) const {
    std::string why = "as a test wants it";
    if (!refuses_new_) {
      try {
        return {std::make_unique<Plan>(handle_.get(), problem), ""};
      } catch (const DeviceError& error) {
        why = error.what();
      }
    }
    return {
        nullptr,
        fmt::format("cuDNN refuses the {} pass of full attention with {} heads of {} (values of {}) and {} tokens ({})",
                    problem.backward ? "backward" : "forward",
                    problem.heads,
                    problem.head_dim,
                    problem.value_dim,
                    problem.tokens,
                    why)};
  }

  cudaStream_t stream_;
  std::unique_ptr<cudnnContext, DestroyHandle> handle_;
  LruCache<Problem, Answer> answers_{kMostPlans};
  bool refuses_new_ = false;
};

Plans& PlansAt(const Stream& stream) {
  KSA_CHECK(stream.resources != nullptr, "attention: a device stream needs its resources; make it by GpuStream");
  return stream.resources->Get<Plans>(stream);
}

// Of a bf16 or fp32 tensor with rows [heads, dim]: the first element of a head of a sequence.
void* At(const TensorView& x, int64_t row, int64_t head) {
  const int64_t dim = x.shape.rank() == 3 ? x.shape[2] : 1;
  return static_cast<char*>(x.data) + ((row * x.shape[1] + head) * dim) * SizeOf(x.dtype);
}

// Why cuDNN refuses it; empty where it does not, or is not asked because nothing is computed.
std::string RefusalOf(const Problem& problem, const Stream& stream) {
  return stream.dry ? "" : PlansAt(stream).Get(problem).refusal;
}

void Run(const Problem& problem, Pointers pointers, Allocator& scratch, const Stream& stream) {
  int64_t bytes = WorkspaceBound(problem);
  Plan* plan = nullptr;
  if (!stream.dry) {
    plan = PlansAt(stream).Get(problem).plan.get();
    KSA_CHECK(plan != nullptr, "attention: a plan that cuDNN refused is run");
    bytes = std::max(bytes, plan->workspace_bytes());
  }
  const Tensor workspace = Tensor::Empty({(bytes + 3) / 4}, DType::kI32, scratch);
  if (plan != nullptr) {
    plan->Run(PlansAt(stream).handle(), pointers, workspace.view().data);
  }
}

// cuDNN refuses it on Blackwell before version 9.18, when the plan is built.
bool HasDeterministicBackward(const Device& device) {
  return cuda::CapabilityOf(device).major != 10 || cudnnGetVersion() >= 91800;
}

}  // namespace

bool Supports(const AttentionForwardArgs& args) {
  return Takes(args);
}

bool Supports(const AttentionBackwardArgs& args, bool deterministic) {
  return Takes(args, deterministic) && (!deterministic || HasDeterministicBackward(args.q.device));
}

std::string ForwardText(const AttentionForwardArgs& args, Allocator& scratch, const Stream& stream) {
  const Problem whole = ProblemOf(args);
  std::string refusal = RefusalOf(whole, stream);
  if (refusal.empty()) {
    const Pointers pointers = {
        {kQ, args.q.data}, {kK, args.k.data}, {kV, args.v.data}, {kOut, args.out.data}, {kLse, args.lse.data}};
    Run(whole, pointers, scratch, stream);
  }
  return refusal;
}

std::string BackwardText(const AttentionBackwardArgs& args,
                         Allocator& scratch,
                         bool deterministic,
                         const Stream& stream) {
  const Problem whole = ProblemOf(args, deterministic);
  const Problem part = PartOf(whole);
  KSA_CHECK(part.groups > 0, "cuDNN's deterministic backward needs too much memory for {} tokens", whole.tokens);
  std::string refusal = RefusalOf(part, stream);
  if (!refusal.empty()) {
    return refusal;
  }
  for (int64_t sequence = 0; sequence < whole.sequences; sequence += part.sequences) {
    const int64_t row = sequence * whole.tokens;
    for (int64_t group = 0; group < whole.groups; group += part.groups) {
      const int64_t head = group * (whole.heads / whole.groups);
      Pointers pointers;
      for (const auto& [uid, x] : {std::pair(kQ, &args.q),
                                   std::pair(kOut, &args.out),
                                   std::pair(kDout, &args.dout),
                                   std::pair(kLse, &args.lse),
                                   std::pair(kDq, &args.dq)}) {
        pointers.emplace(uid, At(*x, row, head));
      }
      for (const auto& [uid, x] :
           {std::pair(kK, &args.k), std::pair(kV, &args.v), std::pair(kDk, &args.dk), std::pair(kDv, &args.dv)}) {
        pointers.emplace(uid, At(*x, row, group));
      }
      Run(part, pointers, scratch, stream);
    }
  }
  return refusal;
}

void RefuseNewPlans(const Stream& stream) {
  PlansAt(stream).RefuseNew();
}

size_t PlansOf(const Stream& stream) {
  return PlansAt(stream).size();
}

}  // namespace ksa::cuda_attention::cudnn

#else

namespace ksa::cuda_attention::cudnn {
namespace {

[[noreturn]] void FailWithoutCudnn() {
  Fail(ExitCode::kInternal, "attention: this build has no cuDNN");
}

}  // namespace

bool Supports(const AttentionForwardArgs& /*args*/) {
  return false;
}

bool Supports(const AttentionBackwardArgs& /*args*/, bool /*deterministic*/) {
  return false;
}

std::string ForwardText(const AttentionForwardArgs& /*args*/, Allocator& /*scratch*/, const Stream& /*stream*/) {
  FailWithoutCudnn();
}

std::string BackwardText(const AttentionBackwardArgs& /*args*/,
                         Allocator& /*scratch*/,
                         bool /*deterministic*/,
                         const Stream& /*stream*/) {
  FailWithoutCudnn();
}

void RefuseNewPlans(const Stream& /*stream*/) {
  FailWithoutCudnn();
}

size_t PlansOf(const Stream& /*stream*/) {
  FailWithoutCudnn();
}

}  // namespace ksa::cuda_attention::cudnn

#endif
