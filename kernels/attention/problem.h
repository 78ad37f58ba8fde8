// A call of attention as device kernels take it; also for the host, which plans their work and their scratch.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention/attention.h"

namespace ksa::cuda_attention {

inline constexpr float kLog2E = 1.44269504088896341F;
inline constexpr float kLn2 = 0.693147180559945309F;

// Columns of a head of queries and keys, and of values.
struct HeadDims {
  int64_t key;
  int64_t value;

  friend bool operator==(const HeadDims&, const HeadDims&) = default;
};

namespace wgmma {

// Whether there are kernels for heads of these widths.
[[nodiscard]] inline bool TakesHeads(const HeadDims& dims) {
  const bool alike = dims.value == dims.key && (dims.key == 64 || dims.key == 128);
  return alike || dims == HeadDims{192, 128};
}

}  // namespace wgmma

// Sizes of one call, passed to kernels by value.
struct Problem {
  SummaryLayout layout;
  AttentionWindow window;
  int heads;             // h
  int groups;            // g
  int queries_per_kv;    // h / g
  int dim;               // e
  float scale;           // of scores: 1 / sqrt(e), or what the call says
  float scale_log2;      // the same times log2(e): kernels exponentiate with base 2
  bool query_summaries;  // q holds summary rows too
};

// Of the arguments of forward or backward.
template <typename Args>
[[nodiscard]] HeadDims HeadDimsOf(const Args& args) {
  return {args.q.shape[2], args.v.shape[2]};
}

template <typename Args>
[[nodiscard]] float ScaleOf(const Args& args) {
  return static_cast<float>(args.scale > 0.0 ? args.scale : 1.0 / std::sqrt(static_cast<double>(args.q.shape[2])));
}

template <typename Args>
[[nodiscard]] Problem MakeProblem(const Args& args) {
  const auto heads = static_cast<int>(args.q.shape[1]);
  const auto groups = static_cast<int>(args.k.shape[1]);
  const auto dim = static_cast<int>(args.q.shape[2]);
  const float scale = ScaleOf(args);
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
