#include "trainer/evaluate/task_scores.h"

#include <cmath>

namespace ksa {
namespace {

void Join(AnswerCount& one, const AnswerCount& other) {
  one.right += other.right;
  one.answers += other.answers;
}

}  // namespace

void TaskScores::Add(const TaskKind& kind, int64_t length, const TaskAnswer& answer, bool is_right) {
  all.Add(is_right);
  by["length"][static_cast<double>(length)].Add(is_right);
  for (size_t i = 0; i < kind.dimensions.size(); ++i) {
    const std::string& dimension = kind.dimensions[i];
    const double value = answer.by.at(i);
    by[dimension][dimension == "distance" ? std::exp2(std::floor(std::log2(value))) : value].Add(is_right);
    if (dimension == "depth") {
      by_length_and_depth[static_cast<double>(length)][value].Add(is_right);
    }
  }
}

void TaskScores::Append(const TaskScores& other) {
  Join(all, other.all);
  for (const auto& [dimension, counts] : other.by) {
    for (const auto& [value, count] : counts) {
      Join(by[dimension][value], count);
    }
  }
  for (const auto& [length, depths] : other.by_length_and_depth) {
    for (const auto& [depth, count] : depths) {
      Join(by_length_and_depth[length][depth], count);
    }
  }
}

}  // namespace ksa
