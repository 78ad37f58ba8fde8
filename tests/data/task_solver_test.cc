// Every target of a task can be found by reading the ids alone, by rules that are written here a second time; and the
// answers say of themselves what a reader finds.
#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "tests/data/task_samples.h"

namespace ksa {
namespace {

using testing::MadeSample;
using testing::TaskCase;

// What a row's target should be, and what the answer there is counted by.
struct Found {
  int32_t target = -1;
  std::vector<double> by;
};

using Solution = std::map<int32_t, Found>;  // by row

// The answers are those of the solution, and no other row has a target.
void ExpectSolved(const MadeSample& sample, const Solution& solution) {
  ASSERT_EQ(sample.answers.size(), solution.size());
  EXPECT_EQ(sample.target_count, static_cast<int64_t>(solution.size()));
  for (size_t row = 0; row < sample.targets.size(); ++row) {
    const auto found = solution.find(static_cast<int32_t>(row));
    EXPECT_EQ(sample.targets[row], found == solution.end() ? Batch::kNoTarget : found->second.target) << "row " << row;
  }
  for (const TaskAnswer& answer : sample.answers) {
    ASSERT_TRUE(solution.count(answer.row)) << "an answer at row " << answer.row;
    EXPECT_EQ(answer.length, 1);
    const std::vector<double>& by = solution.at(answer.row).by;
    for (size_t i = 0; i < by.size(); ++i) {
      EXPECT_EQ(answer.by.at(i), by[i]) << "row " << answer.row << ", dimension " << i;
    }
  }
}

void ExpectIdsBelow(const MadeSample& sample, int64_t below) {
  for (const int32_t id : sample.inputs) {
    ASSERT_TRUE(0 <= id && id < below) << id;
  }
}

Solution SolveRecallStream(const MadeSample& sample) {
  std::map<int32_t, std::pair<int32_t, int32_t>> seen;  // key: value, row
  Solution solution;
  for (size_t row = 0; row < sample.inputs.size(); row += 2) {
    const int32_t key = sample.inputs[row];
    const auto found = seen.find(key);
    if (found != seen.end()) {
      solution[static_cast<int32_t>(row)] = {found->second.first,
                                             {static_cast<double>(static_cast<int32_t>(row) - found->second.second)}};
      found->second.second = static_cast<int32_t>(row);
    } else if (row + 1 < sample.inputs.size()) {
      seen[key] = {sample.inputs[row + 1], static_cast<int32_t>(row)};
    }
  }
  return solution;
}

TEST(TaskSolver, RecallStream) {
  for (const int32_t length : {3, 16, 113, 256}) {
    for (const bool documents : {false, true}) {
      const TaskCase task = {
          .task = "recall_stream:keys=20,values=9", .length = length, .vocab_size = 32, .documents = documents};
      for (int64_t number = 0; number < 20; ++number) {
        const MadeSample sample = task.Sample(number);
        ExpectIdsBelow(sample, 32);
        for (size_t row = 0; row < sample.inputs.size(); ++row) {
          EXPECT_EQ(sample.inputs[row] < 3 + 20, row % 2 == 0) << "keys and values take turns";
        }
        ExpectSolved(sample, SolveRecallStream(sample));
      }
    }
  }
}

// mqar and forgetting: `writes` assignments a key in front, then questions.
Solution SolveMqar(const MadeSample& sample, int64_t pairs, int64_t writes) {
  std::map<int32_t, std::pair<int32_t, int32_t>> newest;
  const auto context = static_cast<size_t>(2 * pairs * writes);
  for (size_t row = 0; row < context; row += 2) {
    newest[sample.inputs[row]] = {sample.inputs[row + 1], static_cast<int32_t>(row)};
  }
  Solution solution;
  for (size_t row = context; row < sample.inputs.size(); ++row) {
    if (const auto found = newest.find(sample.inputs[row]); found != newest.end()) {
      solution[static_cast<int32_t>(row)] = {
          found->second.first,
          {static_cast<double>(pairs), static_cast<double>(static_cast<int32_t>(row) - found->second.second)}};
    }
  }
  return solution;
}

void ExpectMqarSolved(const TaskCase& task, int64_t keys, int64_t writes) {
  std::set<size_t> numbers;
  for (int64_t number = 0; number < 40; ++number) {
    const MadeSample sample = task.Sample(number);
    ExpectIdsBelow(sample, task.vocab_size);
    const auto pairs = static_cast<int64_t>(sample.answers.size());
    numbers.insert(sample.answers.size());
    std::map<int32_t, int32_t> last;
    for (int64_t row = 0; row < 2 * pairs * writes; row += 2) {
      const int32_t key = sample.inputs[static_cast<size_t>(row)];
      const int32_t value = sample.inputs[static_cast<size_t>(row) + 1];
      EXPECT_TRUE(3 <= key && key < 3 + keys) << key;
      EXPECT_GE(value, 3 + keys);
      EXPECT_TRUE(last.count(key) == 0 || last[key] != value) << "an assignment that changes nothing";
      last[key] = value;
    }
    ASSERT_EQ(static_cast<int64_t>(last.size()), pairs) << "keys differ, and each is asked for once";
    ExpectSolved(sample, SolveMqar(sample, pairs, writes));
    for (const TaskAnswer& answer : sample.answers) {
      EXPECT_EQ(answer.row % 2, 0) << "questions lie two apart";
    }
  }
  EXPECT_GT(numbers.size(), 1U) << "the numbers of pairs are drawn";
}

TEST(TaskSolver, Mqar) {
  for (const char* filler : {"random", "pad"}) {
    for (const int32_t length : {64, 113}) {
      const TaskCase task = {.task = std::string("mqar:pairs=[4,16],keys=20,values=30,filler=") + filler,
                             .length = length,
                             .vocab_size = 53};
      ExpectMqarSolved(task, 20, 1);
    }
  }
  // All keys are in use: nothing but values is left to fill with. And the vocabulary's halves.
  ExpectMqarSolved({.task = "mqar:pairs=[3,8],keys=8,values=8", .length = 33, .vocab_size = 19}, 8, 1);
  ExpectMqarSolved({.task = "mqar:pairs=[4,8]", .length = 64, .vocab_size = 64}, 30, 1);
}

TEST(TaskSolver, Forgetting) {
  ExpectMqarSolved({.task = "forgetting:pairs=[2,5],keys=10,values=2", .length = 40, .vocab_size = 15}, 10, 2);
  ExpectMqarSolved(
      {.task = "forgetting:pairs=[2,5],keys=10,values=12,writes=3", .length = 113, .vocab_size = 25}, 10, 3);
}

TEST(TaskSolver, Needle) {
  for (const char* depths : {"", ",depth=[0,0.5,1]"}) {
    for (const int32_t length : {4, 5, 113}) {
      const TaskCase task = {
          .task = std::string("needle:keys=10,values=10") + depths, .length = length, .vocab_size = 23};
      for (int64_t number = 0; number < 60; ++number) {
        const MadeSample sample = task.Sample(number);
        const auto end = static_cast<size_t>(length) - 1;
        const int32_t key = sample.inputs[end];
        EXPECT_EQ(sample.inputs[end - 1], 1) << "the ask token";
        const auto at = std::find(sample.inputs.begin(), sample.inputs.begin() + length - 2, key);
        ASSERT_EQ(std::count(sample.inputs.begin(), sample.inputs.end(), key), 2);
        EXPECT_TRUE(3 <= key && key < 13) << key;
        EXPECT_TRUE(13 <= at[1] && at[1] < 23) << at[1];
        ExpectSolved(sample, {{static_cast<int32_t>(end), {at[1], {}}}});
        const double last = length - 4;
        const double depth = last > 0 ? static_cast<double>(at - sample.inputs.begin()) / last : 0.0;
        if (last > 0) {
          EXPECT_NEAR(sample.answers[0].by[0], depth, 0.05 + 0.5 / last);
        }
      }
    }
  }
}

TEST(TaskSolver, VariableTracking) {
  for (const int32_t length : {26, 113}) {
    const TaskCase task = {.task = "variable_tracking:chains=2,hops=4,values=6", .length = length, .vocab_size = 29};
    for (int64_t number = 0; number < 40; ++number) {
      const MadeSample sample = task.Sample(number);
      // Assignments in front of the question, of whatever is a variable (3 to 22) at an even row.
      const auto ask = std::find(sample.inputs.begin(), sample.inputs.end(), 1) - sample.inputs.begin();
      ASSERT_EQ(ask, length - 6);
      std::map<int32_t, std::pair<int32_t, double>> holds;  // variable: value, hops
      for (int64_t row = 0; row + 1 < ask; row += 2) {
        const int32_t variable = sample.inputs[static_cast<size_t>(row)];
        const int32_t from = sample.inputs[static_cast<size_t>(row) + 1];
        if (variable == 0) {
          EXPECT_EQ(from, 0);
          continue;
        }
        ASSERT_EQ(holds.count(variable), 0U);
        if (from >= 23) {
          holds[variable] = {from, 0.0};
        } else {
          ASSERT_EQ(holds.count(from), 1U) << "a variable is assigned before it is read";
          holds[variable] = {holds[from].first, holds[from].second + 1};
        }
      }
      EXPECT_EQ(holds.size(), 10U);
      Solution solution;
      auto row = static_cast<int32_t>(ask) + 1;
      const int32_t value = sample.inputs[static_cast<size_t>(row)];
      for (const auto& [variable, held] : holds) {  // rising
        if (held.first == value) {
          if (!solution.empty()) {
            EXPECT_EQ(sample.inputs[static_cast<size_t>(row)], solution.rbegin()->second.target);
          }
          solution[row++] = {variable, {held.second}};
        }
      }
      EXPECT_EQ(solution.size(), 5U);
      ExpectSolved(sample, solution);
    }
  }
}

TEST(TaskSolver, Copy) {
  for (const int32_t length : {25, 26, 113}) {
    const TaskCase task = {.task = "copy:span=12,symbols=5", .length = length, .vocab_size = 8};
    for (int64_t number = 0; number < 20; ++number) {
      const MadeSample sample = task.Sample(number);
      EXPECT_EQ(sample.inputs[12], 2) << "the end of the span";
      const auto ask = static_cast<size_t>(length) - 12;
      EXPECT_EQ(sample.inputs[ask], 1);
      Solution solution;
      for (size_t i = 0; i < 12; ++i) {
        EXPECT_TRUE(3 <= sample.inputs[i] && sample.inputs[i] < 8);
        solution[static_cast<int32_t>(ask + i)] = {sample.inputs[i], {static_cast<double>(i)}};
        EXPECT_TRUE(i == 0 || sample.inputs[ask + i] == sample.inputs[i - 1]);
      }
      ExpectSolved(sample, solution);
      EXPECT_EQ(std::count(sample.inputs.begin(), sample.inputs.end(), 0), length - 25);
    }
  }
}

}  // namespace
}  // namespace ksa
