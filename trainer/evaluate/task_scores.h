// What came of a task: right answers of all, counted together and by what the task shows.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "data/tasks/task.h"

namespace ksa {

struct AnswerCount {
  int64_t right = 0;
  int64_t answers = 0;

  void Add(bool is_right) {
    right += is_right ? 1 : 0;
    ++answers;
  }

  // 0 without answers.
  [[nodiscard]] double Accuracy() const {
    return answers > 0 ? static_cast<double>(right) / static_cast<double>(answers) : 0.0;
  }
};

struct TaskScores {
  AnswerCount all;
  // By dimension ("pairs", "length") and value. Distances are counted by the largest power of two that they reach.
  std::map<std::string, std::map<double, AnswerCount>> by;
  // Where the task has depths: by length, then depth.
  std::map<double, std::map<double, AnswerCount>> by_length_and_depth;

  // An answer of a task of this kind, in a sequence of `length` tokens.
  void Add(const TaskKind& kind, int64_t length, const TaskAnswer& answer, bool is_right);

  void Append(const TaskScores& other);
};

// What a task counts as solved from.
inline constexpr double kSolvedAccuracy = 0.9;

}  // namespace ksa
