// What a forward pass computes, counted by running it on imaginary memory: what operations say of themselves, for a
// batch of whole sequences on one rank.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/core/arena.h"
#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/ksa/model.h"
#include "model/mixers/model_config.h"

namespace ksa {

// Floating-point operations of a forward pass that somebody needs: two a multiply-add of every matrix product on live
// rows and of attention's visible pairs. Norms, activations, softmax, and the base projections of summaries that exist
// while annealing only are not counted.
struct ForwardFlops {
  double linear = 0.0;          // text rows: q, k, v, o and MLP
  double summary_linear = 0.0;  // summary rows: the same
  double attention = 0.0;
  double head = 0.0;
  double text_pairs = 0.0;  // visible pairs of text queries, of all layers

  [[nodiscard]] double Total() const { return linear + summary_linear + attention + head; }
};

class ForwardCounter {
 public:
  // Sequences of up to `positions` tokens.
  ForwardCounter(const ModelConfig& config, int64_t positions);
  ForwardCounter(const ForwardCounter&) = delete;
  ForwardCounter& operator=(const ForwardCounter&) = delete;

  // Of a layout of MakeLayout, with its documents, if it has any, on the host. Rows of padding and summaries that no
  // text can see compute as well, but nobody reads them: they are left out.
  [[nodiscard]] ForwardFlops Count(const SummaryLayout& layout);

  // Of the head, for a row that has a target; Count takes every row of text for one.
  [[nodiscard]] double HeadOfRow() const { return static_cast<double>(row_.head); }

 private:
  // What the operations of a pass say.
  struct Sums {
    int64_t products = 0;  // without the head
    int64_t head = 0;
    int64_t attention = 0;
    int64_t text_pairs = 0;
  };

  // Summary queries see `summary_pairs` pairs.
  [[nodiscard]] Sums Run(const SummaryLayout& layout, int64_t summary_pairs);

  ModelConfig config_;
  Stream stream_;
  ImaginarySlabs slabs_;
  ArenaAllocator memory_;
  ParameterStore store_;
  KsaModel model_;
  Sums row_;  // of one text row, without attention
};

}  // namespace ksa
