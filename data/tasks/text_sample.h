// A sample of words: pieces of text, each cut into tokens by itself, and answers among them.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "data/tasks/task.h"

namespace ksa {

class TextSample {
 public:
  // `tokenizer` must outlive it. `begins`: nothing stands before it.
  explicit TextSample(const Tokenizer& tokenizer, bool begins = false) : tokenizer_(tokenizer), begins_(begins) {}

  void Add(const std::string& text);

  void Add(const std::vector<int32_t>& ids) { ids_.insert(ids_.end(), ids.begin(), ids.end()); }

  // What stands in another one, its answers too.
  void Add(const TextSample& other);

  // What is to be answered here, counted by `by`.
  void Answer(const std::string& text, const std::array<double, kMostDimensions>& by);

  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(ids_.size()); }

  // As rows: an id's target is the next id of an answer. At most one id more than there are rows.
  void Write(TaskSample& sample) const;

 private:
  const Tokenizer& tokenizer_;
  bool begins_;
  std::vector<int32_t> ids_;
  std::vector<TaskAnswer> answers_;
};

// A word that nobody knows, of three syllables: six letters.
[[nodiscard]] std::string MadeUpWord(SampleRandom& random);

// `count` different ones.
[[nodiscard]] std::vector<std::string> MadeUpWords(SampleRandom& random, size_t count);

// A number of seven digits.
[[nodiscard]] std::string SevenDigits(SampleRandom& random);

// 32 hexadecimal digits in the groups of a UUID.
[[nodiscard]] std::string MadeUpUuid(SampleRandom& random);

}  // namespace ksa
