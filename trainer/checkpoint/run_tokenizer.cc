#include "trainer/checkpoint/run_tokenizer.h"

#include <filesystem>
#include <system_error>

#include "data/files/paths.h"
#include "data/tokenizers/tokenizer.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

std::string Parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(0, slash);
}

// Absolute and without "." and "..", links kept.
std::string CleanPath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  std::string clean = (error ? std::filesystem::path(path) : absolute).lexically_normal().string();
  while (clean.size() > 1 && clean.ends_with('/')) {
    clean.pop_back();
  }
  return clean;
}

}  // namespace

std::optional<std::string> FindTokenizerFile(const Checkpoint& checkpoint) {
  if (std::optional<std::string> copy = TokenizerOf(checkpoint); copy.has_value()) {
    return copy;
  }
  const std::string& own = checkpoint.path;
  for (const std::string& folder : {own, Parent(Parent(CleanPath(own))), Parent(Parent(ResolvePath(own)))}) {
    for (const char* name : kTokenizerFiles) {
      const std::string path = folder + "/" + name;
      if (Exists(path)) {
        return path;
      }
    }
  }
  return std::nullopt;
}

bool CheckTokenizer(const Checkpoint& checkpoint, const Dataset& data) {
  if (!data.HasTokenizer()) {
    return true;
  }
  const std::optional<std::string> path = FindTokenizerFile(checkpoint);
  if (!path.has_value()) {
    return false;
  }
  CheckTokenizerOf(checkpoint.path, *path, *OpenTokenizer(*path), data);
  return true;
}

void CheckTokenizerOf(const std::string& model,
                      const std::string& path,
                      const Tokenizer& tokenizer,
                      const Dataset& data) {
  if (data.HasTokenizer() && tokenizer.Xxh3() != data.TokenizerXxh3()) {
    Fail(
        ExitCode::kBadData,
        "{} was trained with the tokenizer {} ({}, hash {:016x}), the data with {} ({}, hash {:016x}): its tokens mean "
        "something else to the model. Take data that was made with {}",
        model,
        path,
        tokenizer.name(),
        tokenizer.Xxh3(),
        data.TokenizerPath(),
        data.TokenizerName(),
        data.TokenizerXxh3(),
        path);
  }
}

}  // namespace ksa
