// What a configuration says of a task: its name, and values of its keys. Tasks make samples themselves, see task.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ksa {

// A key of a task, and what may stand behind it. A value is a list of numbers whatever its type: one of kInteger,
// kNumber and kWord (the word's place in `words`), at least one of the others.
struct TaskKey {
  enum class Type : int {
    kInteger,
    kNumber,
    kIntegers,   // one, or a list
    kFractions,  // one, or a list; each in [least, most]
    kWord,
  };

  std::string name;
  Type type = Type::kInteger;
  double least = 1;
  double most = 1 << 30;
  std::vector<std::string> words{};
  std::string default_text;    // for people: "16", "half of the vocabulary left"
  bool training_only = false;  // elsewhere a pool is whole

  [[nodiscard]] bool is_list() const { return type == Type::kIntegers || type == Type::kFractions; }
};

struct TaskSpec {
  std::string kind;                                   // "mqar"; empty: no task
  std::map<std::string, std::vector<double>> values;  // of the keys that were given

  // pool_samples was not given: it follows the length of the run, once (ResolvePools).
  bool pool_follows = false;

  [[nodiscard]] bool Has(const std::string& key) const { return values.count(key) > 0; }

  [[nodiscard]] int64_t Integer(const std::string& key, int64_t otherwise) const;
  [[nodiscard]] double Number(const std::string& key, double otherwise) const;
  [[nodiscard]] std::vector<double> List(const std::string& key, std::vector<double> otherwise) const;

  friend bool operator==(const TaskSpec& a, const TaskSpec& b) { return a.kind == b.kind && a.values == b.values; }
};

// A value of the key as it is written: "16", "[4, 8]", "random".
[[nodiscard]] std::string TaskValueText(const TaskKey& key, const std::vector<double>& value);

// Why `value` is not one of the key's, as in "must be at least 1, got 0"; empty where it is.
[[nodiscard]] std::string TaskValueProblem(const TaskKey& key, const std::vector<double>& value);

// "mqar:pairs=[4, 8],keys=64": as after --task. Error(kUsage): an unknown task or key, or a value that is not one.
[[nodiscard]] TaskSpec ParseTaskSpec(const std::string& text);

}  // namespace ksa
