#include "trainer/interop/model_card.h"

#include <filesystem>

#include "data/files/paths.h"
#include "model/ksa/parameters.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/metrics.h"

namespace ksa {
namespace {

// The run's row of metrics for the checkpoint's update, if the run's folder is around the checkpoint.
std::string Metrics(const Checkpoint& checkpoint) {
  const std::filesystem::path run = std::filesystem::path(checkpoint.path).parent_path().parent_path();
  const std::string path = (run / "metrics.jsonl").string();
  if (!IsFile(path)) {
    return {};
  }
  const std::optional<MetricsLine> line = FindMetrics(path, checkpoint.manifest.meta.step);
  if (!line || line->run_id != checkpoint.manifest.meta.run_id) {
    return {};
  }
  std::string text = fmt::format("| training loss | {:.4f} |\n", line->report.loss);
  for (const auto& [name, loss] : line->report.validation_loss) {
    text += fmt::format("| validation loss, {} | {:.4f} |\n", name, loss);
  }
  return text;
}

const char* Usage(HfLayout layout) {
  switch (layout) {
    case HfLayout::kOwn:
      return "The model's code is in this folder, so that transformers must be told to trust it:\n\n"
             "```python\n"
             "from transformers import AutoModelForCausalLM\n\n"
             "model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)\n"
             "```\n\n"
             "Logits of every position come out for batches of texts padded on the right, without a mask. "
             "`generate()`\n"
             "computes the whole text again for every token.\n";
    case HfLayout::kQwen3:
      return "A Qwen3 model: every program that knows Qwen3 loads it.\n";
    case HfLayout::kReleased:
      return "Names and fields are those of the implementation that was released with the paper. Put its\n"
             "`modeling_qwen3sa.py` and `summary_context.py` into this folder and load it with "
             "`trust_remote_code=True`.\n"
             "**Without that code this folder loads as a plain Qwen3 model, and is wrong.** Its head has rows for\n"
             "summary tokens, which are never to be sampled.\n";
  }
  return "";
}

}  // namespace

std::string ModelCard(const Checkpoint& checkpoint,
                      const ModelConfig& model,
                      HfLayout layout,
                      const std::vector<std::string>& notes) {
  const CheckpointMeta& meta = checkpoint.manifest.meta;
  int64_t parameters = 0;
  for (const ParameterSpec& spec : ParameterSpecs(model)) {
    parameters += spec.shape.size();
  }
  std::string text = fmt::format(
      "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n"
      "# A language model with {}\n\n{}\n"
      "| | |\n|---|---|\n"
      "| parameters | {} ({}) |\n"
      "| updates | {} |\n"
      "| tokens trained on | {} |\n"
      "| fingerprint of the training data | `{}` |\n"
      "| run | `{}` |\n{}",
      model.HasSummaryRows() ? "Kwai Summary Attention" : "softmax attention",
      Usage(layout),
      parameters,
      FormatCount(static_cast<double>(parameters)),
      meta.step,
      meta.tokens,
      meta.data_fingerprint,
      meta.run_id,
      Metrics(checkpoint));
  if (!notes.empty()) {
    text += "\n";
    for (const std::string& note : notes) {
      text += "* " + note + "\n";
    }
  }
  return text + "\n## Configuration of the run\n\n```yaml\n" + meta.configuration + "```\n";
}

}  // namespace ksa
