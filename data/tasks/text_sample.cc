#include "data/tasks/text_sample.h"

#include <algorithm>
#include <set>

#include <fmt/core.h>

#include "kernels/core/error.h"

namespace ksa {

void TextSample::Add(const std::string& text) {
  if (begins_ && ids_.empty()) {
    tokenizer_.Encode(text, ids_);
  } else {
    tokenizer_.EncodeRest(text, ids_);
  }
}

void TextSample::Add(const TextSample& other) {
  for (TaskAnswer answer : other.answers_) {
    answer.row += static_cast<int32_t>(ids_.size());
    answers_.push_back(answer);
  }
  Add(other.ids_);
}

void TextSample::Answer(const std::string& text, const std::array<double, kMostDimensions>& by) {
  KSA_CHECK(!ids_.empty(), "an answer without a question");
  TaskAnswer answer = {.row = static_cast<int32_t>(ids_.size()) - 1, .length = 0, .by = by};
  Add(text);
  answer.length = static_cast<int32_t>(ids_.size()) - 1 - answer.row;
  answers_.push_back(answer);
}

void TextSample::Write(TaskSample& sample) const {
  KSA_CHECK(ids_.size() <= sample.inputs.size() + 1, "{} ids in {} rows", ids_.size(), sample.inputs.size());
  std::copy_n(ids_.begin(), std::min(ids_.size(), sample.inputs.size()), sample.inputs.begin());
  for (const TaskAnswer& answer : answers_) {
    for (auto row = static_cast<size_t>(answer.row); row < static_cast<size_t>(answer.row + answer.length); ++row) {
      sample.targets[row] = ids_[row + 1];
    }
  }
  sample.answers = answers_;
}

std::string MadeUpWord(SampleRandom& random) {
  static constexpr std::string_view kConsonants = "bcdfghjklmnpqrstvwxz";
  static constexpr std::string_view kVowels = "aeiou";
  std::string word;
  for (int syllable = 0; syllable < 3; ++syllable) {
    word += kConsonants[static_cast<size_t>(random.Below(static_cast<int64_t>(kConsonants.size())))];
    word += kVowels[static_cast<size_t>(random.Below(static_cast<int64_t>(kVowels.size())))];
  }
  return word;
}

std::vector<std::string> MadeUpWords(SampleRandom& random, size_t count) {
  std::vector<std::string> words;
  std::set<std::string> seen;
  while (words.size() < count) {
    std::string word = MadeUpWord(random);
    if (seen.insert(word).second) {
      words.push_back(std::move(word));
    }
  }
  return words;
}

std::string SevenDigits(SampleRandom& random) {
  return fmt::format("{}", 1000000 + random.Below(9000000));
}

std::string MadeUpUuid(SampleRandom& random) {
  std::string digits;
  for (int word = 0; word < 4; ++word) {
    digits += fmt::format("{:08x}", random.Next());
  }
  for (const size_t dash : {20, 16, 12, 8}) {
    digits.insert(dash, "-");
  }
  return digits;
}

}  // namespace ksa
