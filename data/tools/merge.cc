#include "data/tools/merge.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "data/files/file_error.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/shards/shard_folder.h"
#include "data/shards/staged_folder.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

void LinkFile(const std::string& from, const std::string& to) {
  if (linkat(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), AT_SYMLINK_FOLLOW) == 0) {
    return;
  }
  const int error = errno;
  FailFile(FileUse::kCreate,
           error,
           to,
           error == EXDEV || error == EPERM
               ? "shards are linked, not copied: give an --output on the file system of " + from + " that knows links"
               : "no link to " + from);
}

void CheckSameTokenizer(const std::string& first,
                        const ShardIndex& one,
                        const std::string& path,
                        const ShardIndex& other) {
  if (one.tokenizer_xxh3 != other.tokenizer_xxh3 || one.vocab_size != other.vocab_size || one.eos_id != other.eos_id ||
      one.tokenizer_file != other.tokenizer_file) {
    Fail(ExitCode::kBadData,
         "{}: tokenizer {} ({} ids), but {} has {} ({} ids); only shards of one tokenizer can be merged",
         path,
         other.tokenizer,
         other.vocab_size,
         first,
         one.tokenizer,
         one.vocab_size);
  }
}

// Links the shards of all `inputs` into `folder`, and writes their index.
ShardIndex MergeInto(const std::vector<std::string>& inputs, const std::string& folder, const std::string& name) {
  ShardIndex merged;
  std::vector<std::string> files;
  std::string tokenizer;
  for (const std::string& input : inputs) {
    const ShardFolder shards(input);  // compares every shard with its index
    if (merged.shards.empty()) {
      merged = shards.index();
      merged.shards.clear();
      tokenizer = ReadSmallFile(shards.TokenizerPath());
    }
    CheckSameTokenizer(inputs.front(), merged, input, shards.index());
    for (const ShardEntry& entry : shards.index().shards) {
      files.push_back(input + "/" + entry.file);
      merged.shards.push_back(entry);
    }
  }
  if (files.size() > static_cast<size_t>(kMostShards)) {
    Fail(ExitCode::kUsage, "{} shards are more than a folder can have, {}", files.size(), kMostShards);
  }
  for (size_t i = 0; i < files.size(); ++i) {
    merged.shards[i].file = fmt::format("{}-{:05}-of-{:05}.h5", name, i, files.size());
    LinkFile(files[i], folder + "/" + merged.shards[i].file);
  }
  WriteFileAtomically(folder + "/" + merged.tokenizer_file, tokenizer);
  WriteFileAtomically(folder + "/" + kIndexFile, ToJson(merged));
  SyncFolder(folder);
  return merged;
}

// The names of the parts below every input; "" for shard folders themselves.
std::vector<std::string> PartsOf(const std::vector<std::string>& inputs) {
  std::set<std::string> seen;
  const auto has_parts = [](const std::string& input) {
    return !Exists(input + "/" + kIndexFile) && IsFolder(input + "/train");
  };
  const bool parts = has_parts(inputs.front());
  for (const std::string& input : inputs) {
    if (!seen.insert(ResolvePath(input)).second) {
      Fail(ExitCode::kUsage, "{}: given twice; its documents would be in the result twice", input);
    }
    if (has_parts(input) != parts) {
      Fail(ExitCode::kUsage,
           "{} and {}: one holds shards, the other train and validation; name folders of one form",
           inputs.front(),
           input);
    }
  }
  return parts ? std::vector<std::string>{"train", "validation"} : std::vector<std::string>{""};
}

}  // namespace

std::vector<MergedFolder> MergeShards(const MergeOptions& options) {
  const std::vector<std::string> parts = PartsOf(options.inputs);
  StagedFolder output(options.output);
  std::vector<MergedFolder> merged;
  for (const std::string& part : parts) {
    std::vector<std::string> inputs;
    for (const std::string& input : options.inputs) {
      inputs.push_back(part.empty() ? input : input + "/" + part);
    }
    const std::string folder = part.empty() ? output.staging() : output.staging() + "/" + part;
    MakeFolders(folder);
    const ShardIndex index = MergeInto(inputs, folder, part.empty() ? output.name() : part);
    merged.push_back({part.empty() ? options.output : options.output + "/" + part,
                      static_cast<int64_t>(index.shards.size()),
                      index.tokens(),
                      index.documents()});
  }
  output.Commit();
  return merged;
}

}  // namespace ksa
