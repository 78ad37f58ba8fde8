#include "data/tokenizers/foreign_tokenizer.h"

#include <algorithm>
#include <cctype>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace ksa {
namespace {

// Of tokenizer.json: model.vocab maps or lists the pieces.
std::string DescribeHuggingFace(const nlohmann::json& json) {
  const nlohmann::json& model = json["model"];
  const std::string type = model.contains("type") && model["type"].is_string() ? model["type"].get<std::string>() : "";
  size_t tokens = model.contains("vocab") ? model["vocab"].size() : 0;
  for (const nlohmann::json& added : json.value("added_tokens", nlohmann::json::array())) {
    const bool beyond = added.is_object() && added.contains("id") && added["id"].is_number_unsigned() &&
                        added["id"].get<size_t>() >= tokens;
    tokens = beyond ? added["id"].get<size_t>() + 1 : tokens;
  }
  return fmt::format(
      "a tokenizer.json of Hugging Face's tokenizers ({}{} tokens)", type.empty() ? "" : type + ", ", tokens);
}

// A line of a tiktoken vocabulary: base64, a space, the rank.
bool IsTiktokenLine(std::string_view line) {
  const size_t space = line.find(' ');
  const auto is_base64 = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+' || c == '/' || c == '=';
  };
  const auto is_digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  return space != std::string_view::npos && space >= 4 && space % 4 == 0 && space + 1 < line.size() &&
         std::all_of(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(space), is_base64) &&
         std::all_of(line.begin() + static_cast<std::ptrdiff_t>(space) + 1, line.end(), is_digit);
}

}  // namespace

std::string DescribeForeignTokenizer(std::string_view contents) {
  if (contents.starts_with("{")) {
    const nlohmann::json json = nlohmann::json::parse(contents, nullptr, false);
    if (json.is_object() && json.contains("model") && json["model"].is_object()) {
      return DescribeHuggingFace(json);
    }
    const bool numbers =
        json.is_object() && json.size() > 1 &&
        std::all_of(json.begin(), json.end(), [](const auto& value) { return value.is_number_integer(); });
    return numbers ? fmt::format("a vocabulary alone ({} pieces with their ids, as in vocab.json)", json.size()) : "";
  }
  return IsTiktokenLine(contents.substr(0, contents.find('\n'))) ? "a vocabulary of tiktoken" : "";
}

}  // namespace ksa
