// Text attention by heads: every rank gets its share of the heads of all ranks' rows, at their offsets in whole
// sequences, so that one ordinary call of attention does the rest.
//
// The output is exchanged, not kept: it is gathered again for backward, an eighth more of traffic for the memory of all
// text rows. In a recomputed block that begins early enough to be hidden.
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/copy/column_block.h"
#include "kernels/copy/elementwise.h"
#include "model/ops/context_text.h"
#include "model/ops/heads.h"
#include "parallel/context/slices.h"

namespace ksa {
namespace {

// Moves matrices between "all columns of the rank's rows" (x) and "the rank's share of the columns of all rows" (y).
class HeadExchange {
 public:
  // Of text rows, or with `summaries` of all rows.
  HeadExchange(const ContextTextSpec& spec, bool summaries) : group_(*spec.group) {
    for (int peer = 0; peer < group_.size(); ++peer) {
      segments_.push_back(SegmentsOf(spec.whole, group_.size(), peer, summaries));
    }
    local_rows_ = summaries ? spec.local.rows() : spec.local.text_rows();
    whole_rows_ = summaries ? spec.whole.rows() : spec.whole.text_rows();
  }

  // x [rows, P·c] -> y [all rows, c], once the group has waited; until then this must live.
  [[nodiscard]] Tensor Gather(const ExecContext& cx, const TensorView& x) {
    const int64_t columns = x.cols() / group_.size();
    Tensor y = cx.Empty({whole_rows_, columns}, x.dtype);
    const Tensor packed = cx.Empty({(group_.size() - 1) * local_rows_, columns}, x.dtype);
    std::vector<Message> sends;
    std::vector<Message> receives;
    ForPeers(packed, [&](int peer, const TensorView& part) {
      CopyBlock({x.Rows(0, local_rows_), peer * columns, columns}, {part, 0, columns}, cx.stream);
      for (const RowSegment& own : Segments(group_.rank())) {
        sends.push_back({peer, part.Rows(own.local, own.rows)});
      }
      for (const RowSegment& theirs : Segments(peer)) {
        receives.push_back({peer, y.view().Rows(theirs.whole, theirs.rows)});
      }
    });
    held_.push_back(packed);
    held_.push_back(y);
    Send(cx, "gather heads", sends, receives);
    for (const RowSegment& own : Segments(group_.rank())) {
      CopyBlock({x.Rows(own.local, own.rows), group_.rank() * columns, columns},
                {y.view().Rows(own.whole, own.rows), 0, columns},
                cx.stream);
    }
    return y;
  }

  // y [all rows, c] begins to travel back; Land ends it.
  void Return(const ExecContext& cx, const Tensor& y) {
    const Tensor packed = cx.Empty({(group_.size() - 1) * local_rows_, y.cols()}, y.dtype());
    std::vector<Message> sends;
    std::vector<Message> receives;
    ForPeers(packed, [&](int peer, const TensorView& part) {
      for (const RowSegment& theirs : Segments(peer)) {
        sends.push_back({peer, y.view().Rows(theirs.whole, theirs.rows)});
      }
      for (const RowSegment& own : Segments(group_.rank())) {
        receives.push_back({peer, part.Rows(own.local, own.rows)});
      }
    });
    returned_.push_back({y, packed});
    Send(cx, "return heads", sends, receives);
  }

  // After the group has waited: what was returned first, -> x [rows, P·c].
  void Land(const ExecContext& cx, const TensorView& x) {
    const Returned returned = returned_.front();
    returned_.erase(returned_.begin());
    const int64_t columns = returned.own.cols();
    ForPeers(returned.peers, [&](int peer, const TensorView& part) {
      CopyBlock({part, 0, columns}, {x.Rows(0, local_rows_), peer * columns, columns}, cx.stream);
    });
    for (const RowSegment& own : Segments(group_.rank())) {
      CopyBlock({returned.own.view().Rows(own.whole, own.rows), 0, columns},
                {x.Rows(own.local, own.rows), group_.rank() * columns, columns},
                cx.stream);
    }
  }

  // Waits for everything.
  void Wait() {
    if (travelling_.has_value()) {
      travelling_->Wait();
      travelling_.reset();
    }
    held_.clear();
  }

  [[nodiscard]] int64_t local_rows() const { return local_rows_; }

 private:
  // What is on its way back.
  struct Returned {
    Tensor own;    // y
    Tensor peers;  // [(P - 1) · rows, c]
  };

  void Send(const ExecContext& cx, const char* op, std::span<const Message> sends, std::span<const Message> receives) {
    if (!travelling_.has_value()) {
      travelling_.emplace(group_, cx.stream);
    }
    group_.Exchange(op, sends, receives, cx.stream, Ordering::kUntilWait);
  }

  [[nodiscard]] const std::vector<RowSegment>& Segments(int rank) const { return segments_[static_cast<size_t>(rank)]; }

  // part(peer, its rows of `packed`) for all others.
  template <typename Part>
  void ForPeers(const Tensor& packed, const Part& part) const {
    int64_t first = 0;
    for (int peer = 0; peer < group_.size(); ++peer) {
      if (peer != group_.rank()) {
        part(peer, packed.view().Rows(first, local_rows_));
        first += local_rows_;
      }
    }
  }

  Communicator& group_;
  std::vector<std::vector<RowSegment>> segments_;  // of every rank
  int64_t local_rows_ = 0;
  int64_t whole_rows_ = 0;
  std::vector<Tensor> held_;  // what messages read and write
  std::vector<Returned> returned_;
  std::optional<PendingCalls> travelling_;  // goes first
};

class TextByHeads final : public ContextText {
 public:
  explicit TextByHeads(const ContextTextSpec& spec)
      : spec_(spec), keys_exchange_(spec, spec.SeesSummaries()), text_exchange_(spec, false) {
    layout_ = spec.whole;
    if (!spec.SeesSummaries()) {
      layout_.live_chunks = 0;  // the call has text alone
    }
  }

  void StartKeys(const ExecContext& cx, const KeyPair& keys) override {
    keys_ = {keys_exchange_.Gather(cx, keys.k), keys_exchange_.Gather(cx, keys.v)};
  }

  void StartQueries(const ExecContext& cx, const TensorView& q) override { q_ = text_exchange_.Gather(cx, q); }

  [[nodiscard]] Tensor Forward(const ExecContext& cx, const TensorView& /*q*/, const TensorView& out) override {
    Wait();
    const int e = spec_.head_dim;
    const int c = ValueDim(keys_.k, keys_.v, e);
    const Tensor shares = cx.Empty(OutputShape(q_, e, c), q_.dtype());
    Tensor lse = cx.Empty({q_.rows(), q_.cols() / e}, AccumulationType(q_.dtype()));
    AttentionForward({.q = Heads(q_, e),
                      .k = Heads(keys_.k, e),
                      .v = Heads(keys_.v, c),
                      .out = Heads(shares, c),
                      .lse = lse,
                      .layout = layout_,
                      .window = spec_.window,
                      .allocator = cx.allocator},
                     cx.stream);
    text_exchange_.Return(cx, shares);
    Wait();
    text_exchange_.Land(cx, out);
    return lse;
  }

  void StartReplay(const ExecContext& cx, const TensorView& out) override { out_ = text_exchange_.Gather(cx, out); }

  void StartBackward(const ExecContext& cx, const ContextTextBackward& args) override {
    if (out_.empty()) {
      out_ = text_exchange_.Gather(cx, args.out);
    }
    dout_ = text_exchange_.Gather(cx, args.dout);
  }

  void FinishQueries(const ExecContext& cx, const ContextTextBackward& args) override {
    Wait();
    const int e = spec_.head_dim;
    const int c = ValueDim(keys_.k, keys_.v, e);
    const Tensor dq = cx.Empty(q_.shape(), q_.dtype());
    const KeyPair gradients = {cx.Empty(keys_.k.shape(), keys_.k.dtype()), cx.Empty(keys_.v.shape(), keys_.v.dtype())};
    AttentionBackward({.q = Heads(q_, e),
                       .k = Heads(keys_.k, e),
                       .v = Heads(keys_.v, c),
                       .out = Heads(out_, c),
                       .lse = args.lse,
                       .dout = Heads(dout_, c),
                       .dq = Heads(dq, e),
                       .dk = Heads(gradients.k, e),
                       .dv = Heads(gradients.v, c),
                       .layout = layout_,
                       .window = spec_.window,
                       .allocator = cx.allocator},
                      cx.stream);
    q_ = out_ = dout_ = Tensor();
    keys_ = {};
    text_exchange_.Return(cx, dq);
    Wait();
    text_exchange_.Land(cx, args.dq);
    keys_exchange_.Return(cx, gradients.k);
    keys_exchange_.Return(cx, gradients.v);
  }

  [[nodiscard]] KeyPair FinishKeys(const ExecContext& cx, const KeyPair& keys, const KeyPair& summaries) override {
    Wait();
    KeyPair sums;
    for (const auto which : {&KeyPair::k, &KeyPair::v}) {
      sums.*which = cx.Empty((keys.*which).shape(), (keys.*which).dtype());
      Sum(cx, summaries.*which, sums.*which);
    }
    return sums;
  }

 private:
  void Wait() {
    keys_exchange_.Wait();
    text_exchange_.Wait();
  }

  // y = what text queries of all ranks and own summary queries left; either may have nothing for summary rows.
  void Sum(const ExecContext& cx, const TensorView& summaries, const Tensor& y) {
    const int64_t rows = keys_exchange_.local_rows();
    const TensorView behind = y.view().Rows(rows, y.rows() - rows);
    keys_exchange_.Land(cx, y);
    if (summaries.empty()) {
      Zero(behind, cx.stream);
      return;
    }
    Add(y.view().Rows(0, rows), summaries.Rows(0, rows), y.view().Rows(0, rows), cx.stream);
    Copy(summaries.Rows(rows, y.rows() - rows), behind, cx.stream);
  }

  ContextTextSpec spec_;
  SummaryLayout layout_;
  HeadExchange keys_exchange_;
  HeadExchange text_exchange_;
  KeyPair keys_;  // [all rows, (g/P)·e]
  Tensor q_;      // [b·T, (h/P)·e]
  Tensor out_;
  Tensor dout_;
};

}  // namespace

std::unique_ptr<ContextText> MakeContextTextByHeads(const ContextTextSpec& spec) {
  return std::make_unique<TextByHeads>(spec);
}

}  // namespace ksa
