#include "trainer/commands/attention_shape.h"

#include <map>
#include <string>

namespace ksa {

void AttentionShape::SetDefaults(bool gpu, int repeat_of_device) {
  const auto set = [](auto& value, auto fallback) { value = value == 0 ? fallback : value; };
  set(heads, gpu ? 16 : 2);
  set(kv_heads, heads);
  set(head_dim, gpu ? 128 : 64);
  set(repeat, repeat_of_device);
  dtype = dtype.value_or(gpu ? DType::kBF16 : DType::kF32);
}

void AddAttentionShape(CLI::App& command, AttentionShape& shape) {
  const CLI::Range sizes(1, 1 << 22);
  command.add_option("--chunk-size", shape.chunk_size, "k")->check(sizes)->capture_default_str();
  command.add_option("--window-chunks", shape.window_chunks, "w")->check(CLI::Range(0, 1 << 22))->capture_default_str();
  command.add_option("--summary-tokens", shape.summary_tokens, "m")->check(CLI::Range(1, 64))->capture_default_str();
  command.add_option("--heads", shape.heads, "query heads")->check(CLI::Range(1, 1024));
  command.add_option("--kv-heads", shape.kv_heads, "key/value heads [as many as --heads]")->check(CLI::Range(1, 1024));
  const CLI::Validator even([](const std::string& text) { return std::stoi(text) % 2 == 0 ? "" : text + " is odd"; },
                            "");
  command.add_option("--head-dim", shape.head_dim, "even")->check(CLI::Range(2, 1024))->check(even);
  command.add_option("--repeat", shape.repeat, "runs to take the median of")->check(CLI::Range(1, 1000));
  const std::map<std::string, DType> types = {{"fp32", DType::kF32}, {"bf16", DType::kBF16}, {"fp64", DType::kF64}};
  command.add_option("--dtype", shape.dtype, "fp32, bf16 or fp64")->transform(CLI::CheckedTransformer(types));
  AddDeviceOption(command, shape.device);
  command.add_option("--json", shape.json, "also write the results to this file")->type_name("FILE");
}

}  // namespace ksa
