#include "data/tokenizers/added_tokens.h"

#include <algorithm>

#include "data/tools/utf8.h"

namespace ksa {
namespace {

// What a word is made of.
constexpr const char* kWordBegin = R"(\A[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])";
constexpr const char* kWordEnd = R"(\A[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]\z)";

constexpr std::string_view kWide[] = {"\xC2\x85",
                                      "\xC2\xA0",
                                      "\xE1\x9A\x80",
                                      "\xE2\x80\xA8",
                                      "\xE2\x80\xA9",
                                      "\xE2\x80\xAF",
                                      "\xE2\x81\x9F",
                                      "\xE3\x80\x80"};

// Bytes of the character of white space that begins the text; 0: another does.
size_t SpaceAtBegin(std::string_view text) {
  if (text.empty()) {
    return 0;
  }
  if (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r')) {
    return 1;
  }
  for (const std::string_view wide : kWide) {
    if (text.starts_with(wide)) {
      return wide.size();
    }
  }
  const bool quad = text.starts_with("\xE2\x80") && text.size() > 2 && static_cast<unsigned char>(text[2]) <= 0x8A;
  return quad ? 3 : 0;  // U+2000 … U+200A
}

size_t SpacesAtBegin(std::string_view text) {
  size_t bytes = 0;
  for (size_t more = SpaceAtBegin(text); more > 0; more = SpaceAtBegin(text.substr(bytes))) {
    bytes += more;
  }
  return bytes;
}

// Begin of the character that ends at `end`.
size_t LastCharacter(std::string_view text, size_t end) {
  return Utf8BoundaryBefore(text, end - 1);
}

size_t BeginOfSpacesBefore(std::string_view text, size_t at, size_t least) {
  while (at > least) {
    const size_t begin = LastCharacter(text, at);
    if (SpaceAtBegin(text.substr(begin, at - begin)) == 0) {
      break;
    }
    at = begin;
  }
  return at;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, bool special)
    : tokens_(std::move(tokens)),
      special_(special),
      word_begin_(SplitRegex::FromPcre(kWordBegin, "words")),
      word_end_(SplitRegex::FromPcre(kWordEnd, "words")) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    begins_[static_cast<unsigned char>(token.content.front())] = true;
    never_ = never_ && token.special && !special_;
    int32_t node = 0;
    for (const char letter : token.content) {
      const uint64_t key = static_cast<uint64_t>(node) << 8U | static_cast<unsigned char>(letter);
      const auto [child, made] = children_.try_emplace(key, static_cast<int32_t>(token_at_.size()));
      if (made) {
        token_at_.push_back(kNothing);
      }
      node = child->second;
    }
    token_at_[static_cast<size_t>(node)] = static_cast<int32_t>(i);
  }
}

int32_t AddedTokens::LongestAt(std::string_view text, size_t at) const {
  int32_t longest = kNothing;
  int32_t node = 0;
  for (; at < text.size(); ++at) {
    const auto child = children_.find(static_cast<uint64_t>(node) << 8U | static_cast<unsigned char>(text[at]));
    if (child == children_.end()) {
      break;
    }
    node = child->second;
    const int32_t token = token_at_[static_cast<size_t>(node)];
    longest = token == kNothing ? longest : token;
  }
  return longest;
}

bool AddedTokens::Allowed(const AddedToken& token, std::string_view text, size_t at, RegexState& state) const {
  if (token.special && !special_) {
    return false;
  }
  if (!token.single_word) {
    return true;
  }
  size_t begin = 0;
  size_t end = 0;
  if (at > 0) {
    const size_t last = LastCharacter(text, at);
    if (word_end_.Find(text.substr(last, at - last), 0, state, begin, end)) {
      return false;
    }
  }
  return !word_begin_.Find(text.substr(at + token.content.size()), 0, state, begin, end);
}

void AddedTokens::Split(std::string_view text, RegexState& state, std::vector<AddedPart>& parts) const {
  size_t done = 0;
  size_t at = 0;
  while (!never_ && at < text.size()) {
    if (!begins_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const int32_t found = LongestAt(text, at);
    if (found == kNothing) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(found)];
    const size_t begin = at;
    at += token.content.size();
    if (!Allowed(token, text, begin, state)) {
      continue;
    }
    const size_t from = token.lstrip ? BeginOfSpacesBefore(text, begin, done) : begin;
    if (done < from) {
      parts.push_back({-1, text.substr(done, from - done)});
    }
    parts.push_back({token.id, {}});
    done = at + (token.rstrip ? SpacesAtBegin(text.substr(at)) : 0);
    at = done;
  }
  if (done < text.size()) {
    parts.push_back({-1, text.substr(done)});
  }
}

}  // namespace ksa
