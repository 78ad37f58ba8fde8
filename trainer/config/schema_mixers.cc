// The keys of `model.attention`: the pattern, and what the kinds of layers describe (model/mixers).
#include <algorithm>

#include <fmt/core.h>

#include "model/mixers/attention/options.h"
#include "model/mixers/mla/mla.h"
#include "trainer/config/schema.h"

namespace ksa {
namespace {

// A codec whose values are one alternative of KeyValue; `none` is monostate.
template <typename T>
Codec<KeyValue> AsKeyValue(const Codec<T>& codec) {
  return {codec.type,
          [codec](const YamlNode& node, const Reporter& reporter, KeyValue& out) {
            T value{};
            if (!codec.read(node, reporter, value)) {
              return false;
            }
            out = std::move(value);
            return true;
          },
          [codec](const KeyValue& value) { return codec.write(std::get<T>(value)); }};
}

template <typename T>
Codec<KeyValue> OrNone(const Codec<T>& codec) {
  const Codec<std::optional<T>> optional = OptionalCodec(codec, "none");
  return {optional.type,
          [optional](const YamlNode& node, const Reporter& reporter, KeyValue& out) {
            std::optional<T> value;
            if (!optional.read(node, reporter, value)) {
              return false;
            }
            out = value ? KeyValue(std::move(*value)) : KeyValue();
            return true;
          },
          [optional](const KeyValue& value) {
            const T* held = std::get_if<T>(&value);
            return optional.write(held == nullptr ? std::nullopt : std::optional<T>(*held));
          }};
}

// Whole numbers in plain digits: 0, or in [least, most].
Codec<int64_t> ZeroOrIntegerCodec(int64_t least, int64_t most) {
  const Codec<int64_t> any = IntegerCodec<int64_t>(0, most);
  const std::string type = fmt::format("0 or integer from {} to {}", least, most);
  return {type,
          [any, type, least](const YamlNode& node, const Reporter& reporter, int64_t& out) {
            if (!any.read(node, reporter, out)) {
              return false;
            }
            return out == 0 || out >= least || reporter.Fail(node.place, fmt::format("must be {}, got {}", type, out));
          },
          any.write};
}

Codec<KeyValue> CodecOf(const KeyType& type) {
  const auto either = [&](const auto& codec) { return type.optional ? OrNone(codec) : AsKeyValue(codec); };
  switch (type.form) {
    case KeyType::Form::kInteger:
      return either(type.or_zero ? ZeroOrIntegerCodec(type.least, type.most)
                                 : IntegerCodec<int64_t>(type.least, type.most));
    case KeyType::Form::kTruth:
      return either(BoolCodec());
    case KeyType::Form::kName:
      break;
  }
  std::vector<std::pair<std::string, std::string>> names;
  for (const std::string& name : type.names) {
    names.emplace_back(name, name);
  }
  return either(EnumCodec<std::string>(names));
}

// "ksa, full, swa or sca"
std::string AnyKind() {
  std::vector<std::string> names = MixerKindNames();
  const std::string last = names.back();
  names.pop_back();
  return fmt::format("{} or {}", Joined(names), last);
}

bool ReadKind(const YamlNode& node, const Reporter& reporter, const MixerKind*& out) {
  const std::vector<std::string> names = MixerKindNames();
  if (!CheckScalar(node, reporter, "one of " + Joined(names))) {
    return false;
  }
  if (const MixerKind* kind = FindMixerKind(node.text); kind != nullptr) {
    out = kind;
    return true;
  }
  return FailName(node, reporter, names);
}

// Of all kinds, each once.
std::vector<std::string> FieldNames() {
  std::vector<std::string> names;
  for (const MixerKind* kind : MixerKinds()) {
    for (const EntryField& field : kind->EntryFields()) {
      if (std::find(names.begin(), names.end(), field.name) == names.end()) {
        names.push_back(field.name);
      }
    }
  }
  return names;
}

// A field of an entry whose kind is known.
bool ReadField(const YamlEntry& given, const Reporter& at, PatternEntry& out) {
  std::vector<std::string> names;
  for (const EntryField& field : out.kind->EntryFields()) {
    if (field.name == given.key) {
      KeyValue value;
      const bool good = CodecOf(field.type).read(given.value, at, value);
      if (good) {
        out.values[field.name] = std::move(value);
      }
      return good;
    }
    names.push_back(field.name);
  }
  return at.Fail(given.value.place,
                 fmt::format("a {} layer has no {}; {}",
                             out.kind->name(),
                             given.key,
                             names.empty() ? "remove it" : "it takes " + Joined(names)));
}

bool ReadEntryMapping(const YamlNode& node, const Reporter& reporter, PatternEntry& out) {
  bool has_kind = false;
  bool knows_kind = false;
  std::vector<ItemField> items = {{"kind", [&](const YamlNode& value, const Reporter& at) {
                                     has_kind = true;
                                     knows_kind = ReadKind(value, at, out.kind);
                                     return knows_kind;
                                   }}};
  const std::vector<std::string> names = FieldNames();
  for (const std::string& name : names) {  // read below, when the kind is known
    items.push_back({name, [](const YamlNode& /*value*/, const Reporter& /*at*/) { return true; }});
  }
  bool good = ReadItem(node, reporter, items);
  if (node.kind != YamlNode::Kind::kMapping) {
    return false;
  }
  if (!has_kind) {
    return reporter.Fail(node.place, "needs a kind: " + AnyKind());
  }
  for (const YamlEntry& given : node.entries) {
    if (knows_kind && std::find(names.begin(), names.end(), given.key) != names.end()) {
      good = ReadField(given, reporter.Field(given.key), out) && good;
    }
  }
  return good;
}

std::string WriteEntry(const PatternEntry& entry) {
  std::string fields;
  for (const EntryField& field : entry.kind->EntryFields()) {
    if (const auto found = entry.values.find(field.name); found != entry.values.end()) {
      fields += fmt::format(", {}: {}", field.name, CodecOf(field.type).write(found->second));
    }
  }
  return fields.empty() ? std::string(entry.kind->name()) : fmt::format("{{kind: {}{}}}", entry.kind->name(), fields);
}

Codec<std::vector<PatternEntry>> PatternCodec() {
  const Codec<PatternEntry> entry = {"layer kind",
                                     [](const YamlNode& node, const Reporter& reporter, PatternEntry& out) {
                                       return node.kind == YamlNode::Kind::kScalar
                                                  ? ReadKind(node, reporter, out.kind)
                                                  : ReadEntryMapping(node, reporter, out);
                                     },
                                     WriteEntry};
  const std::string names = Joined(MixerKindNames());
  Codec<std::vector<PatternEntry>> codec = ListCodec(entry, "list of layer kinds (" + names + ")");
  const auto any = codec.read;
  codec.read = [any, names](const YamlNode& node, const Reporter& reporter, std::vector<PatternEntry>& out) {
    if (node.kind == YamlNode::Kind::kSequence && node.items.empty()) {
      return reporter.Fail(node.place, "names no layer kind; list at least one of " + names);
    }
    return any(node, reporter, out);
  };
  return codec;
}

// "window_chunks (ksa, sca), window (swa)"
std::string FieldsOfKinds() {
  std::vector<std::string> texts;
  for (const std::string& name : FieldNames()) {
    std::vector<std::string> kinds;
    for (const MixerKind* kind : MixerKinds()) {
      const std::vector<EntryField> fields = kind->EntryFields();
      if (std::any_of(fields.begin(), fields.end(), [&](const EntryField& field) { return field.name == name; })) {
        kinds.emplace_back(kind->name());
      }
    }
    texts.push_back(fmt::format("{} ({})", name, Joined(kinds)));
  }
  return Joined(texts);
}

Key KeyOf(const MixerKey& mixer) {
  const Codec<KeyValue> codec = CodecOf(mixer.type);
  return {FullPath(mixer.path),
          codec.type,
          mixer.default_text,
          mixer.doc,
          ChangeClass::kRefused,
          [codec, mixer](const YamlNode& node, const Reporter& reporter, Draft& draft) {
            KeyValue value;
            if (!codec.read(node, reporter, value)) {
              return false;
            }
            mixer.set(draft.config.model, value);
            return true;
          },
          [codec, mixer](Draft& draft) { return codec.write(mixer.get(draft.config.model)); }};
}

}  // namespace

std::vector<Key> AttentionKeys() {
  std::vector<Key> keys = {MakeKey<std::vector<PatternEntry>>(
      "model.attention.pattern",
      PatternCodec(),
      "[ksa, ksa, ksa, full]",
      "kinds of the layers, repeated over the depth; an entry may be a mapping of its kind and " + FieldsOfKinds(),
      ChangeClass::kRefused,
      [](Draft& d) -> std::vector<PatternEntry>& { return d.pattern; })};
  for (const MixerKey& key : AttentionOptionKeys()) {
    keys.push_back(KeyOf(key));
  }
  keys.push_back(KeyOf(ProjectionKey()));
  for (const MixerKind* kind : MixerKinds()) {
    for (const MixerKey& key : kind->Keys()) {
      keys.push_back(KeyOf(key));
    }
  }
  return keys;
}

}  // namespace ksa
