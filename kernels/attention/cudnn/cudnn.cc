// Full causal attention of text by cuDNN's graph API.
#include <algorithm>
#include <cmath>

#include "kernels/attention/cuda_paths.h"
#include "kernels/core/error.h"

#ifdef KSA_HAVE_CUDNN

#include <array>
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

// Sequences and heads that one call of cuDNN takes, out of rows of `row_heads` query and `row_groups` key/value heads.
struct Problem {
  int64_t sequences = 0;  // b
  int64_t heads = 0;      // h
  int64_t groups = 0;     // g
  int64_t row_heads = 0;
  int64_t row_groups = 0;
  int64_t tokens = 0;    // T
  int64_t head_dim = 0;  // e
  bool backward = false;
  bool deterministic = true;

  friend bool operator<(const Problem& x, const Problem& y) { return x.Key() < y.Key(); }

 private:
  [[nodiscard]] std::array<int64_t, 9> Key() const {
    return {sequences, heads, groups, row_heads, row_groups, tokens, head_dim, backward, deterministic};
  }
};

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

  void OfQueries(const TensorPointer& x, Uid uid) const {
    Place(x, uid, problem_.heads, problem_.row_heads, problem_.head_dim);
  }

  void OfKeys(const TensorPointer& x, Uid uid) const {
    Place(x, uid, problem_.groups, problem_.row_groups, problem_.head_dim);
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
    return {nullptr,
            fmt::format("cuDNN refuses the {} pass of full attention with {} heads of {} and {} tokens ({})",
                        problem.backward ? "backward" : "forward",
                        problem.heads,
                        problem.head_dim,
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

// On Hopper cuDNN's deterministic backward writes dS of all pairs (bf16) to its workspace, so that it is called for few
// heads at a time. Share: sequences and key/value heads of a call; no groups: not even one head fits.
constexpr int64_t kPairBytes = int64_t{9} << 28;  // one head of 32K tokens, or 16 of 8K

int64_t PairBytes(int64_t heads, int64_t tokens) {
  const int64_t padded = (tokens + 127) / 128 * 128;
  return heads * padded * padded * 2;
}

struct Share {
  int64_t sequences = 0;
  int64_t groups = 0;
};

Share ShareOf(const Problem& p) {
  if (!p.backward || !p.deterministic) {
    return {p.sequences, p.groups};
  }
  const int64_t heads_a_group = p.heads / p.groups;
  if (PairBytes(p.sequences * p.heads, p.tokens) <= kPairBytes) {
    return {p.sequences, p.groups};
  }
  for (int64_t groups = p.groups; groups > 0; --groups) {
    if (p.groups % groups == 0 && PairBytes(groups * heads_a_group, p.tokens) <= kPairBytes) {
      return {1, groups};
    }
  }
  return {};
}

// What cuDNN asks for is known only on a GPU; planning without one needs a bound. Backward, [b, h, T] each: fp32 sums
// of dq (or, to be deterministic, dS of all pairs), row sums, and dk and dv of every query head; and room for cuDNN's
// own.
int64_t WorkspaceBound(const Problem& p) {
  constexpr int64_t kOwn = int64_t{4} << 20;
  if (!p.backward) {
    return kOwn;
  }
  const int64_t rows = p.sequences * p.heads * p.tokens;
  const int64_t sums = p.deterministic ? 0 : rows * p.head_dim * 4;
  const int64_t pairs = p.deterministic ? PairBytes(p.sequences * p.heads, p.tokens) : 0;
  const int64_t expanded = p.heads == p.groups ? 0 : 2 * rows * p.head_dim * 4;
  return sums + pairs + expanded + rows * 8 + kOwn;
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

template <typename Args>
Problem WholeProblem(const Args& args, bool backward, bool deterministic) {
  return {.sequences = args.layout.sequences,
          .heads = args.q.shape[1],
          .groups = args.k.shape[1],
          .row_heads = args.q.shape[1],
          .row_groups = args.k.shape[1],
          .tokens = args.layout.text_tokens,
          .head_dim = args.q.shape[2],
          .backward = backward,
          .deterministic = deterministic};
}

// Every row of text is a query that sees all text up to itself, and no summary.
bool IsFullCausal(const SummaryLayout& layout, const AttentionWindow& window) {
  const bool all_text = layout.first_chunk == 0 && layout.AllTextIsQuery() && window.chunks >= layout.chunks() - 1 &&
                        window.tokens >= layout.text_tokens;
  return all_text && layout.document_first_chunk == nullptr && layout.chunk_tokens == nullptr;
}

// Shorter sequences than a tile are not worth a library's start-up.
constexpr int64_t kFewestTokens = 128;

template <typename Args>
bool Takes(const Args& args, const Problem& problem) {
  return args.q.dtype == DType::kBF16 && (problem.head_dim == 64 || problem.head_dim == 128) &&
         problem.tokens >= kFewestTokens && problem.sequences > 0 && IsFullCausal(args.layout, args.window) &&
         ShareOf(problem).groups > 0;
}

// cuDNN refuses it on Blackwell before version 9.18, when the plan is built.
bool HasDeterministicBackward(const Device& device) {
  return cuda::CapabilityOf(device).major != 10 || cudnnGetVersion() >= 91800;
}

}  // namespace

bool Supports(const AttentionForwardArgs& args) {
  return Takes(args, WholeProblem(args, false, true));
}

bool Supports(const AttentionBackwardArgs& args, bool deterministic) {
  return Takes(args, WholeProblem(args, true, deterministic)) &&
         (!deterministic || HasDeterministicBackward(args.q.device));
}

std::string ForwardText(const AttentionForwardArgs& args, Allocator& scratch, const Stream& stream) {
  const Problem whole = WholeProblem(args, false, true);
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
  const Problem whole = WholeProblem(args, true, deterministic);
  const Share share = ShareOf(whole);
  KSA_CHECK(share.groups > 0, "cuDNN's deterministic backward needs too much memory for {} tokens", whole.tokens);
  Problem part = whole;
  part.sequences = share.sequences;
  part.groups = share.groups;
  part.heads = whole.heads / whole.groups * share.groups;
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
