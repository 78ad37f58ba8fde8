// The configuration of a kind of layer, described without YAML: trainer/config makes reading, checking, printing, the
// resolved file and the comparison on a resume of it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace ksa {

struct ModelConfig;

// monostate: none.
using KeyValue = std::variant<std::monostate, bool, int64_t, std::string>;

// What a key may hold.
struct KeyType {
  enum class Form : int { kInteger, kTruth, kName };

  Form form = Form::kInteger;
  int64_t least = 0;               // integers
  int64_t most = INT64_MAX;        // integers
  std::vector<std::string> names;  // names
  bool optional = false;           // `none` is a value
  bool or_zero = false;            // integers: so is 0, which is less than `least`

  // No most: the largest size, window or count that a configuration takes, with which sums and products stay in range.
  [[nodiscard]] static KeyType Integer(int64_t least, int64_t most = int64_t{1} << 30) {
    return {.form = Form::kInteger, .least = least, .most = most};
  }

  [[nodiscard]] static KeyType Truth() { return {.form = Form::kTruth}; }

  [[nodiscard]] static KeyType Name(std::vector<std::string> names) {
    return {.form = Form::kName, .names = std::move(names)};
  }

  [[nodiscard]] KeyType OrZero() const {
    KeyType type = *this;
    type.or_zero = true;
    return type;
  }

  [[nodiscard]] KeyType OrNone() const {
    KeyType type = *this;
    type.optional = true;
    return type;
  }
};

// A key of `model.attention`.
struct MixerKey {
  std::string path;  // below model.attention: "ksa.chunk_size"
  KeyType type;
  std::string default_text;  // YAML of the default
  std::string doc;           // one line
  std::function<KeyValue(const ModelConfig&)> get;
  std::function<void(ModelConfig&, const KeyValue&)> set;
};

// "model.attention." and the path.
[[nodiscard]] std::string FullPath(const std::string& path);

// The key of a value that lies at `at(config)`: an int32_t, a bool, or an optional int32_t. `at` is a generic function
// of a ModelConfig, const or not.
template <typename At>
[[nodiscard]] MixerKey KeyAt(
    const std::string& path, const KeyType& type, const std::string& default_text, const std::string& doc, At at) {
  return {path,
          type,
          default_text,
          doc,
          [at](const ModelConfig& config) -> KeyValue {
            const auto& value = at(config);
            using T = std::decay_t<decltype(value)>;
            if constexpr (std::is_same_v<T, bool>) {
              return value;
            } else if constexpr (std::is_same_v<T, int32_t>) {
              return int64_t{value};
            } else {
              return value ? KeyValue(int64_t{*value}) : KeyValue();
            }
          },
          [at](ModelConfig& config, const KeyValue& given) {
            auto& value = at(config);
            using T = std::decay_t<decltype(value)>;
            if constexpr (std::is_same_v<T, bool>) {
              value = std::get<bool>(given);
            } else if constexpr (std::is_same_v<T, int32_t>) {
              value = static_cast<int32_t>(std::get<int64_t>(given));
            } else {
              const auto* number = std::get_if<int64_t>(&given);
              value = number == nullptr ? T() : T(static_cast<typename T::value_type>(*number));
            }
          }};
}

// The key of an enumeration whose values, from 0 on, have these names.
template <typename At>
[[nodiscard]] MixerKey NameKeyAt(const std::string& path,
                                 const std::vector<std::string>& names,
                                 const std::string& default_text,
                                 const std::string& doc,
                                 At at) {
  return {path,
          KeyType::Name(names),
          default_text,
          doc,
          [at, names](const ModelConfig& config) -> KeyValue { return names.at(static_cast<size_t>(at(config))); },
          [at, names](ModelConfig& config, const KeyValue& given) {
            auto& value = at(config);
            for (size_t i = 0; i < names.size(); ++i) {
              if (names[i] == std::get<std::string>(given)) {
                value = static_cast<std::decay_t<decltype(value)>>(i);
              }
            }
          }};
}

// What an entry of model.attention.pattern may say besides its kind. Kinds that share a name share its meaning.
struct EntryField {
  std::string name;
  KeyType type;
};

using EntryValues = std::map<std::string, KeyValue>;

// The number that an entry gives, if it does.
[[nodiscard]] std::optional<int32_t> NumberOf(const EntryValues& entry, const std::string& name);

// A rule that is broken.
struct MixerProblem {
  std::vector<std::string> keys;    // whole paths; reported about the first, at the first one that was given
  std::vector<std::string> judged;  // the keys that it was judged by: void when one of them was refused
  std::string message;              // what is wrong, and what to do
};

// A configuration that is being checked. Values that were refused, or not given, stand at their defaults.
struct MixerDraft {
  struct Used {
    std::string kind;
    EntryValues values;
  };

  const ModelConfig& model;     // its layers are not made yet
  int64_t sequence_length = 0;  // 0: not known
  std::vector<Used> used;       // entries of the pattern that some layer takes

  // The problem that layers of `kind` need the key `path` and it is not given (`there`), neither as a key nor, where
  // it has a name there, in each of their entries.
  [[nodiscard]] std::vector<MixerProblem> RequiredFor(std::string_view kind,
                                                      const std::string& path,
                                                      bool there,
                                                      const std::string& in_entry = {}) const;
};

}  // namespace ksa
