#include "data/tokenizers/tiktoken_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr size_t kMostTokenBytes = 1024;  // all ways to cut a token in two are looked at

constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::array<const char*, 3> kQwen2Special = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};

// Vocabularies whose words or special tokens are others, by the number of their ranks.
struct OtherVocabulary {
  size_t ranks = 0;
  const char* name = "";
};

constexpr std::array<OtherVocabulary, 5> kOthers = {{{50256, "r50k_base (GPT-2)"},
                                                     {50280, "p50k_base"},
                                                     {100256, "cl100k_base"},
                                                     {199998, "o200k_base"},
                                                     {128000, "Llama 3"}}};

int Base64Value(char letter) {
  if (letter >= 'A' && letter <= 'Z') {
    return letter - 'A';
  }
  if (letter >= 'a' && letter <= 'z') {
    return letter - 'a' + 26;
  }
  if (letter >= '0' && letter <= '9') {
    return letter - '0' + 52;
  }
  return letter == '+' ? 62 : (letter == '/' ? 63 : -1);
}

// Nothing when the text is no base64 with its padding.
std::optional<std::string> FromBase64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) {
    return std::nullopt;
  }
  const size_t padding = text.ends_with("==") ? 2 : (text.ends_with("=") ? 1 : 0);
  std::string bytes;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size() - padding; ++i) {
    const int value = Base64Value(text[i]);
    if (value < 0) {
      return std::nullopt;
    }
    bits = bits << 6U | static_cast<uint32_t>(value);
    if (i % 4 != 0) {
      bytes.push_back(static_cast<char>(bits >> (6U - 2U * (i % 4))));
    }
  }
  return bytes;
}

struct Rank {
  std::string token;
  uint64_t rank = 0;
};

std::optional<Rank> ParseLine(std::string_view line) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) {
    return std::nullopt;
  }
  std::optional<std::string> token = FromBase64(line.substr(0, space));
  uint64_t rank = 0;
  const char* end = line.data() + line.size();
  const auto [stop, error] = std::from_chars(line.data() + space + 1, end, rank);
  if (!token.has_value() || error != std::errc() || stop != end) {
    return std::nullopt;
  }
  return Rank{std::move(*token), rank};
}

std::string_view LineAt(std::string_view text, size_t begin) {
  std::string_view line = text.substr(begin, text.find('\n', begin) - begin);
  if (line.ends_with('\r')) {
    line.remove_suffix(1);
  }
  return line;
}

void CheckVocabulary(size_t ranks, const std::string& path) {
  for (const OtherVocabulary& other : kOthers) {
    if (other.ranks == ranks) {
      Fail(ExitCode::kBadData,
           "{}: {} ranks are those of {}, whose words and special tokens a rank file does not tell and which are not "
           "known here; take its tokenizer.json",
           path,
           ranks,
           other.name);
    }
  }
}

std::vector<std::string> ReadTokens(std::string_view text, const std::string& path) {
  // No more than lines of the shortest kind; where there are more, one of them is refused.
  constexpr size_t kShortestLine = 7;  // "IQ== 0\n"
  const size_t lines =
      std::min(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')), text.size() / kShortestLine) +
      (text.ends_with('\n') ? 0 : 1);
  std::vector<std::string> tokens(lines);
  size_t number = 1;
  for (size_t begin = 0; begin < text.size(); ++number) {
    std::optional<Rank> rank = ParseLine(LineAt(text, begin));
    if (!rank.has_value() || rank->token.size() > kMostTokenBytes) {
      Fail(ExitCode::kBadData,
           "{}:{}: expected a token of at most {} bytes in base64, a space and its rank",
           path,
           number,
           kMostTokenBytes);
    }
    if (rank->rank >= lines || !tokens[rank->rank].empty()) {
      Fail(ExitCode::kBadData,
           "{}:{}: rank {} is {}; the {} ranks of a file are 0 to {}, each once",
           path,
           number,
           rank->rank,
           rank->rank >= lines ? "too large" : "there twice",
           lines,
           lines - 1);
    }
    tokens[rank->rank] = std::move(rank->token);
    begin = std::min(text.find('\n', begin), text.size() - 1) + 1;
  }
  return tokens;
}

// A merge for every way to cut a token into two others.
void AddMerges(const std::vector<std::string>& tokens,
               const std::unordered_map<std::string_view, int32_t>& ids,
               BpeModel& model) {
  model.Reserve(2 * tokens.size());
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    const std::string_view token = tokens[rank];
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut));
      const auto right = left == ids.end() ? left : ids.find(token.substr(cut));
      if (right != ids.end()) {
        const auto id = static_cast<int32_t>(rank);
        const bool added = model.Add({left->second, right->second, id, id});
        KSA_CHECK(added, "two tokens of the same bytes");
      }
    }
  }
}

}  // namespace

bool LooksLikeRanks(const std::string& contents) {
  return ParseLine(LineAt(std::string_view(contents).substr(0, 4 * kMostTokenBytes), 0)).has_value();
}

BpeParts ReadRanks(const std::string& contents, const std::string& path) {
  BpeParts parts;
  parts.tokens = ReadTokens(contents, path);
  CheckVocabulary(parts.tokens.size(), path);
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(parts.tokens.size());
  for (size_t rank = 0; rank < parts.tokens.size(); ++rank) {
    const auto [known, made] = ids.emplace(parts.tokens[rank], static_cast<int32_t>(rank));
    if (!made) {
      Fail(ExitCode::kBadData, "{}: ranks {} and {} are the same token", path, known->second, rank);
    }
  }
  std::array<int32_t, 256> byte_ids{};
  for (size_t byte = 0; byte < byte_ids.size(); ++byte) {
    const auto letter = static_cast<char>(byte);
    const auto found = ids.find(std::string_view(&letter, 1));
    if (found == ids.end()) {
      Fail(ExitCode::kBadData, "{}: has no token for the byte 0x{:02x}", path, byte);
    }
    byte_ids[byte] = found->second;
  }
  parts.model = BpeModel(byte_ids);
  AddMerges(parts.tokens, ids, parts.model);
  ids.clear();
  parts.is_word.assign(parts.tokens.size(), 1);
  parts.whole_words = true;
  parts.nfc = true;
  parts.splits.emplace_back(kQwen2Pattern, path);
  for (const char* special : kQwen2Special) {
    const auto id = static_cast<int32_t>(parts.tokens.size());
    parts.added.push_back({.id = id, .content = special, .special = true});
    parts.tokens.emplace_back(special);
    parts.is_word.push_back(0);
  }
  parts.eos_id = parts.added.front().id;
  return parts;
}

}  // namespace ksa
