// Text attention by heads: every rank gets its share of the heads of all ranks' rows, at their offsets in whole
// sequences, so that one ordinary call of attention does the rest.
//
// The output is exchanged, not kept: it is gathered again for backward, an eighth more of traffic for the memory of all
// text rows. In a recomputed block that begins early enough to be hidden.
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

// Moves matrices between "all columns of the rank's rows" (x) and "the rank's share of the columns of all rows" (y). A
// share goes in `parts` parts, each a matrix of its own.
class HeadExchange {
 public:
  // Of text rows, or with `summaries` of all rows.
  HeadExchange(const ContextTextSpec& spec, bool summaries, int parts) : group_(*spec.group), parts_(parts) {
    for (int peer = 0; peer < group_.size(); ++peer) {
      segments_.push_back(SegmentsOf(spec.whole, group_.size(), peer, summaries));
    }
    local_rows_ = summaries ? spec.local.rows() : spec.local.text_rows();
    whole_rows_ = summaries ? spec.whole.rows() : spec.whole.text_rows();
  }

  // x [rows, P·parts·c] -> part `part` of y, [all rows, c], once the group has waited; until then this must live.
  [[nodiscard]] Tensor Gather(const ExecContext& cx, const TensorView& x, int part) {
    const int64_t columns = x.cols() / (group_.size() * parts_);
    Tensor y = cx.Empty({whole_rows_, columns}, x.dtype);
    const Tensor packed = cx.Empty({(group_.size() - 1) * local_rows_, columns}, x.dtype);
    std::vector<Message> sends;
    std::vector<Message> receives;
    ForPeers(packed, [&](int peer, const TensorView& rows) {
      CopyBlock({x.Rows(0, local_rows_), First(peer, part, columns), columns}, {rows, 0, columns}, cx.stream);
      for (const RowSegment& own : Segments(group_.rank())) {
        sends.push_back({peer, rows.Rows(own.local, own.rows)});
      }
      for (const RowSegment& theirs : Segments(peer)) {
        receives.push_back({peer, y.view().Rows(theirs.whole, theirs.rows)});
      }
    });
    group_.Exchange("gather heads", sends, receives, cx.stream, Ordering::kUntilWait);
    for (const RowSegment& own : Segments(group_.rank())) {
      CopyBlock({x.Rows(own.local, own.rows), First(group_.rank(), part, columns), columns},
                {y.view().Rows(own.whole, own.rows), 0, columns},
                cx.stream);
    }
    held_.push_back(packed);
    return y;
  }

  // Part `part` of y, [all rows, c], begins to travel back; Land ends it.
  void Return(const ExecContext& cx, const Tensor& y, int part) {
    const Tensor packed = cx.Empty({(group_.size() - 1) * local_rows_, y.cols()}, y.dtype());
    std::vector<Message> sends;
    std::vector<Message> receives;
    ForPeers(packed, [&](int peer, const TensorView& rows) {
      for (const RowSegment& theirs : Segments(peer)) {
        sends.push_back({peer, y.view().Rows(theirs.whole, theirs.rows)});
      }
      for (const RowSegment& own : Segments(group_.rank())) {
        receives.push_back({peer, rows.Rows(own.local, own.rows)});
      }
    });
    group_.Exchange("return heads", sends, receives, cx.stream, Ordering::kUntilWait);
    returned_.push_back({y, packed, part});
  }

  // After the group has waited: all parts of what was returned first -> x [rows, P·parts·c].
  void Land(const ExecContext& cx, const TensorView& x) {
    for (int i = 0; i < parts_; ++i) {
      LandPart(cx, returned_.front(), x);
      returned_.erase(returned_.begin());
    }
  }

  // Everything has arrived.
  void Release() { held_.clear(); }

  [[nodiscard]] int64_t local_rows() const { return local_rows_; }

 private:
  // What is on its way back.
  struct Returned {
    Tensor own;    // y
    Tensor peers;  // [(P - 1) · rows, c]
    int part = 0;
  };

  // First column of x that belongs to a part of a rank's share.
  [[nodiscard]] int64_t First(int rank, int part, int64_t columns) const { return (rank * parts_ + part) * columns; }

  void LandPart(const ExecContext& cx, const Returned& returned, const TensorView& x) const {
    const int64_t columns = returned.own.cols();
    ForPeers(returned.peers, [&](int peer, const TensorView& rows) {
      CopyBlock({rows, 0, columns}, {x.Rows(0, local_rows_), First(peer, returned.part, columns), columns}, cx.stream);
    });
    for (const RowSegment& own : Segments(group_.rank())) {
      CopyBlock({returned.own.view().Rows(own.whole, own.rows), 0, columns},
                {x.Rows(own.local, own.rows), First(group_.rank(), returned.part, columns), columns},
                cx.stream);
    }
  }

  [[nodiscard]] const std::vector<RowSegment>& Segments(int rank) const { return segments_[static_cast<size_t>(rank)]; }

  // visit(peer, its rows of `packed`) for all others.
  template <typename Visit>
  void ForPeers(const Tensor& packed, const Visit& visit) const {
    int64_t first = 0;
    for (int peer = 0; peer < group_.size(); ++peer) {
      if (peer != group_.rank()) {
        visit(peer, packed.view().Rows(first, local_rows_));
        first += local_rows_;
      }
    }
  }

  Communicator& group_;
  int parts_;
  std::vector<std::vector<RowSegment>> segments_;  // of every rank
  int64_t local_rows_ = 0;
  int64_t whole_rows_ = 0;
  std::vector<Tensor> held_;  // what messages read
  std::vector<Returned> returned_;
};

// The heads of a rank go in two parts where they divide: the second one's queries travel while attention runs on the
// first, the first one's outputs while it runs on the second; and so in backward.
class TextByHeads final : public ContextText {
 public:
  TextByHeads(const ContextTextSpec& spec, int parts)
      : spec_(spec),
        queries_(spec, false, parts),
        k_(spec, spec.SeesSummaries(), parts),
        v_(spec, spec.SeesSummaries(), parts),
        parts_(static_cast<size_t>(parts)) {
    layout_ = spec.whole;
    if (!spec.SeesSummaries()) {
      layout_.live_chunks = 0;  // the call has text alone
    }
  }

  void StartKeys(const ExecContext& cx, const KeyPair& keys) override {
    for (int i = 0; i < parts(); ++i) {
      At(i).k = k_.Gather(cx, keys.k, i);
      At(i).v = v_.Gather(cx, keys.v, i);
    }
  }

  void StartQueries(const ExecContext& cx, const TensorView& q) override { At(0).q = queries_.Gather(cx, q, 0); }

  [[nodiscard]] Tensor Forward(const ExecContext& cx, const TensorView& q, const TensorView& out) override {
    Wait(cx);
    const int64_t heads = At(0).q.cols() / spec_.head_dim;
    Tensor lse = cx.Empty({parts() * Rows(), heads}, AccumulationType(q.dtype));
    for (int i = 0; i < parts(); ++i) {
      if (i + 1 < parts()) {
        At(i + 1).q = queries_.Gather(cx, q, i + 1);
      }
      const Tensor shares = RunForward(cx, At(i), lse.Rows(i * Rows(), Rows()));
      Wait(cx);
      queries_.Return(cx, shares, i);
    }
    Wait(cx);
    queries_.Land(cx, out);
    return lse;
  }

  void StartReplay(const ExecContext& cx, const TensorView& q, const TensorView& out) override {
    for (int i = 0; i < parts(); ++i) {
      if (i > 0) {
        At(i).q = queries_.Gather(cx, q, i);
      }
      At(i).out = queries_.Gather(cx, out, i);
    }
  }

  void StartBackward(const ExecContext& cx, const ContextTextBackward& args) override {
    for (int i = 0; i < parts(); ++i) {
      if (At(i).out.empty()) {
        At(i).out = queries_.Gather(cx, args.out, i);
      }
    }
    At(0).dout = queries_.Gather(cx, args.dout, 0);
  }

  // Gradients of queries go back as soon as they are there; those of keys, which are needed later, behind them.
  void FinishQueries(const ExecContext& cx, const ContextTextBackward& args) override {
    Wait(cx);
    KeyPair gradients;
    for (int i = 0; i < parts(); ++i) {
      if (i + 1 < parts()) {
        At(i + 1).dout = queries_.Gather(cx, args.dout, i + 1);
      }
      if (i > 0) {
        ReturnKeys(cx, gradients, i - 1);
      }
      const Tensor dq = cx.Empty(At(i).q.shape(), At(i).q.dtype());
      gradients = RunBackward(cx, At(i), args.lse.Rows(i * Rows(), Rows()), dq);
      Wait(cx);
      queries_.Return(cx, dq, i);
      At(i) = {};
    }
    Wait(cx);
    ReturnKeys(cx, gradients, parts() - 1);
    queries_.Land(cx, args.dq);
  }

  [[nodiscard]] KeyPair FinishKeys(const ExecContext& cx, const KeyPair& keys, const KeyPair& summaries) override {
    Wait(cx);
    return {Sum(cx, k_, keys.k, summaries.k), Sum(cx, v_, keys.v, summaries.v)};
  }

 private:
  // What attention of one part reads, until its backward has run.
  struct Part {
    Tensor q;  // [b·T, c]
    Tensor k;  // [b·T or all rows, c]
    Tensor v;
    Tensor out;
    Tensor dout;
  };

  [[nodiscard]] int parts() const { return static_cast<int>(parts_.size()); }

  [[nodiscard]] Part& At(int i) { return parts_[static_cast<size_t>(i)]; }

  // Of queries.
  [[nodiscard]] int64_t Rows() const { return spec_.whole.text_rows(); }

  void Wait(const ExecContext& cx) {
    spec_.group->Wait(cx.stream);
    queries_.Release();
    k_.Release();
    v_.Release();
  }

  [[nodiscard]] Tensor RunForward(const ExecContext& cx, const Part& part, const Tensor& lse) const {
    const int e = spec_.head_dim;
    Tensor out = cx.Empty(part.q.shape(), part.q.dtype());
    AttentionForward({.q = Heads(part.q, e),
                      .k = Heads(part.k, e),
                      .v = Heads(part.v, e),
                      .out = Heads(out, e),
                      .lse = lse,
                      .layout = layout_,
                      .window = spec_.window,
                      .allocator = cx.allocator},
                     cx.stream);
    return out;
  }

  [[nodiscard]] KeyPair RunBackward(const ExecContext& cx,
                                    const Part& part,
                                    const Tensor& lse,
                                    const Tensor& dq) const {
    const int e = spec_.head_dim;
    KeyPair gradients = {cx.Empty(part.k.shape(), part.k.dtype()), cx.Empty(part.v.shape(), part.v.dtype())};
    AttentionBackward({.q = Heads(part.q, e),
                       .k = Heads(part.k, e),
                       .v = Heads(part.v, e),
                       .out = Heads(part.out, e),
                       .lse = lse,
                       .dout = Heads(part.dout, e),
                       .dq = Heads(dq, e),
                       .dk = Heads(gradients.k, e),
                       .dv = Heads(gradients.v, e),
                       .layout = layout_,
                       .window = spec_.window,
                       .allocator = cx.allocator},
                      cx.stream);
    return gradients;
  }

  void ReturnKeys(const ExecContext& cx, const KeyPair& gradients, int part) {
    k_.Return(cx, gradients.k, part);
    v_.Return(cx, gradients.v, part);
  }

  // What text queries of all ranks and own summary queries left; either may have nothing for summary rows.
  [[nodiscard]] static Tensor Sum(const ExecContext& cx,
                                  HeadExchange& exchange,
                                  const Tensor& like,
                                  const TensorView& summaries) {
    Tensor y = cx.Empty(like.shape(), like.dtype());
    const int64_t rows = exchange.local_rows();
    const TensorView text = y.view().Rows(0, rows);
    const TensorView behind = y.view().Rows(rows, y.rows() - rows);
    exchange.Land(cx, y);
    if (summaries.empty()) {
      Zero(behind, cx.stream);
      return y;
    }
    Add(text, summaries.Rows(0, rows), text, cx.stream);
    Copy(summaries.Rows(rows, y.rows() - rows), behind, cx.stream);
    return y;
  }

  ContextTextSpec spec_;
  SummaryLayout layout_;
  HeadExchange queries_;  // and outputs
  HeadExchange k_;
  HeadExchange v_;
  std::vector<Part> parts_;
};

}  // namespace

std::unique_ptr<ContextText> MakeContextTextByHeads(const ContextTextSpec& spec, int64_t heads, int64_t kv_heads) {
  const int ranks = spec.group->size();
  const bool halves = heads / ranks % 2 == 0 && kv_heads / ranks % 2 == 0;
  return std::make_unique<TextByHeads>(spec, halves ? 2 : 1);
}

}  // namespace ksa
