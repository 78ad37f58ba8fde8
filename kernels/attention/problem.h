// A call of attention as device kernels take it; also for the host, which plans their work and their scratch.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention/attention.h"

namespace ksa::cuda_attention {

inline constexpr float kLog2E = 1.44269504088896341F;
inline constexpr float kLn2 = 0.693147180559945309F;

// Sizes of one call, passed to kernels by value.
struct Problem {
  SummaryLayout layout;
  AttentionWindow window;
  int heads;             // h
  int groups;            // g
  int queries_per_kv;    // h / g
  int dim;               // e
  float scale;           // 1 / sqrt(e)
  float scale_log2;      // the same times log2(e): kernels exponentiate with base 2
  bool query_summaries;  // q holds summary rows too
};

template <typename Args>
[[nodiscard]] Problem MakeProblem(const Args& args) {
  const auto heads = static_cast<int>(args.q.shape[1]);
  const auto groups = static_cast<int>(args.k.shape[1]);
  const auto dim = static_cast<int>(args.q.shape[2]);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(dim)));
  return {.layout = args.layout,
          .window = args.window,
          .heads = heads,
          .groups = groups,
          .queries_per_kv = heads / groups,
          .dim = dim,
          .scale = scale,
          .scale_log2 = scale * kLog2E,
          .query_summaries = args.q.rows() > args.layout.text_rows()};
}

}  // namespace ksa::cuda_attention
