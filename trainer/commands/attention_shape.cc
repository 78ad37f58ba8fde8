#include "trainer/commands/attention_shape.h"

#include <string>

#include <fmt/core.h>

#include "trainer/commands/number_option.h"
#include "trainer/commands/option_values.h"

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
  const CLI::Validator sizes = WholeNumber(1, 1 << 22);
  command.add_option("--chunk-size", shape.chunk_size, "k: text tokens of a chunk")
      ->check(sizes)
      ->capture_default_str();
  command.add_option("--window-chunks", shape.window_chunks, "w: chunks of the text window")
      ->check(WholeNumber(0, 1 << 22))
      ->capture_default_str();
  command.add_option("--summary-tokens", shape.summary_tokens, "m: summary tokens of a chunk")
      ->check(WholeNumber(1, 64))
      ->capture_default_str();
  command.add_option("--heads", shape.heads, "query heads")
      ->check(WholeNumber(1, 1024))
      ->default_str("2 on the CPU, 16 on a GPU");
  command.add_option("--kv-heads", shape.kv_heads, "key/value heads")
      ->check(WholeNumber(1, 1024))
      ->default_str("as many as --heads");
  const CLI::Validator even(
      [](const std::string& text) {
        return !text.empty() && (text.back() - '0') % 2 == 0 ? ""
                                                             : fmt::format("expected an even number, got '{}'", text);
      },
      "even");
  command.add_option("--head-dim", shape.head_dim, "numbers of a head")
      ->check(WholeNumber(2, 1024))
      ->check(even)
      ->default_str("64 on the CPU, 128 on a GPU");
  command.add_option("--repeat", shape.repeat, "runs to take the median of")
      ->check(WholeNumber(1, 1000))
      ->default_str("by the device");
  command.add_option("--dtype", shape.dtype, "what to compute in")
      ->transform(Choice<DType>({{"fp32", DType::kF32}, {"bf16", DType::kBF16}, {"fp64", DType::kF64}}))
      ->default_str("fp32 on the CPU, bf16 on a GPU");
  AddDeviceOption(command, shape.device);
  command.add_option("--json", shape.json, "also write the results to this file")->type_name("FILE");
}

}  // namespace ksa
