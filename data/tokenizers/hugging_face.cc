#include "data/tokenizers/hugging_face.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <unordered_map>
#include <unordered_set>

#include <nlohmann/json.hpp>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/tokenizers/byte_letters.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

using nlohmann::json;

constexpr size_t kMostTokenBytes = 4096;
constexpr size_t kMostAddedBytes = size_t{4} << 20U;  // of all added tokens: a tree of their prefixes is kept
constexpr size_t kMostSplits = 32;
constexpr const char* kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class Reader {
 public:
  Reader(const std::string& path, BpeParts& parts) : path_(path), parts_(parts) {}

  void Read(const json& file) {
    CheckKeys(file,
              "the file",
              {"version",
               "truncation",
               "padding",
               "added_tokens",
               "normalizer",
               "pre_tokenizer",
               "post_processor",
               "decoder",
               "model"});
    Vocabulary(Member(file, "model", "the file"));
    Merges(Member(file["model"], "merges", "model"));
    if (file.contains("added_tokens")) {
      Added(file["added_tokens"]);
    }
    Normalizer(file.value("normalizer", json()));
    PreTokenizer(Member(file, "pre_tokenizer", "the file"));
    if (!byte_level_) {
      Refuse("pre_tokenizer: has no ByteLevel; only byte-level tokenizers are known here");
    }
    Decoder(Member(file, "decoder", "the file"));
  }

 private:
  template <typename... Values>
  [[noreturn]] void Refuse(fmt::format_string<Values...> format, Values&&... values) const {
    Fail(ExitCode::kBadData, "{}: {}", path_, fmt::format(format, std::forward<Values>(values)...));
  }

  // What is unknown might change the ids.
  void CheckKeys(const json& object, const std::string& where, std::initializer_list<const char*> known) const {
    if (!object.is_object()) {
      Refuse("{}: is {}, not an object", where, object.type_name());
    }
    for (auto item = object.begin(); item != object.end(); ++item) {
      if (std::find(known.begin(), known.end(), item.key()) == known.end()) {
        Refuse("{}: the key '{:.100}' is not known here, and may change the tokens", where, item.key());
      }
    }
  }

  const json& Member(const json& object, const char* key, const std::string& where) const {
    const auto found = object.find(key);
    if (!object.is_object() || found == object.end()) {
      Refuse("{}: the key '{}' is missing", where, key);
    }
    return *found;
  }

  bool Flag(const json& object, const char* key, const std::string& where) const {
    const json& value = Member(object, key, where);
    if (!value.is_boolean()) {
      Refuse("{}: '{}' is {}, not true or false", where, key, value.type_name());
    }
    return value.get<bool>();
  }

  bool FlagOr(const json& object, const char* key, const std::string& where, bool missing) const {
    return object.contains(key) ? Flag(object, key, where) : missing;
  }

  const std::string& Text(const json& value, const std::string& where) const {
    if (!value.is_string()) {
      Refuse("{}: is {}, not a text", where, value.type_name());
    }
    return value.get_ref<const std::string&>();
  }

  std::string TypeOf(const json& object, const std::string& where) const {
    if (!object.is_object()) {
      Refuse("{}: is {}, not an object", where, object.type_name());
    }
    return Text(Member(object, "type", where), where + ".type");
  }

  // An id below `end`, which bounds what is allocated by what the file lists.
  int32_t Id(const json& value, const std::string& where, size_t end) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() >= end) {
      Refuse("{}: the id is {:.40}; without holes ids are 0 to {}", where, value.dump(), end - 1);
    }
    return value.get<int32_t>();
  }

  void CheckModel(const json& model) const {
    CheckKeys(model,
              "model",
              {"type",
               "dropout",
               "unk_token",
               "continuing_subword_prefix",
               "end_of_word_suffix",
               "fuse_unk",
               "byte_fallback",
               "ignore_merges",
               "vocab",
               "merges"});
    // Old files leave the type out.
    if (model.contains("type") && TypeOf(model, "model") != "BPE") {
      Refuse("model.type: '{:.100}'; only byte-level BPE is known here", TypeOf(model, "model"));
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const json value = model.value(key, json());
      if (!value.is_null() && !(value.is_string() && value.get_ref<const std::string&>().empty())) {
        Refuse("model.{}: {:.100}; byte-level BPE has none", key, value.dump());
      }
    }
    const json dropout = model.value("dropout", json());
    if (!dropout.is_null() && !(dropout.is_number() && dropout.get<double>() == 0)) {
      Refuse("model.dropout: {:.100}; merges that are left out by chance are not supported", dropout.dump());
    }
    if (FlagOr(model, "byte_fallback", "model", false)) {
      Refuse("model.byte_fallback: true; byte-level BPE has none");
    }
  }

  void Vocabulary(const json& model) {
    CheckModel(model);
    parts_.whole_words = FlagOr(model, "ignore_merges", "model", false);
    const json& vocab = Member(model, "vocab", "model");
    if (!vocab.is_object() || vocab.size() >= INT32_MAX) {
      Refuse("model.vocab: is {}, not an object of ids", vocab.type_name());
    }
    parts_.tokens.resize(vocab.size());
    parts_.spellings.resize(vocab.size());
    parts_.is_word.resize(vocab.size());
    std::vector<char> seen(vocab.size());
    ids_.reserve(vocab.size());
    for (auto item = vocab.begin(); item != vocab.end(); ++item) {
      const std::string where = fmt::format("model.vocab: '{:.100}'", item.key());
      const int32_t id = Id(item.value(), where, vocab.size());
      const auto at = static_cast<size_t>(id);
      if (seen[at] != 0) {
        Refuse("{}: the id {} has another token, '{:.100}'", where, id, parts_.spellings[at]);
      }
      seen[at] = 1;
      const std::optional<std::string> bytes = BytesOfLetters(item.key());
      parts_.tokens[at] = bytes.value_or(item.key());
      parts_.is_word[at] = bytes.has_value() ? 1 : 0;
      parts_.spellings[at] = item.key();
      ids_.emplace(item.key(), id);
    }
    std::array<int32_t, 256> byte_ids{};
    for (size_t byte = 0; byte < byte_ids.size(); ++byte) {
      const std::string letter = LetterOfByte(static_cast<uint8_t>(byte));
      const auto found = ids_.find(letter);
      if (found == ids_.end()) {
        Refuse("model.vocab: has no token for the byte 0x{:02x}, '{}'; is it byte-level BPE?", byte, letter);
      }
      byte_ids[byte] = found->second;
    }
    parts_.model = BpeModel(byte_ids);
  }

  int32_t MergedId(const std::string& spelling, size_t number) const {
    const auto found = ids_.find(spelling);
    if (found == ids_.end()) {
      Refuse("model.merges: number {} names the token '{:.100}', which is not in the vocabulary", number, spelling);
    }
    return found->second;
  }

  void Merges(const json& merges) {
    if (!merges.is_array() || merges.size() >= INT32_MAX) {
      Refuse("model.merges: is {}, not a list", merges.type_name());
    }
    parts_.model.Reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) {
      const auto [left, right] = Pair(merges[i], i);
      const BpeMerge merge = {
          MergedId(left, i), MergedId(right, i), MergedId(left + right, i), static_cast<int32_t>(i)};
      if (!parts_.model.Add(merge)) {
        Refuse("model.merges: number {} merges '{:.100}' and '{:.100}' again", i, left, right);
      }
    }
  }

  // A merge is a text with one space, or a pair of texts.
  std::pair<std::string, std::string> Pair(const json& merge, size_t number) const {
    const std::string where = fmt::format("model.merges: number {}", number);
    if (merge.is_array() && merge.size() == 2) {
      return {Text(merge[0], where), Text(merge[1], where)};
    }
    const std::string& both = Text(merge, where);
    const size_t space = both.find(' ');
    if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) {
      Refuse("{}: '{:.100}' is no pair of tokens", where, both);
    }
    return {both.substr(0, space), both.substr(space + 1)};
  }

  void Added(const json& list) {
    if (!list.is_array()) {
      Refuse("added_tokens: is {}, not a list", list.type_name());
    }
    size_t bytes = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      AddedToken token = AddedAt(list[i], i);
      bytes += token.content.size();
      if (token.content.empty() || token.content.size() > kMostTokenBytes || bytes > kMostAddedBytes) {
        Refuse("added_tokens: number {}: a token of {} bytes; 1 to {} are possible, and {} for all of them",
               i,
               token.content.size(),
               kMostTokenBytes,
               kMostAddedBytes);
      }
      parts_.added.push_back(std::move(token));
    }
    CheckStrips();
  }

  AddedToken AddedAt(const json& entry, size_t number) {
    const std::string where = fmt::format("added_tokens: number {}", number);
    CheckKeys(entry, where, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    AddedToken token;
    token.content = Text(Member(entry, "content", where), where);
    token.single_word = Flag(entry, "single_word", where);
    token.lstrip = Flag(entry, "lstrip", where);
    token.rstrip = Flag(entry, "rstrip", where);
    token.normalized = Flag(entry, "normalized", where);
    token.special = Flag(entry, "special", where);
    const std::string named = fmt::format("added_tokens: '{:.100}'", token.content);
    if (!added_contents_.insert(token.content).second) {
      Refuse("{}: is there twice", named);
    }
    token.id = Id(Member(entry, "id", where), named, parts_.tokens.size() + 1);
    const auto known = ids_.find(token.content);
    const auto expected = known != ids_.end() ? known->second : static_cast<int32_t>(parts_.tokens.size());
    if (token.id != expected) {
      Refuse("{}: has the id {}, where the vocabulary and the tokens before it give {}", named, token.id, expected);
    }
    if (known == ids_.end()) {
      parts_.tokens.push_back(token.content);
      parts_.spellings.push_back(token.content);
      parts_.is_word.push_back(0);
    }
    return token;
  }

  // Which of two tokens has the white space between them is not settled.
  void CheckStrips() const {
    const auto strips = [](const AddedToken& token) { return token.rstrip; };
    const auto blank = [](const AddedToken& token) { return token.content.find_first_of(" \t\n\v\f\r") == 0; };
    if (std::any_of(parts_.added.begin(), parts_.added.end(), strips) &&
        std::any_of(parts_.added.begin(), parts_.added.end(), blank)) {
      Refuse("added_tokens: one with rstrip beside one that begins with white space is not supported");
    }
  }

  void Normalizer(const json& normalizer) {
    if (normalizer.is_null()) {
      return;
    }
    const std::string type = TypeOf(normalizer, "normalizer");
    if (type == "Sequence") {
      for (const json& one : List(normalizer, "normalizers", "normalizer")) {
        Normalizer(one);
      }
    } else if (type == "NFC") {
      CheckKeys(normalizer, "normalizer", {"type"});
      parts_.nfc = true;
    } else {
      Refuse("normalizer: '{:.100}' is not known here; NFC is, and none", type);
    }
  }

  const json& List(const json& sequence, const char* key, const std::string& where) const {
    CheckKeys(sequence, where, {"type", key});
    const json& list = Member(sequence, key, where);
    if (!list.is_array()) {
      Refuse("{}.{}: is {}, not a list", where, key, list.type_name());
    }
    return list;
  }

  void PreTokenizer(const json& one) {
    const std::string type = one.is_null() ? "null" : TypeOf(one, "pre_tokenizer");
    if (type == "Sequence") {
      for (const json& inner : List(one, "pretokenizers", "pre_tokenizer")) {
        PreTokenizer(inner);
      }
      return;
    }
    if (byte_level_) {
      Refuse("pre_tokenizer: '{:.100}' behind ByteLevel is not supported", type);
    }
    if (type == "Split") {
      Split(one);
    } else if (type == "Digits") {
      CheckKeys(one, "pre_tokenizer.Digits", {"type", "individual_digits"});
      AddSplit(Flag(one, "individual_digits", "pre_tokenizer.Digits") ? "\\p{N}" : "\\p{N}+", "pre_tokenizer.Digits");
    } else if (type == "ByteLevel") {
      ByteLevel(one);
    } else {
      Refuse("pre_tokenizer: '{:.100}' is not known here; Split, Digits, ByteLevel and a Sequence of them are", type);
    }
  }

  void Split(const json& split) {
    const std::string where = "pre_tokenizer.Split";
    CheckKeys(split, where, {"type", "pattern", "behavior", "invert"});
    const std::string& behavior = Text(Member(split, "behavior", where), where + ".behavior");
    if (behavior != "Isolated" || FlagOr(split, "invert", where, false)) {
      Refuse("{}: behavior '{:.100}', invert {}; only 'Isolated' without invert is supported",
             where,
             behavior,
             FlagOr(split, "invert", where, false));
    }
    const json& pattern = Member(split, "pattern", where);
    CheckKeys(pattern, where + ".pattern", {"Regex", "String"});
    if (pattern.size() != 1 || !pattern.contains("Regex")) {
      Refuse("{}.pattern: only one 'Regex' is supported", where);
    }
    AddSplit(Text(pattern["Regex"], where + ".pattern.Regex"), where);
  }

  void ByteLevel(const json& level) {
    const std::string where = "pre_tokenizer.ByteLevel";
    CheckKeys(level, where, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    byte_level_ = true;
    parts_.add_prefix_space = Flag(level, "add_prefix_space", where);
    if (parts_.add_prefix_space && !parts_.splits.empty()) {
      Refuse("{}: add_prefix_space behind another pre-tokenizer is not supported", where);
    }
    if (FlagOr(level, "use_regex", where, true)) {
      AddSplit(kByteLevelPattern, where);
    }
  }

  void AddSplit(std::string_view pattern, const std::string& where) {
    if (parts_.splits.size() == kMostSplits) {
      Refuse("pre_tokenizer: more than {} regular expressions", kMostSplits);
    }
    parts_.splits.emplace_back(pattern, fmt::format("{}: {}", path_, where));
  }

  void Decoder(const json& decoder) {
    const std::string type = decoder.is_null() ? "null" : TypeOf(decoder, "decoder");
    if (type == "Sequence" && List(decoder, "decoders", "decoder").size() == 1) {
      return Decoder(decoder["decoders"][0]);
    }
    if (type != "ByteLevel") {
      Refuse("decoder: '{:.100}' is not known here; a byte-level tokenizer has ByteLevel", type);
    }
  }

  const std::string& path_;
  BpeParts& parts_;
  std::unordered_map<std::string, int32_t> ids_;  // of spellings in the model's vocabulary
  std::unordered_set<std::string> added_contents_;
  bool byte_level_ = false;
};

std::optional<std::string> EosBeside(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string beside = (slash == std::string::npos ? "" : path.substr(0, slash + 1)) + "tokenizer_config.json";
  if (!IsFile(beside)) {
    return std::nullopt;
  }
  const json config = ParseJson(ReadSmallFile(beside), beside);
  const json eos = config.is_object() ? config.value("eos_token", json()) : json();
  const json content = eos.is_object() ? eos.value("content", json()) : eos;
  return content.is_string() ? std::optional(content.get<std::string>()) : std::nullopt;
}

}  // namespace

BpeParts ReadHuggingFace(const json& file, const std::string& path) {
  BpeParts parts;
  Reader(path, parts).Read(file);
  return parts;
}

int32_t FindToken(const BpeParts& parts, const std::string& spelling) {
  const auto found = std::find(parts.spellings.begin(), parts.spellings.end(), spelling);
  return found == parts.spellings.end() ? -1 : static_cast<int32_t>(found - parts.spellings.begin());
}

std::optional<std::string> ChooseEos(BpeParts& parts, const std::string& path) {
  for (const char* usual : {"<|endoftext|>", "<|end_of_text|>"}) {
    for (const AddedToken& token : parts.added) {
      if (token.content == usual) {
        parts.eos_id = token.id;
        return std::nullopt;
      }
    }
  }
  const std::optional<std::string> beside = EosBeside(path);
  parts.eos_id = beside.has_value() ? FindToken(parts, *beside) : -1;
  if (parts.eos_id < 0) {
    Fail(ExitCode::kBadData,
         "{}: which token ends a document is not known: the file adds neither <|endoftext|> nor <|end_of_text|>, and "
         "{}; write {{\"eos_token\": \"...\"}} into tokenizer_config.json beside it",
         path,
         beside.has_value() ? fmt::format("the eos_token '{:.100}' of tokenizer_config.json is not in it", *beside)
                            : "no tokenizer_config.json beside it names an eos_token");
  }
  return beside;
}

}  // namespace ksa
