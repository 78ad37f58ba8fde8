// Codec<T>: how a value of type T is written in YAML. `read` reports to a Reporter and returns false when the text is
// not such a value; `write` gives the text that reads back to the same value.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trainer/config/problems.h"
#include "trainer/config/yaml_tree.h"

namespace ksa {

// Reports about one key.
class Reporter {
 public:
  Reporter(Problems* problems, std::string path) : problems_(problems), path_(std::move(path)) {}

  // Always false, so that a reader can return it.
  bool Fail(const Place& place, const std::string& message) const {
    problems_->Add(place, path_, message);
    return false;
  }

  [[nodiscard]] Reporter Item(size_t index) const { return {problems_, path_ + "[" + std::to_string(index) + "]"}; }

  [[nodiscard]] Reporter Field(const std::string& name) const { return {problems_, Under(path_, name)}; }

 private:
  Problems* problems_;
  std::string path_;
};

template <typename T>
struct Codec {
  std::string type;  // for people: "integer >= 1", "wsd, cosine, constant"
  std::function<bool(const YamlNode&, const Reporter&, T&)> read;
  std::function<std::string(const T&)> write;
};

// The largest size, window or count: sums and products of two of them with small numbers stay in range.
constexpr int32_t kLargestSize = 1 << 30;

// The largest number of updates or tokens.
constexpr int64_t kMostUpdates = int64_t{1} << 60;

// Whole numbers in plain digits, in [least, most]. T: int32_t, int64_t, uint64_t.
template <typename T>
[[nodiscard]] Codec<T> IntegerCodec(T least = 1, T most = std::numeric_limits<T>::max());

// Numbers of [least, below) or, if `open`, of (least, below).
[[nodiscard]] Codec<double> NumberCodec(double least,
                                        bool open = false,
                                        double below = std::numeric_limits<double>::infinity());

[[nodiscard]] Codec<bool> BoolCodec();         // true, false
[[nodiscard]] Codec<std::string> TextCodec();  // any scalar but the empty one, without a zero byte
[[nodiscard]] Codec<std::string> PathCodec();  // a text that does not begin with ~, which only shells replace

// Fails unless the node is a scalar; `what` says what was expected.
[[nodiscard]] bool CheckScalar(const YamlNode& node, const Reporter& reporter, const std::string& what);

// Fails with the names that are there, and the nearest.
bool FailName(const YamlNode& node, const Reporter& reporter, const std::vector<std::string>& names);

// Distinct names for distinct values.
template <typename E>
[[nodiscard]] Codec<E> EnumCodec(std::vector<std::pair<std::string, E>> values) {
  std::vector<std::string> names;
  for (const auto& [name, value] : values) {
    names.push_back(name);
  }
  return {Joined(names),
          [values, names](const YamlNode& node, const Reporter& reporter, E& out) {
            if (!CheckScalar(node, reporter, "one of " + Joined(names))) {
              return false;
            }
            for (const auto& [name, value] : values) {
              if (name == node.text) {
                out = value;
                return true;
              }
            }
            return FailName(node, reporter, names);
          },
          [values](const E& value) {
            for (const auto& [name, candidate] : values) {
              if (candidate == value) {
                return name;
              }
            }
            return std::string();
          }};
}

// `word`, without quotes, stands for no value. An empty word: no value cannot be written.
template <typename T>
[[nodiscard]] Codec<std::optional<T>> OptionalCodec(const Codec<T>& codec, const std::string& word) {
  return {word.empty() ? codec.type : codec.type + " or " + word,
          [codec, word](const YamlNode& node, const Reporter& reporter, std::optional<T>& out) {
            if (!word.empty() && node.IsWord(word)) {
              out.reset();
              return true;
            }
            T value{};
            Problems unseen;
            if (codec.read(node, Reporter(&unseen, ""), value)) {
              out = std::move(value);
              return true;
            }
            // A wrong word may have been meant for `word`; whatever else is wrong the codec says best.
            const bool is_word = !word.empty() && node.kind == YamlNode::Kind::kScalar && node.plain &&
                                 (node.text[0] | 0x20) >= 'a' && (node.text[0] | 0x20) <= 'z';
            return is_word
                       ? reporter.Fail(node.place, "expected " + codec.type + " or " + word + ", got " + Describe(node))
                       : codec.read(node, reporter, value);
          },
          [codec, word](const std::optional<T>& value) { return value ? codec.write(*value) : word; }};
}

template <typename T>
[[nodiscard]] Codec<std::vector<T>> ListCodec(const Codec<T>& codec, const std::string& type) {
  return {type,
          [codec, type](const YamlNode& node, const Reporter& reporter, std::vector<T>& out) {
            if (node.kind == YamlNode::Kind::kInvalid) {
              return false;
            }
            if (node.kind != YamlNode::Kind::kSequence) {
              return reporter.Fail(node.place, "expected a " + type + ", got " + Describe(node));
            }
            std::vector<T> values(node.items.size());
            bool good = true;
            for (size_t i = 0; i < values.size(); ++i) {
              good = codec.read(node.items[i], reporter.Item(i), values[i]) && good;
            }
            out = std::move(values);
            return good;
          },
          [codec](const std::vector<T>& values) {
            std::vector<std::string> texts;
            for (const T& value : values) {
              texts.push_back(codec.write(value));
            }
            return "[" + Joined(texts) + "]";
          }};
}

// One key of a list item that is a mapping.
struct ItemField {
  std::string name;
  std::function<bool(const YamlNode&, const Reporter&)> read;
};

// Reads a mapping through its fields; an unknown key is reported with the nearest field.
bool ReadItem(const YamlNode& node, const Reporter& reporter, const std::vector<ItemField>& fields);

}  // namespace ksa
