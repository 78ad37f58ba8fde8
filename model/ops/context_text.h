// Attention of text queries over keys of other ranks: what the two ways have in common. Internal to
// context_attention.cc. Calls come in the order of declaration; those of backward only with a tape.
#pragma once

#include <memory>

#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"
#include "model/autograd/context.h"
#include "model/ops/context_attention.h"
#include "model/ops/key_expander.h"
#include "parallel/comm/communicator.h"

namespace ksa {

struct ContextTextBackward {
  TensorView q;     // [s_l, h·e]
  TensorView out;   // [s_l, h·e]
  Tensor lse;       // as Forward gave it
  TensorView dout;  // [s_l, h·e]
  TensorView dq;    // [s_l, h·e] out
};

class ContextText {
 public:
  ContextText() = default;
  ContextText(const ContextText&) = delete;
  ContextText& operator=(const ContextText&) = delete;
  virtual ~ContextText() = default;

  // keys [nk_l, g·e] begin to travel; they stay where they are until Forward or StartBackward has run.
  virtual void StartKeys(const ExecContext& cx, const KeyPair& keys) = 0;

  // q [s_l, h·e], the text rows, begins to travel, if it does.
  virtual void StartQueries(const ExecContext& cx, const TensorView& q) = 0;

  // Waits for what travels, and writes out [s_l, h·e]. Returns the log-sum-exp of text rows.
  [[nodiscard]] virtual Tensor Forward(const ExecContext& cx, const TensorView& q, const TensorView& out) = 0;

  // Instead of Forward, in a recomputed block: `out` [s_l, h·e] is known, and begins to travel if it does.
  virtual void StartReplay(const ExecContext& cx, const TensorView& out) = 0;

  // Starts what backward needs of other ranks, or returns to them.
  virtual void StartBackward(const ExecContext& cx, const ContextTextBackward& args) = 0;

  // dq is complete; gradients of keys are on their way.
  virtual void FinishQueries(const ExecContext& cx, const ContextTextBackward& args) = 0;

  // Waits for them, and sums over all queries of all ranks. `keys` are those of StartKeys; `summaries`, shaped like
  // them or empty, is what own summary queries left.
  [[nodiscard]] virtual KeyPair FinishKeys(const ExecContext& cx, const KeyPair& keys, const KeyPair& summaries) = 0;
};

// What both ways know of a layer and the rank.
struct ContextTextSpec {
  SummaryLayout whole;
  SummaryLayout local;
  AttentionWindow window;
  int head_dim = 0;
  Communicator* group = nullptr;                  // the context axis
  std::shared_ptr<const KeyExpander> expander{};  // of what travels; null: keys and values do

  // Whether text sees summary rows of its sequence.
  [[nodiscard]] bool SeesSummaries() const { return window.summaries && whole.live_summaries() > 0; }
};

[[nodiscard]] std::unique_ptr<ContextText> MakeContextTextByKeys(const ContextTextSpec& spec);
[[nodiscard]] std::unique_ptr<ContextText> MakeContextTextByHeads(const ContextTextSpec& spec);

}  // namespace ksa
