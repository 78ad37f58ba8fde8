#include "trainer/commands/generate.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "data/tools/utf8.h"
#include "kernels/copy/elementwise.h"
#include "kernels/core/gpu.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/session.h"
#include "trainer/evaluate/sampling.h"

namespace ksa {
namespace {

struct GenerateOptions {
  std::string checkpoint;
  std::string prompt;
  int64_t max_tokens = 200;
  SamplingOptions sampling;
  DeviceOption device;
};

// Logits after the last of `ids`, over the first `vocabulary` ids: those of text that the tokenizer knows. The whole
// context is computed again for every token.
std::vector<double> NextLogits(LoadedModel& loaded, const std::vector<int32_t>& ids, int64_t vocabulary) {
  const ExecContext cx = loaded.runtime().Context();
  const auto length = static_cast<int32_t>(ids.size());
  const Tensor tokens = cx.Empty({length}, DType::kI32);
  CopyFromHost({const_cast<int32_t*>(ids.data()), DType::kI32, {}, {length}}, tokens, cx.stream);
  const Var hidden = loaded.model().Hidden(
      cx, {.ids = tokens, .layout = MakeLayout(loaded.config().model, 1, length), .mix = loaded.mix()});
  const Tensor logits = loaded.model().Logits(cx, hidden.value.Rows(length - 1, 1));
  const HostCopy row(logits, cx.stream);
  std::vector<double> wide(static_cast<size_t>(logits.size()));
  Copy(row.view(), {wide.data(), DType::kF64, {}, {logits.size()}}, {});
  wide.resize(static_cast<size_t>(vocabulary));
  return wide;
}

void Generate(const GenerateOptions& options) {
  if (ValidUtf8Prefix(options.prompt) != options.prompt.size()) {
    Fail(ExitCode::kBadData, "--prompt: not UTF-8 (byte {} of it)", ValidUtf8Prefix(options.prompt));
  }
  LoadedModel loaded(options.checkpoint, options.device);
  const std::unique_ptr<Tokenizer> tokenizer = loaded.OpenRunTokenizer();
  if (!tokenizer->SpellsText()) {
    Fail(ExitCode::kBadData,
         "{}: its data was imported without a tokenizer ('{}', {} tokens), so that no prompt can be spelled in its "
         "tokens "
         "and none of them has a text. `ksa eval` measures such a model; to have text, import the tokens with "
         "--tokenizer "
         "FILE and train on that",
         options.checkpoint,
         tokenizer->name(),
         tokenizer->vocab_size());
  }
  std::vector<int32_t> ids;
  tokenizer->Encode(options.prompt, ids);
  const size_t prompt = ids.size();
  if (ids.empty()) {
    ids.push_back(static_cast<int32_t>(tokenizer->eos_id()));  // the end of one document begins the next
  }
  const size_t start = ids.size() - prompt;  // of the text
  const auto longest = static_cast<size_t>(loaded.config().model.max_position_embeddings);
  for (int64_t step = 0; step < options.max_tokens; ++step) {
    // Beyond the model's positions only the last ones are context.
    const size_t context = std::min(ids.size(), longest);
    const std::vector<int32_t> window(ids.end() - static_cast<std::ptrdiff_t>(context), ids.end());
    const int32_t next =
        SampleToken(NextLogits(loaded, window, tokenizer->vocab_size()), options.sampling, static_cast<uint64_t>(step));
    if (next == tokenizer->eos_id()) {
      break;
    }
    ids.push_back(next);
  }
  fmt::print("{}{}\n", options.prompt, DecodeBehind(*tokenizer, std::span(ids).subspan(start), prompt));
}

}  // namespace

void AddGenerateCommand(CLI::App& app) {
  const auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Continue a text with a checkpoint's model");
  command->add_option("checkpoint", options->checkpoint, "checkpoint, or run folder (its newest)")
      ->required()
      ->type_name("CKPT");
  command->add_option("--prompt", options->prompt, "the text to continue")->required()->type_name("TEXT");
  command->add_option("--max-tokens", options->max_tokens, "tokens to add at most")
      ->capture_default_str()
      ->check(WholeNumber(0));
  command->add_option("--temperature", options->sampling.temperature, "0: always the likeliest token")
      ->capture_default_str()
      ->group("Sampling")
      ->check(FiniteNumber(0));
  command->add_option("--top-k", options->sampling.top_k, "sample among the K likeliest tokens; 0: all")
      ->capture_default_str()
      ->group("Sampling")
      ->check(WholeNumber(0));
  command->add_option("--seed", options->sampling.seed, "of the random choices")
      ->check(WholeNumber(0))
      ->capture_default_str()
      ->group("Sampling");
  AddDeviceOption(*command, options->device);
  command->footer(
      "Examples:\n"
      "  ksa generate runs/quickstart --prompt 'The history of ' --max-tokens 300 --temperature 0.8\n"
      "  ksa generate runs/quickstart/checkpoints/step_00001000 --prompt 'A ' --temperature 0\n"
      "The tokenizer is the one in the checkpoint or in its run's folder.");
  command->callback([options] { Generate(*options); });
}

}  // namespace ksa
