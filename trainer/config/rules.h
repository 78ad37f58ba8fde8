// The rules that tie keys together.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "trainer/config/problems.h"
#include "trainer/config/schema.h"

namespace ksa {

// What was given, and where.
struct Given {
  std::map<std::string, Place> keys;      // the place of the value that counts
  std::map<std::string, Place> sections;  // the last place of a section's name
  std::set<std::string> bad;              // keys whose value was refused or is missing: already reported

  [[nodiscard]] bool Has(const std::string& key) const { return keys.count(key) > 0; }

  // No rule can be judged by a value that was refused.
  [[nodiscard]] bool Usable(const std::vector<std::string>& names) const;

  // Where to point at: the first of the keys that was given, else the section of the first, else the file's top.
  [[nodiscard]] Place PlaceOf(const std::vector<std::string>& names) const;
};

// What a rule reads, and where it reports.
struct RuleCheck {
  const Draft& draft;
  const Given& given;
  Problems& problems;

  // Reports about the first key, at the first one that was given.
  void Fail(const std::vector<std::string>& keys, const std::string& message) const {
    problems.Add(given.PlaceOf(keys), keys.front(), message);
  }
};

// The rules of `model` (and of the sequence length, when it is known: > 0).
void CheckModelRules(const Draft& draft, const Given& given, Problems& problems);

// The rules of `parallel` that do not need the number of ranks.
void CheckMeshRules(const RuleCheck& check);

// Numbers that the precision of the run cannot hold.
void CheckNumbers(const RuleCheck& check);

// Tasks: what does not fit the sequence length or their own keys, and what all of a task would be.
void CheckTaskRules(const RuleCheck& check);

// Why so many tensor ranks cannot share the model, and how many can; empty where they can.
[[nodiscard]] std::string TensorRanksProblem(const ModelConfig& model, int32_t ranks);

// What is wrong when `ranks` ranks run a complete configuration, one problem an entry.
[[nodiscard]] std::vector<std::string> MeshProblems(const Config& config, int ranks);

// The same with the rules of `parallel` that do not need the number of ranks, for a mesh that no file was checked for.
[[nodiscard]] std::vector<std::string> WhyNotMesh(const Config& config, int ranks);

// All others.
void CheckRunRules(const Draft& draft, const Given& given, Problems& problems);

// What is allowed but surely not meant.
[[nodiscard]] std::vector<std::string> Warnings(const Config& config);

}  // namespace ksa
