#include "trainer/config/task_codec.h"

#include <fmt/core.h>

#include "data/tasks/task.h"

namespace ksa {
namespace {

bool ReadNumber(const TaskKey& key, const YamlNode& node, const Reporter& reporter, double& out) {
  if (key.type == TaskKey::Type::kInteger || key.type == TaskKey::Type::kIntegers) {
    int64_t whole = 0;
    const auto least = static_cast<int64_t>(key.least);
    if (!IntegerCodec<int64_t>(least, static_cast<int64_t>(key.most)).read(node, reporter, whole)) {
      return false;
    }
    out = static_cast<double>(whole);
    return true;
  }
  if (!NumberCodec(key.least).read(node, reporter, out)) {
    return false;
  }
  const std::string problem = TaskValueProblem(key, {out});
  return problem.empty() || reporter.Fail(node.place, problem);
}

bool ReadWord(const TaskKey& key, const YamlNode& node, const Reporter& reporter, double& out) {
  std::vector<std::pair<std::string, size_t>> words;
  for (const std::string& word : key.words) {
    words.emplace_back(word, words.size());
  }
  size_t place = 0;
  const bool good = EnumCodec<size_t>(words).read(node, reporter, place);
  out = static_cast<double>(place);
  return good;
}

bool ReadValue(const TaskKey& key, const YamlNode& node, const Reporter& reporter, std::vector<double>& out) {
  if (node.kind == YamlNode::Kind::kSequence && key.is_list()) {
    bool good = !node.items.empty() || reporter.Fail(node.place, "needs at least one number");
    for (size_t i = 0; i < node.items.size(); ++i) {
      out.emplace_back();
      good = ReadNumber(key, node.items[i], reporter.Item(i), out.back()) && good;
    }
    return good;
  }
  out.emplace_back();
  return key.type == TaskKey::Type::kWord ? ReadWord(key, node, reporter, out.back())
                                          : ReadNumber(key, node, reporter, out.back());
}

const YamlNode* Find(const YamlNode& node, const std::string& name) {
  for (const YamlEntry& entry : node.entries) {
    if (entry.key == name) {
      return &entry.value;
    }
  }
  return nullptr;
}

const TaskKind* ReadKind(const YamlNode& node, const Reporter& reporter) {
  std::vector<std::string> names;
  for (const TaskKind& kind : TaskKinds()) {
    names.push_back(kind.name);
  }
  const Reporter at = reporter.Field("task");
  const YamlNode& value = *Find(node, "task");
  if (!CheckScalar(value, at, "one of " + Joined(names))) {
    return nullptr;
  }
  const TaskKind* kind = FindTaskKind(value.text);
  if (kind == nullptr) {
    FailName(value, at, names);
  }
  return kind;
}

}  // namespace

bool IsTaskItem(const YamlNode& node) {
  return node.kind == YamlNode::Kind::kMapping && Find(node, "task") != nullptr;
}

bool ReadTaskItem(const YamlNode& node,
                  const Reporter& reporter,
                  bool training,
                  const std::vector<ItemField>& more,
                  TaskSpec& task,
                  std::string& name) {
  const TaskKind* kind = ReadKind(node, reporter);
  if (kind == nullptr) {
    return false;
  }
  task.kind = kind->name;
  const Codec<std::string> text = TextCodec();
  std::vector<ItemField> fields = {
      {"task", [](const YamlNode&, const Reporter&) { return true; }},
      {"name", [&](const YamlNode& field, const Reporter& at) { return text.read(field, at, name); }}};
  fields.insert(fields.end(), more.begin(), more.end());
  for (const TaskKey& key : kind->keys) {
    fields.push_back({key.name, [&, training](const YamlNode& field, const Reporter& at) {
                        if (key.training_only && !training) {
                          return at.Fail(field.place,
                                         "belongs to data.train: only there the keys in use grow in number, elsewhere "
                                         "all are in use; remove it");
                        }
                        return ReadValue(key, field, at, task.values[key.name]);
                      }});
  }
  if (!ReadItem(node, reporter, fields)) {
    return false;
  }
  name = name.empty() ? kind->name : name;
  return true;
}

std::string TaskItemText(const TaskSpec& task, const std::string& name) {
  std::string text = fmt::format("task: {}, name: {}", task.kind, ScalarText(name));
  for (const TaskKey& key : FindTaskKind(task.kind)->keys) {
    if (const auto found = task.values.find(key.name); found != task.values.end()) {
      text += fmt::format(", {}: {}", key.name, TaskValueText(key, found->second));
    }
  }
  return text;
}

Codec<EvaluationTask> EvaluationTaskCodec() {
  const Codec<int64_t> samples = IntegerCodec<int64_t>(1, kLargestSize);
  return {"task",
          [samples](const YamlNode& node, const Reporter& reporter, EvaluationTask& out) {
            if (!IsTaskItem(node)) {
              return node.kind != YamlNode::Kind::kInvalid &&
                     reporter.Fail(node.place,
                                   "expected {task: NAME, name, samples, keys of the task}, got " + Describe(node));
            }
            return ReadTaskItem(
                node,
                reporter,
                false,
                {{"samples",
                  [&](const YamlNode& field, const Reporter& at) { return samples.read(field, at, out.samples); }}},
                out.task,
                out.name);
          },
          [](const EvaluationTask& task) {
            return fmt::format("{{{}, samples: {}}}", TaskItemText(task.task, task.name), task.samples);
          }};
}

}  // namespace ksa
