// Tasks: sources whose samples are made, not read. A task is a pure function from random numbers and a sample's number
// to one sample: ids, targets on answers only, and of every answer what it is counted by (docs/tasks.md).
//
// Ids: 0 is filler and padding, 1 asks, 2 ends; keys, then values, from 3 on.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/tasks/sample_random.h"
#include "data/tasks/task_spec.h"
#include "data/tokenizers/tokenizer.h"

namespace ksa {

inline constexpr int32_t kFillerId = 0;
inline constexpr int32_t kAskId = 1;
inline constexpr int32_t kEndId = 2;
inline constexpr int32_t kFirstKeyId = 3;

inline constexpr size_t kMostDimensions = 2;

// An answer counts when every one of its tokens is the likeliest.
struct TaskAnswer {
  int32_t row = 0;  // of its first target
  int32_t length = 1;
  std::array<double, kMostDimensions> by{};  // one a dimension of the task
};

// A sample of T rows. The spans belong to a batch; they hold fillers and no target before a task writes them.
struct TaskSample {
  std::span<int32_t> inputs;   // [T]
  std::span<int32_t> targets;  // [T], < 0: none
  std::vector<TaskAnswer> answers;
};

class Task {
 public:
  Task() = default;
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  virtual ~Task() = default;

  // Sample `number` of the source, of which `random` has the random numbers. Thread-safe.
  virtual void Make(SampleRandom& random, int64_t number, TaskSample& sample) const = 0;

  // No sample has more targets.
  [[nodiscard]] virtual int64_t MostTargets() const = 0;
};

// What a task is made for.
struct TaskPlace {
  TaskSpec spec;
  int32_t sequence_length = 0;  // T
  int64_t vocab_size = 0;       // of the model
  // Of text tasks, which are refused without one: it outlives the task.
  const Tokenizer* tokenizer = nullptr;
};

struct TaskKind {
  std::string name;
  std::vector<TaskKey> keys;
  std::vector<std::string> dimensions;  // what accuracy is shown by
  bool is_text = false;                 // takes the run's tokenizer
  std::unique_ptr<Task> (*make)(const TaskPlace& place) = nullptr;

  // Null: there is none.
  [[nodiscard]] const TaskKey* FindKey(const std::string& key) const;
};

[[nodiscard]] const std::vector<TaskKind>& TaskKinds();

// Null: there is none.
[[nodiscard]] const TaskKind* FindTaskKind(const std::string& name);

// Error(kConfig): keys that do not go together, a sample that does not fit the length, a text task without a tokenizer.
// Error(kBadData): a vocabulary that does not hold the ids.
[[nodiscard]] std::unique_ptr<Task> MakeTask(const TaskPlace& place);

// Most targets of a sample of the task; T where it cannot be said (text tasks without their tokenizer).
[[nodiscard]] int64_t MostTargetsOf(const TaskPlace& place);

}  // namespace ksa
