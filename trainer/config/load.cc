#include "trainer/config/load.h"

#include <filesystem>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/config/read_file.h"
#include "trainer/config/rules.h"
#include "trainer/config/schema.h"

namespace ksa {
namespace {

constexpr const char* kInclude = "include";

// Reads sources in the order of precedence; later values replace earlier ones.
class Loader {
 public:
  Loader() = default;

  // Fragments first, in their order, then the file itself; but the file comes first in the report.
  void ReadRunFile(std::string_view text, const std::string& name) {
    const YamlNode root = Parse(text, problems_.AddFile(name));
    for (const YamlEntry& entry : root.entries) {
      if (entry.key == kInclude) {
        ReadFragments(entry.value, std::filesystem::path(name).parent_path());
      }
    }
    Walk(root, "");
  }

  void ApplySet(const std::string& assignment) {
    const int source = problems_.AddSet(assignment);
    const size_t equals = assignment.find('=');
    const std::string path = assignment.substr(0, equals);
    if (equals == std::string::npos || path.empty()) {
      problems_.Add({source, 1, 1}, "--set", "expected key=value, as in optimizer.lr=3e-4");
      return;
    }
    const YamlNode value = ParseYaml(std::string_view(assignment).substr(equals + 1), source, path, problems_);
    if (IsKnownPath(path)) {
      Read(value, path, {source, 1, 1});
      return;
    }
    problems_.Add({source, 1, 1}, path, AdviseUnknownPath(path));
  }

  void SetSequenceLength(int32_t length) { draft_.config.training.sequence_length = length; }

  // The checks of a whole run.
  LoadedConfig Finish() {
    Require("");
    CheckModelRules(draft_, given_, problems_);
    CheckRunRules(draft_, given_, problems_);
    problems_.ThrowIfAny();
    LoadedConfig loaded;
    loaded.config = ResolveDefaults(draft_);
    ResolvePools(loaded.config);
    for (const auto& [path, place] : given_.keys) {
      loaded.origins[path] = problems_.Origin(place);
    }
    if (draft_.max_tokens) {  // which the configuration holds as max_steps
      loaded.origins["training.max_steps"] = "from training.max_tokens, " + loaded.origins["training.max_tokens"];
      loaded.origins.erase("training.max_tokens");
    }
    loaded.warnings = Warnings(loaded.config);
    return loaded;
  }

  // The checks of `model` alone.
  ModelConfig FinishModel() {
    Require("model.");
    CheckModelRules(draft_, given_, problems_);
    problems_.ThrowIfAny();
    return ResolveDefaults(draft_).model;
  }

 private:
  YamlNode Parse(std::string_view text, int source) {
    YamlNode root = ParseYaml(text, source, "", problems_);
    if (root.kind != YamlNode::Kind::kMapping && root.kind != YamlNode::Kind::kInvalid) {
      problems_.Add(
          root.place,
          "document",
          fmt::format("expected a mapping of the sections {}, got {}", Joined(NamesUnder("")), Describe(root)));
      root.kind = YamlNode::Kind::kInvalid;
    }
    return root;
  }

  void ReadFragments(const YamlNode& list, const std::filesystem::path& folder) {
    std::vector<std::string> names;
    const Codec<std::vector<std::string>> codec = ListCodec(TextCodec(), "list of files");
    if (!codec.read(list, Reporter(&problems_, kInclude), names)) {
      MarkBad("");
      return;
    }
    for (size_t i = 0; i < names.size(); ++i) {
      const std::string path = (folder / names[i]).lexically_normal().string();
      const Reporter reporter = Reporter(&problems_, kInclude).Item(i);
      std::string text;
      try {
        text = ReadConfigFile(path);
      } catch (const Error& problem) {
        reporter.Fail(list.items[i].place, fmt::format("{}; paths are relative to this file", problem.what()));
        MarkBad("");
        continue;
      }
      const YamlNode root = Parse(text, problems_.AddFile(path));
      for (const YamlEntry& entry : root.entries) {
        if (entry.key == kInclude) {
          problems_.Add(entry.key_place, kInclude, "an included file cannot include others; list them in the run file");
        }
      }
      Walk(root, "");
    }
  }

  // The value of a key or section. `place` is where its name stands.
  void Read(const YamlNode& value, const std::string& path, const Place& place) {
    const Key* key = FindKey(path);
    if (key == nullptr) {
      given_.sections[path] = place;
      Walk(value, path);
      return;
    }
    given_.keys[path] = value.place;
    const Reporter reporter(&problems_, path);
    if (value.kind == YamlNode::Kind::kNull) {
      reporter.Fail(value.place, fmt::format("has no value; give {} or remove the key", key->type));
      given_.bad.insert(path);
    } else if (!key->read(value, reporter, draft_)) {
      given_.bad.insert(path);
    }
  }

  void Walk(const YamlNode& node, const std::string& section) {
    if (node.kind == YamlNode::Kind::kInvalid) {
      MarkBad(section);
      return;
    }
    if (node.kind != YamlNode::Kind::kMapping) {
      problems_.Add(node.place,
                    section,
                    fmt::format("expected a mapping of {}, got {}", Joined(NamesUnder(section)), Describe(node)));
      MarkBad(section);
      return;
    }
    for (const YamlEntry& entry : node.entries) {
      const std::string path = Under(section, entry.key);
      if (IsKnownPath(path) && entry.key.find('.') == std::string::npos) {
        Read(entry.value, path, entry.key_place);
      } else if (path != kInclude) {
        problems_.Add(entry.key_place, path, AdviseUnknown(section, entry.key));
      }
    }
  }

  // Nothing is said about keys of a section that cannot be read.
  void MarkBad(const std::string& section) {
    for (const Key& key : Schema()) {
      if (section.empty() || key.path.starts_with(section + ".")) {
        given_.bad.insert(key.path);
      }
    }
  }

  void Require(const std::string& prefix) {
    for (const Key& key : Schema()) {
      if (key.required() && key.path.starts_with(prefix) && !given_.Has(key.path)) {
        if (given_.bad.insert(key.path).second) {
          problems_.Add(
              given_.PlaceOf({key.path.c_str()}), key.path, fmt::format("missing; give {} ({})", key.type, key.doc));
        }
      }
    }
  }

  Problems problems_;
  Draft draft_;
  Given given_;
};

}  // namespace

LoadedConfig ParseConfig(std::string_view text, const std::string& name, const std::vector<std::string>& sets) {
  Loader loader;
  loader.ReadRunFile(text, name);
  for (const std::string& assignment : sets) {
    loader.ApplySet(assignment);
  }
  return loader.Finish();
}

LoadedConfig LoadConfig(const std::string& path, const std::vector<std::string>& sets) {
  return ParseConfig(ReadConfigFile(path), path, sets);
}

ModelConfig ParseModelConfig(std::string_view text, const std::string& name, int32_t sequence_length) {
  Loader loader;
  loader.ReadRunFile(text, name);
  loader.SetSequenceLength(sequence_length);
  return loader.FinishModel();
}

ModelConfig LoadModelConfig(const std::string& path, int32_t sequence_length, const std::vector<std::string>& sets) {
  Loader loader;
  loader.ReadRunFile(ReadConfigFile(path), path);
  for (const std::string& assignment : sets) {
    loader.ApplySet(assignment);
  }
  loader.SetSequenceLength(sequence_length);
  return loader.FinishModel();
}

}  // namespace ksa
