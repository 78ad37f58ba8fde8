// The implementations of attention that `ksa bench attention` compares.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/core/dtype.h"
#include "kernels/core/gpu.h"

namespace ksa {

// "auto", "plain", ...
[[nodiscard]] const std::map<std::string, AttentionPath>& AttentionPathNames();
[[nodiscard]] std::string NameOf(AttentionPath path);

struct AttentionPaths {
  std::vector<AttentionPath> ksa;
  std::vector<AttentionPath> full;  // full causal attention
};

// Columns of a head of keys, and of values.
struct AttentionHead {
  int32_t keys;
  int32_t values;

  friend bool operator==(const AttentionHead&, const AttentionHead&) = default;
};

// Why KSA attention cannot run on a path, forward and backward; empty where it can.
[[nodiscard]] std::string_view WhyNotPath(AttentionPath path,
                                          const std::optional<GpuInfo>& gpu,
                                          DType dtype,
                                          const AttentionHead& head);

// On a GPU (none: the CPU) of compute capability 9, in bf16 with head dim 64 or 128 or keys of 192 and values of 128,
// both tensor-core paths, and for full causal attention the automatic path and cuDNN where it is built in. Elsewhere
// some of these can't do the call, and it is the automatic path.
[[nodiscard]] AttentionPaths DefaultAttentionPaths(const std::optional<GpuInfo>& gpu,
                                                   DType dtype,
                                                   const AttentionHead& head);

}  // namespace ksa
