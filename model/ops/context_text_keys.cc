// Text attention over keys that come from other ranks: the text of the window before each slice, and all live
// summaries.
//
// A call takes its keys as one matrix, text before summaries, so own rows are copied next to received ones, which
// arrive at their place. At 128K tokens on 2 ranks (16 heads of 128, k 8, bf16) that is 64K rows of text and three
// times 8K to 16K of summaries, of k and of v: 0.9 GB read and written, 0.2 ms at 4 TB/s, beside some 7 ms of
// attention.
#include <optional>
#include <utility>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/copy/elementwise.h"
#include "model/ops/context_key_gradients.h"
#include "model/ops/context_key_rows.h"
#include "model/ops/context_text.h"
#include "model/ops/heads.h"

namespace ksa {
namespace {

class TextByKeys final : public ContextText {
 public:
  explicit TextByKeys(const ContextTextSpec& spec) : rows_(spec) {}

  void StartKeys(const ExecContext& cx, const KeyPair& keys) override {
    for (size_t b = 0; b < rows_.plan().buffers.size(); ++b) {
      const int64_t rows = rows_.sequences() * rows_.BufferRows(b);
      buffers_.push_back(
          {cx.Empty({rows, keys.k.cols()}, keys.k.dtype()), cx.Empty({rows, keys.v.cols()}, keys.v.dtype())});
    }
    std::vector<Message> sends;
    std::vector<Message> receives;
    for (int32_t q = 0; q < rows_.sequences(); ++q) {
      AppendMessages(keys, q, sends, receives);
    }
    travelling_.emplace(*rows_.spec().group, cx.stream);
    rows_.spec().group->Exchange("context keys", sends, receives, cx.stream, Ordering::kUntilWait);
  }

  void StartQueries(const ExecContext& /*cx*/, const TensorView& /*q*/) override {}

  [[nodiscard]] Tensor Forward(const ExecContext& cx, const TensorView& q, const TensorView& out) override {
    Arrive(cx);
    const int e = rows_.spec().head_dim;
    const int c = ValueDimOf(buffers_[0]);
    Tensor lse = cx.Empty({q.rows(), q.cols() / e}, AccumulationType(q.dtype));
    for (const KeysCall& call : rows_.calls()) {
      const Expanded keys = ExpandedOf(cx, call);
      AttentionForward({.q = Heads(rows_.Queries(q, call), e),
                        .k = Heads(keys.views.k, e),
                        .v = Heads(keys.views.v, c),
                        .out = Heads(rows_.Queries(out, call), c),
                        .lse = rows_.Queries(lse, call),
                        .layout = rows_.LayoutOf(call),
                        .window = rows_.spec().window,
                        .allocator = cx.allocator},
                       cx.stream);
    }
    return lse;
  }

  void StartReplay(const ExecContext& /*cx*/, const TensorView& /*out*/) override {}

  void StartBackward(const ExecContext& cx, const ContextTextBackward& args) override {
    Arrive(cx);
    std::vector<KeyPair> gradients;
    for (const KeysCall& call : rows_.calls()) {
      gradients.push_back(Backward(cx, args, call));
    }
    buffers_.clear();
    gradients_ = std::make_unique<KeyGradients>(rows_, std::move(gradients));
    gradients_->Start(cx);
  }

  void FinishQueries(const ExecContext& /*cx*/, const ContextTextBackward& /*args*/) override {}

  [[nodiscard]] KeyPair FinishKeys(const ExecContext& cx, const KeyPair& keys, const KeyPair& summaries) override {
    KeyPair sums = gradients_->Finish(cx, keys, summaries);
    gradients_.reset();
    return sums;
  }

 private:
  // Own rows are messages to oneself: they are copied while others travel. Summaries arrive in the first buffer.
  void AppendMessages(const KeyPair& keys,
                      int32_t q,
                      std::vector<Message>& sends,
                      std::vector<Message>& receives) const {
    const KeysPlan& plan = rows_.plan();
    const int self = rows_.spec().group->rank();
    for (const auto which : {&KeyPair::k, &KeyPair::v}) {
      const TensorView x = keys.*which;
      for (const QueryRun& run : plan.runs) {
        const auto b = static_cast<size_t>(run.buffer);
        sends.push_back({self, rows_.LocalText(x, q, run.own)});
        receives.push_back({self, rows_.BufferText(buffers_[b].*which, b, q, run.own)});
      }
      for (const Range& live : plan.own_live) {
        sends.push_back({self, rows_.LocalSummaries(x, q, live)});
        receives.push_back({self, rows_.BufferSummaries(buffers_[0].*which, 0, q, live)});
      }
      for (const auto& [peer, chunks] : plan.text_sends) {
        sends.push_back({peer, rows_.LocalText(x, q, chunks)});
      }
      for (const auto& [peer, chunks] : plan.summary_sends) {
        sends.push_back({peer, rows_.LocalSummaries(x, q, chunks)});
      }
      for (const auto& [peer, chunks] : plan.text_receives) {
        const size_t b = rows_.BufferOf(chunks);
        receives.push_back({peer, rows_.BufferText(buffers_[b].*which, b, q, chunks)});
      }
      for (const auto& [peer, chunks] : plan.summary_receives) {
        receives.push_back({peer, rows_.BufferSummaries(buffers_[0].*which, 0, q, chunks)});
      }
    }
  }

  // Waits for the keys, once; the other buffers get a copy of the summaries.
  void Arrive(const ExecContext& cx) {
    if (!travelling_.has_value()) {
      return;
    }
    travelling_->Wait();
    travelling_.reset();
    const Range live = {0, rows_.spec().whole.live_chunks};
    for (size_t b = 1; rows_.SeenSummaries() > 0 && b < buffers_.size(); ++b) {
      for (int32_t q = 0; q < rows_.sequences(); ++q) {
        for (const auto which : {&KeyPair::k, &KeyPair::v}) {
          Copy(rows_.BufferSummaries(buffers_[0].*which, 0, q, live),
               rows_.BufferSummaries(buffers_[b].*which, b, q, live),
               cx.stream);
        }
      }
    }
  }

  [[nodiscard]] KeyPair Backward(const ExecContext& cx, const ContextTextBackward& args, const KeysCall& call) const {
    const int e = rows_.spec().head_dim;
    const KeyPair& buffer = buffers_[call.buffer];
    const int c = ValueDimOf(buffer);
    const Expanded keys = ExpandedOf(cx, call);
    const int64_t rows = rows_.KeysOf(call);
    KeyPair gradients = {cx.Empty({rows, keys.views.k.cols()}, buffer.k.dtype()),
                         cx.Empty({rows, keys.views.v.cols()}, buffer.v.dtype())};
    AttentionBackward({.q = Heads(rows_.Queries(args.q, call), e),
                       .k = Heads(keys.views.k, e),
                       .v = Heads(keys.views.v, c),
                       .out = Heads(rows_.Queries(args.out, call), c),
                       .lse = rows_.Queries(args.lse, call),
                       .dout = Heads(rows_.Queries(args.dout, call), c),
                       .dq = Heads(rows_.Queries(args.dq, call), e),
                       .dk = Heads(gradients.k, e),
                       .dv = Heads(gradients.v, c),
                       .layout = rows_.LayoutOf(call),
                       .window = rows_.spec().window,
                       .allocator = cx.allocator},
                      cx.stream);
    const KeyExpander* expander = rows_.spec().expander.get();
    return expander == nullptr ? gradients : expander->Backward(cx, Arrived(call), gradients);
  }

  // The keys and values of a call, and what holds them where they were expanded from what arrived.
  struct Expanded {
    KeyPair held;
    KeyViews views;
  };

  [[nodiscard]] KeyViews Arrived(const KeysCall& call) const {
    const KeyPair& buffer = buffers_[call.buffer];
    return {rows_.BufferKeys(buffer.k, call), rows_.BufferKeys(buffer.v, call)};
  }

  [[nodiscard]] Expanded ExpandedOf(const ExecContext& cx, const KeysCall& call) const {
    const KeyExpander* expander = rows_.spec().expander.get();
    if (expander == nullptr) {
      return {{}, Arrived(call)};
    }
    Expanded keys = {expander->Expand(cx, Arrived(call)), {}};
    keys.views = {keys.held.k, keys.held.v};
    return keys;
  }

  [[nodiscard]] int ValueDimOf(const KeyPair& buffer) const {
    const KeyExpander* expander = rows_.spec().expander.get();
    return expander == nullptr ? ValueDim(buffer.k, buffer.v, rows_.spec().head_dim) : expander->value_dim();
  }

  KeyRows rows_;
  std::vector<KeyPair> buffers_;  // one a buffer of the plan: [b · rows, g·e]
  std::unique_ptr<KeyGradients> gradients_;
  std::optional<PendingCalls> travelling_;  // keys; goes before the buffers
};

}  // namespace

std::unique_ptr<ContextText> MakeContextTextByKeys(const ContextTextSpec& spec) {
  return std::make_unique<TextByKeys>(spec);
}

}  // namespace ksa
