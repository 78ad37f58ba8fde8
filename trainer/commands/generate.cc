#include "trainer/commands/generate.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "data/tools/utf8.h"
#include "model/ksa/cost.h"
#include "model/mixers/full/full.h"
#include "parallel/comm/launcher.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/prompts.h"
#include "trainer/commands/ranks_of_command.h"
#include "trainer/commands/session.h"
#include "trainer/commands/text_writer.h"
#include "trainer/config/counts.h"
#include "trainer/evaluate/cache_memory.h"
#include "trainer/evaluate/generation.h"
#include "trainer/evaluate/growing_text.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

// A count of tokens as configurations spell it, made plain digits.
CLI::Validator TokenCount(int64_t least, int64_t most) {
  return {[=](std::string& text) {
            const std::optional<int64_t> count = ParseTokenCount(text);
            if (!count || *count < least || *count > most) {
              return fmt::format(
                  "expected a number of tokens from {} to {}, as 200, 1_000, 1e3 or 1K, got '{}'", least, most, text);
            }
            text = std::to_string(*count);
            return std::string();
          },
          std::string(),
          "tokens"};
}

struct GenerateOptions {
  std::string checkpoint;
  PromptOptions prompts;
  int64_t max_tokens = 200;
  SamplingOptions sampling;
  std::vector<std::string> stops;
  bool recompute = false;
  DeviceOption device;
};

// Roundings of two orders of addition, far below what a wrong key or position does.
double MostDifference(DType precision) {
  return precision == DType::kF64 ? 1e-10 : precision == DType::kF32 ? 1e-4 : 0.1;
}

void CheckMemory(LoadedModel& loaded,
                 const std::vector<std::vector<int32_t>>& contexts,
                 const GenerationOptions& how,
                 int ranks_of_host) {
  const ModelConfig& model = loaded.config().model;
  const int64_t tokens = Generation::CacheTokens(contexts, how);
  CacheMemory memory = PlanCaches(model,
                                  static_cast<int64_t>(contexts.size()),
                                  tokens,
                                  std::min(tokens, how.positions),
                                  *loaded.config().training.precision);
  memory.a_sequence =
      Decoder::BytesOfSequence(loaded.runtime().Context(), loaded.model(), static_cast<int32_t>(tokens));
  CheckFits(memory, loaded.runtime(), ranks_of_host);
}

// What is said beside the texts, so that these can be piped on.
void Say(const std::string& line) {
  fmt::print(stderr, "ksa: {}\n", line);
}

void SayCuts(const std::vector<Prompt>& prompts, int64_t positions) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (static_cast<int64_t>(prompts[i].context.size()) > positions) {
      Say(fmt::format("prompt {} has {} tokens, the model positions for {}: the last {} are its context",
                      i + 1,
                      prompts[i].context.size(),
                      positions,
                      positions));
    }
  }
}

// `bytes`: of the caches on all ranks together.
void SayResult(const Generation::Result& result, LoadedModel& loaded, size_t texts, int64_t bytes) {
  const double seconds = result.prompt_seconds + result.seconds;
  Say(fmt::format("{} tokens behind {} of prompts, {:.1f} tokens/s ({:.2f} s, the prompts {:.2f} s of it)",
                  result.new_tokens,
                  result.prompt_tokens,
                  static_cast<double>(result.new_tokens) / std::max(seconds, 1e-9),
                  seconds,
                  result.prompt_seconds));
  if (result.cache_bytes > 0) {
    const ModelConfig& model = loaded.config().model;
    const DType precision = *loaded.config().training.precision;
    ModelConfig full = model;
    full.layers.assign(model.layers.size(), FullLayer());
    const int64_t most = static_cast<int64_t>(texts) * CountKvCache(full, result.cache_tokens, precision).bytes;
    const int ranks = loaded.runtime().world().size();
    Say(fmt::format(
        "cache for {} x {} tokens in {}: {}{}{}",
        texts,
        result.cache_tokens,
        NameOf(precision),
        FormatBytes(bytes),
        ranks == 1 ? "" : fmt::format(" on {} ranks, {} on each", ranks, FormatBytes(result.cache_bytes)),
        full.layers == model.layers ? "" : fmt::format("; full attention in every layer: {}", FormatBytes(most))));
  }
  if (result.forgotten > 0) {
    const int64_t positions = loaded.config().model.max_position_embeddings;
    Say(fmt::format("{} times a context had more tokens than the model has positions ({}) and was cut to its last {}",
                    result.forgotten,
                    positions,
                    ContextBehindEnd(positions)));
  }
}

// --recompute: Error(kInternal) where decoding gave something else.
void SayCheck(const Generation::Result& result, DType precision, bool speaks) {
  const std::string found =
      fmt::format("the logits of {} tokens differ from those of whole passes by at most {:.2g} of the largest",
                  result.checked,
                  result.difference);
  if (!(result.difference <= MostDifference(precision))) {
    Fail(ExitCode::kInternal,
         "{}; {:.0e} is what roundings in {} may leave. Please report it",
         found,
         MostDifference(precision),
         NameOf(precision));
  }
  if (speaks) {
    Say(found);
  }
}

std::vector<GrowingText> TextsOf(const std::vector<Prompt>& prompts,
                                 const Tokenizer& tokenizer,
                                 const GenerateOptions& options) {
  std::vector<GrowingText> texts;
  for (const Prompt& prompt : prompts) {
    const auto first = prompt.context.begin() + static_cast<std::ptrdiff_t>(prompt.lead);
    texts.emplace_back(tokenizer, std::vector<int32_t>(first, prompt.context.end()), options.stops);
  }
  return texts;
}

// The texts as they are printed: by one of the ranks, which all have the same.
class Printer {
 public:
  Printer(const std::vector<Prompt>& prompts, const Tokenizer& tokenizer, bool spells, bool prints)
      : spells_(spells), prints_(prints), writer_(prompts.size(), isatty(STDOUT_FILENO) != 0, stdout) {
    for (size_t i = 0; i < prompts.size(); ++i) {
      const bool is_text = prompts[i].text.size() + prompts[i].lead > 0;
      const std::string of_ids =
          spells && !is_text ? tokenizer.Decode(prompts[i].context) : JoinIds(prompts[i].context);
      Write(i, is_text ? prompts[i].text : of_ids);
    }
  }

  void Add(size_t text, int32_t id, const std::string& piece) { Write(text, spells_ ? piece : fmt::format(",{}", id)); }

  void End(size_t text, const std::string& piece) {
    Write(text, spells_ ? piece : "");
    if (prints_) {
      writer_.End(text);
    }
  }

 private:
  void Write(size_t text, const std::string& piece) {
    if (prints_) {
      writer_.Add(text, piece);
    }
  }

  bool spells_;
  bool prints_;
  TextWriter writer_;
};

GenerationOptions HowOf(const GenerateOptions& options, const LoadedModel& loaded, const Tokenizer& tokenizer) {
  return {.sampling = options.sampling,
          .max_tokens = options.max_tokens,
          .vocabulary = tokenizer.vocab_size(),
          .last = static_cast<int32_t>(tokenizer.eos_id()),
          .positions = loaded.config().model.max_position_embeddings,
          .check = options.recompute};
}

void CheckStops(const GenerateOptions& options) {
  for (const std::string& stop : options.stops) {
    if (stop.empty() || ValidUtf8Prefix(stop) != stop.size()) {
      Fail(ExitCode::kUsage, "--stop: expected a text in UTF-8 of at least one character");
    }
  }
}

// Null `rank`: in this process alone. Every rank goes through all of it, and the first one speaks.
void Generate(const GenerateOptions& options, const RankOfCommand* rank) {
  CheckStops(options);
  LoadedModel loaded(options.checkpoint, options.device, rank);
  const bool ids_alone = options.prompts.texts.empty() && options.prompts.file.empty();
  const std::unique_ptr<Tokenizer> tokenizer = ids_alone ? loaded.OpenRunTokenizerOrIds() : loaded.OpenRunTokenizer();
  const std::vector<Prompt> prompts =
      ReadPrompts(options.prompts, *tokenizer, tokenizer->vocab_size(), options.checkpoint);
  if (!options.stops.empty() && !tokenizer->SpellsText()) {
    Fail(ExitCode::kUsage, "--stop: the tokens of {} have no text", options.checkpoint);
  }
  const bool speaks = rank == nullptr || rank->world.rank() == 0;
  const GenerationOptions how = HowOf(options, loaded, *tokenizer);
  std::vector<std::vector<int32_t>> contexts;
  for (const Prompt& prompt : prompts) {
    contexts.push_back(prompt.context);
  }
  CheckMemory(loaded, contexts, how, rank == nullptr ? 1 : rank->mpi.local_size());
  if (speaks) {
    SayCuts(prompts, how.positions);
  }
  Generation generation(loaded.runtime().Context(), loaded.model(), loaded.mix(), std::move(contexts), how);
  if (speaks && !generation.why_recomputed().empty()) {
    Say(fmt::format("{}: every token computes its whole context again", generation.why_recomputed()));
  }
  std::vector<GrowingText> texts = TextsOf(prompts, *tokenizer, options);
  Printer printer(prompts, *tokenizer, tokenizer->SpellsText() && !ids_alone, speaks);
  std::vector<int64_t> left(prompts.size(), options.max_tokens);
  const Generation::Result result = generation.Run([&](size_t text, int32_t id) {
    printer.Add(text, id, texts[text].Add(id));
    return !texts[text].stopped() && --left[text] > 0;
  });
  for (size_t i = 0; i < prompts.size(); ++i) {
    printer.End(i, texts[i].End());
    if (speaks && !options.stops.empty() && !texts[i].stopped()) {
      Say(fmt::format("text {}: no --stop text came", i + 1));
    }
  }
  const int64_t bytes = loaded.runtime().world().Sum(result.cache_bytes);
  if (speaks) {
    SayResult(result, loaded, prompts.size(), bytes);
  }
  if (options.recompute && generation.why_recomputed().empty()) {
    SayCheck(result, *loaded.config().training.precision, speaks);
  }
}

}  // namespace

void AddGenerateCommand(CLI::App& app) {
  const auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Continue a text with a checkpoint's model");
  command->add_option("checkpoint", options->checkpoint, "checkpoint, or run folder (its newest)")
      ->required()
      ->type_name("CKPT");
  command->add_option("--prompt", options->prompts.texts, "a text to continue; as often as needed")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->group("Prompts");
  command->add_option("--prompts", options->prompts.file, "a file of texts to continue, one a line")
      ->type_name("FILE")
      ->group("Prompts");
  command
      ->add_option("--prompt-ids", options->prompts.ids, "tokens to continue, where they have no text; ids are printed")
      ->type_name("I,J,...")
      ->allow_extra_args(false)
      ->group("Prompts");
  command->add_option("--max-tokens", options->max_tokens, "tokens to add at most: 200, 1e3, 1K")
      ->capture_default_str()
      ->transform(TokenCount(0, int64_t{1} << 31));
  command->add_option("--temperature", options->sampling.temperature, "0: always the likeliest token")
      ->capture_default_str()
      ->group("Sampling")
      ->check(FiniteNumber(0));
  command->add_option("--top-k", options->sampling.top_k, "sample among the K likeliest tokens; 0: all")
      ->capture_default_str()
      ->group("Sampling")
      ->check(WholeNumber(0));
  command
      ->add_option("--top-p", options->sampling.top_p, "sample among the likeliest tokens that have P together; 1: all")
      ->capture_default_str()
      ->group("Sampling")
      ->check(FiniteNumber(0, 1));
  command->add_option("--seed", options->sampling.seed, "of the random choices")
      ->check(WholeNumber(0))
      ->capture_default_str()
      ->group("Sampling");
  command->add_option("--stop", options->stops, "a text ends before TEXT; as often as needed")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command->add_flag("--recompute",
                    options->recompute,
                    "compute every context as a whole, too, and compare: the check of decoding with a cache");
  AddDeviceOption(*command, options->device);
  command->footer(
      "Examples:\n"
      "  ksa generate runs/quickstart --prompt 'The history of ' --max-tokens 300 --temperature 0.8\n"
      "  ksa generate runs/quickstart/checkpoints/step_00001000 --prompt 'A ' --temperature 0\n"
      "  ksa generate runs/quickstart --prompt 'The ' --prompt 'A ' --top-p 0.9 --stop '. '\n"
      "  ksa generate runs/quickstart --prompt 'The ' --max-tokens 50 --recompute\n"
      "  mpirun -np 2 ksa generate runs/quickstart --prompt 'The ' --threads 1\n"
      "Texts go to standard output, what there is to say about them to standard error. A context that grows longer "
      "than "
      "the model has positions is cut to half of them. Ranks that mpirun starts share the model's heads. The tokenizer "
      "is the one in the checkpoint or in its run's "
      "folder.");
  command->callback([options] {
    if (StartedByMpirun() || TasksOfLauncher().has_value()) {
      RunOnRanks([&](const RankOfCommand& rank) { Generate(*options, &rank); });
    } else {
      Generate(*options, nullptr);
    }
  });
}

}  // namespace ksa
