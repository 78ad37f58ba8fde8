// The small part of YAML that configurations are written in, as a tree of values that know where they stand.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "trainer/config/problems.h"

namespace ksa {

struct YamlEntry;

struct YamlNode {
  enum class Kind : int {
    kScalar,
    kNull,      // no value at all
    kSequence,  // items
    kMapping,   // entries
    kInvalid,   // already reported; readers say nothing more about it
  };

  Kind kind = Kind::kNull;
  Place place;                     // of the value; of its key where there is no value
  std::string text;                // kScalar
  bool plain = true;               // kScalar: written without quotes
  std::vector<YamlNode> items;     // kSequence
  std::vector<YamlEntry> entries;  // kMapping: keys are distinct

  // The scalar is exactly this word, without quotes.
  [[nodiscard]] bool IsWord(std::string_view word) const { return kind == Kind::kScalar && plain && text == word; }
};

struct YamlEntry {
  std::string key;
  Place key_place;
  YamlNode value;
};

// Parses one document. Reports to `problems`, with paths that begin with `path`: bad syntax, text that is not UTF-8,
// more than one document, over-deep or over-large input, duplicate keys, keys that aren't plain text, merge keys,
// anchors, aliases and tags. The result is kInvalid if nothing can be said about the rest.
[[nodiscard]] YamlNode ParseYaml(std::string_view text, int source, const std::string& path, Problems& problems);

// What a node is, for messages: "a list", "a mapping", "'text'", "nothing".
[[nodiscard]] std::string Describe(const YamlNode& node);

// The node as one line of YAML (flow style) that parses back to it.
[[nodiscard]] std::string FlowText(const YamlNode& node);

// A string as a YAML scalar: quoted where it has to be.
[[nodiscard]] std::string ScalarText(std::string_view text);

// `path` with one more key.
[[nodiscard]] std::string Under(const std::string& path, const std::string& key);

}  // namespace ksa
