// Which calls of attention cuDNN takes, in which parts, and the memory that they need: what is known without it.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/attention/attention.h"

namespace ksa::cuda_attention::cudnn {

// Sequences and heads that one call of cuDNN takes, out of rows of `row_heads` query and `row_groups` key/value heads.
struct Problem {
  int64_t sequences = 0;  // b
  int64_t heads = 0;      // h
  int64_t groups = 0;     // g
  int64_t row_heads = 0;
  int64_t row_groups = 0;
  int64_t tokens = 0;     // T
  int64_t head_dim = 0;   // e
  int64_t value_dim = 0;  // c
  bool backward = false;
  bool deterministic = true;

  friend bool operator<(const Problem& x, const Problem& y) { return x.Key() < y.Key(); }

 private:
  [[nodiscard]] std::array<int64_t, 10> Key() const {
    return {sequences, heads, groups, row_heads, row_groups, tokens, head_dim, value_dim, backward, deterministic};
  }
};

[[nodiscard]] Problem ProblemOf(const AttentionForwardArgs& args);
[[nodiscard]] Problem ProblemOf(const AttentionBackwardArgs& args, bool deterministic);

// Whether the call is of the kind that cuDNN is asked for.
[[nodiscard]] bool Takes(const AttentionForwardArgs& args);
[[nodiscard]] bool Takes(const AttentionBackwardArgs& args, bool deterministic);

// The part of a problem that one call takes, from the first head of the first sequence on.
[[nodiscard]] Problem PartOf(const Problem& whole);

// What cuDNN asks for is known only on a GPU; planning without one needs a bound. Bytes.
[[nodiscard]] int64_t WorkspaceBound(const Problem& problem);

}  // namespace ksa::cuda_attention::cudnn
