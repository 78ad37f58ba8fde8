#include "trainer/config/sweep_draft.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

#include <fmt/core.h>

#include "trainer/config/codec.h"
#include "trainer/config/schema.h"

namespace ksa {
namespace {

bool CheckMapping(const YamlNode& node, const Reporter& reporter, const std::string& what) {
  return node.kind == YamlNode::Kind::kMapping ||
         (node.kind != YamlNode::Kind::kInvalid &&
          reporter.Fail(node.place, fmt::format("expected {}, got {}", what, Describe(node))));
}

bool CheckKey(const YamlEntry& entry, const Reporter& reporter) {
  if (!IsKnownPath(entry.key)) {
    return reporter.Field(entry.key).Fail(entry.key_place, AdviseUnknownPath(entry.key));
  }
  if (entry.key == "run" || entry.key == "run.name" || entry.key == "run.dir") {
    return reporter.Field(entry.key).Fail(entry.key_place, "the sweep names its runs and their folders; remove it");
  }
  return true;
}

bool ReadOverrides(const YamlNode& node, const Reporter& reporter, Overrides& out) {
  if (!CheckMapping(node, reporter, "a mapping of keys to values")) {
    return false;
  }
  bool good = true;
  for (const YamlEntry& entry : node.entries) {
    good = CheckKey(entry, reporter) && good;
    out.push_back({entry.key, FlowText(entry.value)});
  }
  return good;
}

bool ReadAxes(const YamlNode& node, const Reporter& reporter, std::vector<SweepAxis>& out) {
  if (!CheckMapping(node, reporter, "a mapping of keys to lists of values")) {
    return false;
  }
  bool good = true;
  for (const YamlEntry& entry : node.entries) {
    good = CheckKey(entry, reporter) && good;
    if (entry.value.kind != YamlNode::Kind::kSequence || entry.value.items.empty()) {
      good = reporter.Field(entry.key).Fail(
          entry.value.place,
          fmt::format("expected a list of values, got {}",
                      entry.value.kind == YamlNode::Kind::kSequence ? "an empty one" : Describe(entry.value)));
      continue;
    }
    SweepAxis axis{entry.key, {}};
    for (const YamlNode& value : entry.value.items) {
      axis.values.push_back(FlowText(value));
    }
    out.push_back(std::move(axis));
  }
  return good;
}

std::set<std::string> KeysOf(const Overrides& overrides) {
  std::set<std::string> keys;
  for (const Override& item : overrides) {
    keys.insert(item.key);
  }
  return keys;
}

bool ReadZip(const YamlNode& node, const Reporter& reporter, std::vector<SweepRow>& out) {
  if (node.kind != YamlNode::Kind::kSequence) {
    return node.kind != YamlNode::Kind::kInvalid &&
           reporter.Fail(node.place, fmt::format("expected a list of {{key: value, ...}}, got {}", Describe(node)));
  }
  bool good = true;
  for (size_t i = 0; i < node.items.size(); ++i) {
    SweepRow row;
    good = ReadOverrides(node.items[i], reporter.Item(i), row.overrides) && good;
    if (good && !out.empty() && KeysOf(row.overrides) != KeysOf(out.front().overrides)) {
      good = reporter.Item(i).Fail(node.items[i].place, "has other keys than the first row; give each row the same");
    }
    out.push_back(std::move(row));
  }
  return good;
}

bool ReadVariants(const YamlNode& node, const Reporter& reporter, std::vector<SweepRow>& out) {
  if (!CheckMapping(node, reporter, "a mapping of labels to {key: value, ...}")) {
    return false;
  }
  bool good = true;
  for (const YamlEntry& entry : node.entries) {
    const auto allowed = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
    };
    if (entry.key.empty() || !std::all_of(entry.key.begin(), entry.key.end(), allowed)) {
      good = reporter.Field(entry.key).Fail(entry.key_place, "a label has letters, digits, '_' and '-' only");
    }
    SweepRow variant{entry.key, {}};
    good = ReadOverrides(entry.value, reporter.Field(entry.key), variant.overrides) && good;
    out.push_back(std::move(variant));
  }
  return good;
}

// Keys of axes, of which cells differ for the sake of a mean.
bool ReadMeanOver(const YamlNode& node, const Reporter& reporter, std::vector<std::string>& out) {
  return ListCodec(TextCodec(), "list of keys").read(node, reporter, out);
}

void CheckMeanOver(const SweepDraft& draft, const Reporter& reporter) {
  for (const std::string& key : draft.mean_over) {
    const bool known =
        std::any_of(draft.axes.begin(), draft.axes.end(), [&](const SweepAxis& axis) { return axis.key == key; });
    if (!known) {
      reporter.Field("mean_over")
          .Fail({}, fmt::format("{} is no key of axes; means are taken over an axis", Quoted(key)));
    }
  }
}

bool ReadSelect(const YamlNode& node, const Reporter& reporter, std::optional<SelectDraft>& out) {
  SelectDraft select;
  select.place = node.place;
  const Codec<std::vector<std::string>> keys = ListCodec(TextCodec(), "list of keys");
  const Codec<std::string> text = TextCodec();
  const Codec<uint64_t> seed = IntegerCodec<uint64_t>(0);
  const std::vector<ItemField> fields = {
      {"over", [&](const YamlNode& value, const Reporter& at) { return keys.read(value, at, select.over); }},
      {"by", [&](const YamlNode& value, const Reporter& at) { return text.read(value, at, select.by); }},
      {"seed", [&](const YamlNode& value, const Reporter& at) { return seed.read(value, at, select.seed.emplace()); }}};
  const bool good = ReadItem(node, reporter, fields);
  if (good) {
    out = select;
  }
  return good;
}

const SweepAxis* FindAxis(const SweepDraft& draft, const std::string& key) {
  const auto found =
      std::find_if(draft.axes.begin(), draft.axes.end(), [&](const SweepAxis& axis) { return axis.key == key; });
  return found == draft.axes.end() ? nullptr : &*found;
}

bool HasWord(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

void CheckSelectOver(const SweepDraft& draft, const Reporter& reporter) {
  const SelectDraft& select = *draft.select;
  if (select.over.empty()) {
    reporter.Field("over").Fail(select.place, "missing; the keys among whose values the best is kept: [optimizer.lr]");
  }
  for (const std::string& key : select.over) {
    const bool zipped = !draft.zip.empty() && KeysOf(draft.zip.front().overrides).count(key) > 0;
    if (HasWord(draft.mean_over, key)) {
      reporter.Field("over").Fail(select.place,
                                  fmt::format("{} is in mean_over as well; take it out of one", Quoted(key)));
    } else if (FindAxis(draft, key) == nullptr && !zipped) {
      reporter.Field("over").Fail(
          select.place, fmt::format("{} is no key of axes or zip; what does not vary cannot be chosen", Quoted(key)));
    }
  }
}

void CheckSelect(const SweepDraft& draft, const Reporter& reporter) {
  const SelectDraft& select = *draft.select;
  CheckSelectOver(draft, reporter);
  const bool loss =
      select.by == "validation_loss" || (select.by.starts_with("validation_loss/") && select.by != "validation_loss/");
  if (!loss && !(select.by.starts_with("task_accuracy/") && select.by != "task_accuracy/")) {
    reporter.Field("by").Fail(
        select.place,
        fmt::format("expected validation_loss, validation_loss/NAME or task_accuracy/NAME, got {}", Quoted(select.by)));
  }
  if (!select.seed) {
    return;
  }
  const SweepAxis* seeds = FindAxis(draft, "run.seed");
  if (!HasWord(draft.mean_over, "run.seed")) {
    reporter.Field("seed").Fail(select.place,
                                "needs run.seed in mean_over: the other seeds run for the value that is chosen");
  } else if (seeds == nullptr || !HasWord(seeds->values, std::to_string(*select.seed))) {
    reporter.Field("seed").Fail(select.place, fmt::format("{} is none of the values of axes.run.seed", *select.seed));
  }
}

}  // namespace

bool IsSweepKey(const std::string& key) {
  return key == "base" || key == "axes" || key == "zip" || key == "variants";
}

SweepDraft ReadSweepDraft(const YamlNode& root, Problems& problems) {
  SweepDraft draft;
  const Codec<std::string> text = TextCodec();
  const Codec<std::string> path = PathCodec();
  const Codec<std::optional<std::string>> optional_path = OptionalCodec(path, "");
  const Codec<std::optional<int64_t>> length = OptionalCodec(IntegerCodec<int64_t>(1, kMostUpdates), "");
  const Reporter reporter(&problems, "");
  std::set<std::string> seen;
  const auto field = [&](const std::string& name, auto read) {
    return ItemField{name, [&seen, name, read](const YamlNode& node, const Reporter& at) {
                       seen.insert(name);
                       return read(node, at);
                     }};
  };
  const std::vector<ItemField> fields = {
      field("name",
            [&](const YamlNode& node, const Reporter& at) {
              return text.read(node, at, draft.name) &&
                     (draft.name.find('/') == std::string::npos ||
                      at.Fail(node.place, "must be usable as a folder name; remove '/'"));
            }),
      field("dir", [&](const YamlNode& node, const Reporter& at) { return optional_path.read(node, at, draft.dir); }),
      field("base",
            [&](const YamlNode& node, const Reporter& at) {
              draft.base_place = node.place;
              return path.read(node, at, draft.base);
            }),
      field("axes", [&](const YamlNode& node, const Reporter& at) { return ReadAxes(node, at, draft.axes); }),
      field("zip", [&](const YamlNode& node, const Reporter& at) { return ReadZip(node, at, draft.zip); }),
      field("variants",
            [&](const YamlNode& node, const Reporter& at) { return ReadVariants(node, at, draft.variants); }),
      field("mean_over",
            [&](const YamlNode& node, const Reporter& at) { return ReadMeanOver(node, at, draft.mean_over); }),
      field("select", [&](const YamlNode& node, const Reporter& at) { return ReadSelect(node, at, draft.select); }),
      field("kv_length",
            [&](const YamlNode& node, const Reporter& at) { return length.read(node, at, draft.kv_length); })};
  if (root.kind != YamlNode::Kind::kMapping) {
    static_cast<void>(ReadItem(root, Reporter(&problems, "document"), fields));
    return draft;
  }
  static_cast<void>(ReadItem(root, reporter, fields));
  for (const char* name : {"name", "base"}) {
    if (seen.count(name) == 0) {
      reporter.Field(name).Fail({}, "missing; every sweep has it");
    }
  }
  if (seen.count("axes") + seen.count("zip") + seen.count("variants") == 0) {
    reporter.Field("axes").Fail({}, "missing; a sweep has at least one of axes, zip and variants");
  }
  CheckMeanOver(draft, reporter);
  if (draft.select) {
    CheckSelect(draft, reporter.Field("select"));
  }
  return draft;
}

}  // namespace ksa
