#include "trainer/checkpoint/tokenizer_copy.h"

#include <xxhash.h>

#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint.h"

namespace ksa {

TokenizerCopy WriteTokenizerCopy(const std::string& folder, const std::string& name, const std::string& contents) {
  WriteDurably(folder + "/" + name, contents);
  return {name, XXH3_64bits(contents.data(), contents.size())};
}

std::optional<std::string> TokenizerOf(const Checkpoint& checkpoint) {
  const std::optional<TokenizerCopy>& copy = checkpoint.manifest.meta.tokenizer;
  if (!copy.has_value()) {
    return std::nullopt;
  }
  std::string path = checkpoint.path + "/" + copy->file;
  if (const PathKind kind = KindOf(path); kind != PathKind::kFile) {
    Fail(ExitCode::kBadData, "{}: the checkpoint's tokenizer was expected here; found {}", path, NameOf(kind));
  }
  const std::string contents = ReadSmallFile(path);
  if (const uint64_t hash = XXH3_64bits(contents.data(), contents.size()); hash != copy->xxh3) {
    Fail(ExitCode::kBadData,
         "{}: the checkpoint's tokenizer is corrupt (its hash is {:016x}, the manifest says {:016x})",
         path,
         hash,
         copy->xxh3);
  }
  return path;
}

}  // namespace ksa
