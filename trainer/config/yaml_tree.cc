#include "trainer/config/yaml_tree.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <sstream>
#include <utility>

#include <fmt/core.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

namespace ksa {
namespace {

constexpr size_t kDeepest = 32;
constexpr int kMostNodes = 20000;

// Thrown out of the parser when reading on is pointless; the reason is already reported.
struct GiveUp {};

// Builds the tree from the parser's events. Aliases never become a part of it, so it is a tree and it is finite.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(int source, const std::string& path, Problems* problems)
      : source_(source), path_(path), problems_(problems) {
    root_.place.source = source;
  }

  [[nodiscard]] YamlNode TakeRoot() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) {
      Report(At(mark), "a second document begins here; a configuration is one document");
      throw GiveUp{};
    }
  }

  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Append(Node(YamlNode::Kind::kNull, mark, "", anchor));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override {
    Report(At(mark), "aliases ('*name') are not supported; write the value out");
    Append(Node(YamlNode::Kind::kInvalid, mark, "", 0));
  }

  void OnScalar(const YAML::Mark& mark,
                const std::string& tag,
                YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = Node(YamlNode::Kind::kScalar, mark, tag, anchor);
    node.text = value;
    node.plain = tag != "!";
    Append(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark,
                       const std::string& tag,
                       YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    Open(Node(YamlNode::Kind::kSequence, mark, tag, anchor));
  }

  void OnSequenceEnd() override {
    Frame frame = Pop();
    frame.node.items = std::move(frame.children);
    Append(std::move(frame.node));
  }

  void OnMapStart(const YAML::Mark& mark,
                  const std::string& tag,
                  YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    Open(Node(YamlNode::Kind::kMapping, mark, tag, anchor));
  }

  void OnMapEnd() override {
    Frame frame = Pop();
    for (size_t i = 0; i + 1 < frame.children.size(); i += 2) {
      AddEntry(frame.node, frame.children[i], frame.children[i + 1]);
    }
    Append(std::move(frame.node));
  }

 private:
  struct Frame {
    YamlNode node;
    std::vector<YamlNode> children;  // of a mapping: key, value, key, value, ...
  };

  [[nodiscard]] Place At(const YAML::Mark& mark) const { return {source_, mark.line + 1, mark.column + 1}; }

  // The path of the value that comes next.
  [[nodiscard]] std::string Path() const {
    std::string path = path_;
    for (const Frame& frame : stack_) {
      const size_t count = frame.children.size();
      if (frame.node.kind == YamlNode::Kind::kSequence) {
        path += fmt::format("[{}]", count);
      } else if (count % 2 == 1) {
        path = Under(path, frame.children.back().text);
      }
    }
    return path.empty() ? "document" : path;
  }

  void Report(const Place& place, const std::string& message) { problems_->Add(place, Path(), message); }

  YamlNode Node(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    YamlNode node;
    node.kind = kind;
    node.place = At(mark);
    if (++nodes_ > kMostNodes || stack_.size() >= kDeepest) {
      Report(node.place,
             nodes_ > kMostNodes ? fmt::format("more than {} values; a configuration is small", kMostNodes)
                                 : fmt::format("nested deeper than {} levels", kDeepest));
      throw GiveUp{};
    }
    if (anchor != 0) {
      Report(node.place, "anchors ('&name') are not supported; remove the anchor");
    }
    if (!tag.empty() && tag != "?" && tag != "!") {
      Report(node.place, fmt::format("tags ({}) are not supported; remove the tag", Quoted(tag)));
      node.kind = YamlNode::Kind::kInvalid;
    }
    return node;
  }

  void Open(YamlNode node) { stack_.push_back({std::move(node), {}}); }

  Frame Pop() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    return frame;
  }

  void Append(YamlNode node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& frame = stack_.back();
    if (node.kind == YamlNode::Kind::kNull && frame.children.size() % 2 == 1 &&
        frame.node.kind != YamlNode::Kind::kSequence) {
      node.place = frame.children.back().place;  // the parser puts it where the next key is
    }
    frame.children.push_back(std::move(node));
  }

  // The mapping's own path is Path() now, as its frame is gone.
  void AddEntry(YamlNode& mapping, YamlNode& key, YamlNode& value) {
    const std::string parent = stack_.empty() && path_.empty() ? "" : Path();
    if (key.kind == YamlNode::Kind::kInvalid) {
      return;
    }
    if (key.kind != YamlNode::Kind::kScalar) {
      Report(key.place, fmt::format("a key must be a name, not {}", Describe(key)));
      return;
    }
    const std::string path = Under(parent, key.text);
    if (key.text == "<<") {
      problems_->Add(key.place, path, "merge keys are not supported; write the keys out, or use 'include'");
      return;
    }
    const auto first = std::find_if(
        mapping.entries.begin(), mapping.entries.end(), [&](const YamlEntry& entry) { return entry.key == key.text; });
    if (first != mapping.entries.end()) {
      problems_->Add(key.place,
                     path,
                     fmt::format("duplicate key, first given on line {}; keep one of the two", first->key_place.line));
      return;
    }
    mapping.entries.push_back({key.text, key.place, std::move(value)});
  }

  int source_;
  std::string path_;
  Problems* problems_;
  std::vector<Frame> stack_;
  YamlNode root_;
  int nodes_ = 0;
  int documents_ = 0;
};

// Length of the UTF-8 character at `at`, 0 if there is none. Control characters other than tab and line ends don't
// count.
size_t CharacterLength(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> uint32_t { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const uint32_t first = byte(at);
  if (first < 0x80) {
    return (first >= 0x20 && first != 0x7f) || first == '\t' || first == '\n' || first == '\r' ? 1 : 0;
  }
  const size_t length = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (first < 0xc2 || length == 0) {
    return 0;
  }
  uint32_t code = first & (0xffU >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0U) != 0x80U) {
      return 0;
    }
    code = code << 6U | (byte(at + i) & 0x3fU);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  return overlong || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff ? 0 : length;
}

bool IsText(std::string_view text, int source, const std::string& path, Problems& problems) {
  Place place{source, 1, 1};
  for (size_t at = 0; at < text.size();) {
    const size_t length = CharacterLength(text, at);
    if (length == 0) {
      problems.Add(place,
                   path.empty() ? "document" : path,
                   fmt::format("byte 0x{:02x} is not part of UTF-8 text; is this a configuration?",
                               static_cast<unsigned char>(text[at])));
      return false;
    }
    place.line += text[at] == '\n' ? 1 : 0;
    place.column = text[at] == '\n' ? 1 : place.column + 1;
    at += length;
  }
  return true;
}

// Whether a string may stand in flow style without quotes and mean itself.
bool PlainIsSafe(std::string_view text) {
  const auto safe = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '/' || c == '-' || c == '+';
  };
  const std::vector<std::string_view> words = {"null", "Null", "NULL", "none"};
  return !text.empty() && std::all_of(text.begin(), text.end(), safe) && !text.starts_with('-') &&
         std::find(words.begin(), words.end(), text) == words.end();
}

std::string InQuotes(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

YamlNode ParseYaml(std::string_view text, int source, const std::string& path, Problems& problems) {
  YamlNode invalid;
  invalid.kind = YamlNode::Kind::kInvalid;
  invalid.place.source = source;
  if (!IsText(text, source, path, problems)) {
    return invalid;
  }
  std::istringstream stream{std::string(text)};
  TreeBuilder builder(source, path, &problems);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const GiveUp&) {
    return invalid;
  } catch (const YAML::Exception& error) {
    const Place place{source, std::max(error.mark.line, 0) + 1, std::max(error.mark.column, 0) + 1};
    problems.Add(place, path.empty() ? "document" : path, fmt::format("not valid YAML: {}", error.msg));
    return invalid;
  }
  return builder.TakeRoot();
}

std::string Describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kScalar:
      return node.plain ? Quoted(node.text) : "the quoted text " + Quoted(node.text);
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMapping:
      return "a mapping";
    default:
      return "nothing";
  }
}

std::string ScalarText(std::string_view text) {
  return PlainIsSafe(text) ? std::string(text) : InQuotes(text);
}

std::string FlowText(const YamlNode& node) {
  std::vector<std::string> parts;
  switch (node.kind) {
    case YamlNode::Kind::kScalar:
      return node.plain && node.text.find_first_of(",[]{}#:&*!|>'\"%@`\n") == std::string::npos ? node.text
                                                                                                : InQuotes(node.text);
    case YamlNode::Kind::kSequence:
      for (const YamlNode& item : node.items) {
        parts.push_back(FlowText(item));
      }
      return "[" + Joined(parts) + "]";
    case YamlNode::Kind::kMapping:
      for (const YamlEntry& entry : node.entries) {
        parts.push_back(ScalarText(entry.key) + ": " + FlowText(entry.value));
      }
      return "{" + Joined(parts) + "}";
    default:
      return "null";
  }
}

std::string Under(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

}  // namespace ksa
