#include "trainer/evaluate/cache_memory.h"

#include <algorithm>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "model/ksa/cost.h"
#include "trainer/observe/log_line.h"
#include "trainer/step/host_memory.h"

namespace ksa {

CacheMemory PlanCaches(
    const ModelConfig& model, int64_t sequences, int64_t tokens, int64_t longest_prompt, DType dtype) {
  const int64_t element = SizeOf(dtype);
  // Of a pass over a prompt: the residual stream, its norm, q, k, v and the MLP's two factors and their product.
  const int64_t row = 8 * int64_t{model.hidden_size} + 4 * int64_t{model.intermediate_size} +
                      4 * int64_t{model.num_attention_heads} * model.head_dim;
  return {.sequences = sequences,
          .tokens = tokens,
          .a_sequence = CountKvCache(model, tokens, dtype).bytes,
          .logits = std::max(longest_prompt * row * element, sequences * model.EmbeddingRows() * (element + 16))};
}

void CheckFits(CacheMemory memory, Runtime& runtime, int ranks_of_host) {
  const Allocator& held = runtime.allocator();
  memory.where = runtime.gpu() ? runtime.gpu()->name : "this host";
  memory.free =
      (runtime.gpu() ? QueryGpu(runtime.stream().device.ordinal).free_bytes : FreeHostBytes() / ranks_of_host) +
      held.reserved_bytes() - held.use().current;
  if (memory.Total() <= memory.free) {
    return;
  }
  const auto line = [](const std::string& name, int64_t bytes) {
    return fmt::format("  {:<44} {:>10}\n", name, FormatBytes(bytes));
  };
  const int64_t room = memory.free - memory.logits;
  Fail(ExitCode::kOutOfMemory,
       "decoding {} sequences of up to {} tokens needs {}, {} has {} free\n{}{}{}give fewer prompts at a time{}, lower "
       "--max-tokens, or shorten the prompts",
       memory.sequences,
       memory.tokens,
       FormatBytes(memory.Total()),
       memory.where,
       FormatBytes(memory.free),
       line(fmt::format("caches of a sequence of {} tokens", memory.tokens), memory.a_sequence),
       line(fmt::format("caches of {}", memory.sequences), memory.sequences * memory.a_sequence),
       line("rows of a prompt, logits", memory.logits),
       room > memory.a_sequence ? fmt::format(" ({} fit)", room / std::max<int64_t>(1, memory.a_sequence)) : "");
}

}  // namespace ksa
