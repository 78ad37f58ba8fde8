#include "trainer/commands/prompts.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "data/files/posix_file.h"
#include "data/tools/utf8.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

std::vector<std::string> LinesOf(const std::string& path) {
  const File file = File::OpenForReading(path);
  std::string text(static_cast<size_t>(file.Size()), '\0');
  file.ReadAt(0, text.data(), file.Size());
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    if (lines.back().ends_with('\r')) {
      lines.back().pop_back();
    }
    begin = end + 1;
  }
  if (lines.empty()) {
    Fail(ExitCode::kBadData, "{}: an empty file; expected a prompt a line", path);
  }
  return lines;
}

Prompt FromText(const std::string& text, const std::string& where, const Tokenizer& tokenizer) {
  if (const size_t valid = ValidUtf8Prefix(text); valid != text.size()) {
    Fail(ExitCode::kBadData, "{}: not UTF-8 (byte {} of it)", where, valid);
  }
  Prompt prompt = {.text = text, .context = {}};
  tokenizer.Encode(text, prompt.context);
  if (prompt.context.empty()) {
    prompt.context.push_back(static_cast<int32_t>(tokenizer.eos_id()));  // the end of one document begins the next
    prompt.lead = 1;
  }
  return prompt;
}

Prompt FromIds(std::string_view list, int64_t vocabulary) {
  Prompt prompt;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string_view word = list.substr(begin, end - begin);
    int32_t id = 0;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (word.empty() || error != std::errc() || stop != word.data() + word.size()) {
      Fail(ExitCode::kUsage, "--prompt-ids {}: expected ids between commas, such as 17,4,250, got '{}'", list, word);
    }
    if (id < 0 || id >= vocabulary) {
      Fail(ExitCode::kBadData, "--prompt-ids {}: the vocabulary has the ids 0 to {}, not {}", list, vocabulary - 1, id);
    }
    prompt.context.push_back(id);
    begin = end + 1;
  }
  return prompt;
}

}  // namespace

std::string JoinIds(const std::vector<int32_t>& ids) {
  return fmt::format("{}", fmt::join(ids, ","));
}

std::vector<Prompt> ReadPrompts(const PromptOptions& options,
                                const Tokenizer& tokenizer,
                                int64_t vocabulary,
                                const std::string& checkpoint) {
  const bool has_text = !options.texts.empty() || !options.file.empty();
  if (!has_text && options.ids.empty()) {
    Fail(ExitCode::kUsage, "nothing to continue: give --prompt TEXT, --prompts FILE or --prompt-ids I,J,...");
  }
  if (has_text && !tokenizer.SpellsText()) {
    Fail(ExitCode::kBadData,
         "{}: its data was imported without a tokenizer ('{}', {} tokens), so that no prompt can be spelled in its "
         "tokens and none of them has a text. Give --prompt-ids I,J,..., and ids are printed; to have text, import the "
         "tokens with --tokenizer FILE and train on that",
         checkpoint,
         tokenizer.name(),
         tokenizer.vocab_size());
  }
  std::vector<Prompt> prompts;
  for (const std::string& text : options.texts) {
    prompts.push_back(FromText(text, "--prompt", tokenizer));
  }
  if (!options.file.empty()) {
    size_t number = 0;
    for (const std::string& line : LinesOf(options.file)) {
      prompts.push_back(FromText(line, fmt::format("{}:{}", options.file, ++number), tokenizer));
    }
  }
  for (const std::string& list : options.ids) {
    prompts.push_back(FromIds(list, vocabulary));
  }
  return prompts;
}

}  // namespace ksa
