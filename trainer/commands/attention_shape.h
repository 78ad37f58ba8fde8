// The shape of attention that benchmarks ask for, and its options.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "kernels/core/dtype.h"
#include "trainer/commands/device_option.h"

namespace ksa {

// Zero or nothing: not given, see SetDefaults.
struct AttentionShape {
  int32_t chunk_size = 8;
  int32_t window_chunks = 128;
  int32_t summary_tokens = 1;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int repeat = 0;
  std::optional<DType> dtype;
  DeviceOption device;
  std::optional<std::string> json;

  // 2 heads of 64 in fp32 on the CPU, 16 of 128 in bf16 on a GPU.
  void SetDefaults(bool gpu, int repeat_of_device);
};

// The options behind those of lengths.
void AddAttentionShape(CLI::App& command, AttentionShape& shape);

}  // namespace ksa
