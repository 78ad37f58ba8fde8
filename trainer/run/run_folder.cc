#include "trainer/run/run_folder.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

#include <fmt/core.h>

#include "data/files/file_error.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/tokenizers/tokenizer.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"

namespace ksa {
namespace {

// Where rank 0 leaves a word for the other ranks, for a moment.
std::string WordPath(const std::string& folder) {
  return folder + "/.opening";
}

// `folder` and those above it that do not exist, the outermost first.
std::vector<std::string> MissingFolders(const std::string& folder) {
  std::vector<std::string> missing;
  for (std::filesystem::path path = folder; !path.empty() && !Exists(path.string()); path = path.parent_path()) {
    missing.insert(missing.begin(), path.string());
  }
  return missing;
}

std::string Parent(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

// Without its last slashes: a path that ends in one has no name at its end.
std::string Plain(const std::string& path) {
  const size_t last = path.find_last_not_of('/');
  return last == std::string::npos ? path : path.substr(0, last + 1);
}

}  // namespace

std::string RunPaths::TokenizerCopy(const std::string& tokenizer_file) const {
  return tokenizer_file.empty() ? "" : folder_ + "/" + std::filesystem::path(tokenizer_file).filename().string();
}

RunFolder::RunFolder(const std::string& path, Communicator& world, const Say& say) : paths_(Plain(path)) {
  try {
    const std::string identity = OnRankZero(world, [&] { return Open(say); });
    const size_t space = identity.find(' ');
    identity_ = {identity.substr(0, space), std::stoll(identity.substr(space + 1))};
    if (world.size() > 1) {
      CheckIsShared(identity, world);
    }
  } catch (...) {
    Release();
    throw;
  }
}

RunFolder::~RunFolder() {
  Release();
}

// On rank 0. Returns "<run_id> <attempt>".
std::string RunFolder::Open(const Say& say) {
  const std::string& folder = paths_.folder();
  made_ = MissingFolders(folder);
  MakeFolders(folder);
  lock_ = std::make_unique<FolderLock>(folder, FolderLockOptions{.say = say});
  identity_ = ReadIdentity(folder, note_);
  ++identity_.attempt;
  return fmt::format("{} {}", identity_.run_id, identity_.attempt);
}

// Every rank writes here at the first checkpoint, and its watchdog before: not to be found out hours later. A network
// file system may show a new file some seconds late.
void RunFolder::CheckIsShared(const std::string& word, Communicator& world) const {
  constexpr int kTries = 100;
  constexpr auto kPause = std::chrono::milliseconds(100);
  const std::string path = WordPath(paths_.folder());
  OnRankZero(world, [&] {
    WriteFileAtomically(path, word);
    return std::string();
  });
  bool sees = false;
  for (int i = 0; i < kTries && !sees; ++i) {
    if (i > 0) {
      std::this_thread::sleep_for(kPause);
    }
    try {
      sees = Exists(path) && ReadSmallFile(path) == word;
    } catch (const Error&) {
      sees = false;  // perhaps not yet
    }
  }
  const bool missing = world.Max(sees ? 0 : 1) > 0;
  if (world.rank() == 0) {
    static_cast<void>(unlink(path.c_str()));
  }
  if (missing) {
    Fail(ExitCode::kCannotCreate,
         "run folder {}: rank 0 opened it, but {}; run.dir must be one folder that all hosts share, best with its full "
         "path",
         paths_.folder(),
         sees ? "another rank does not see it" : fmt::format("rank {} does not see it there", world.rank()));
  }
}

void RunFolder::Commit(const std::string& configuration, const std::string& tokenizer_file) {
  const std::string& folder = paths_.folder();
  if (!tokenizer_file.empty()) {
    CheckTokenizerName(tokenizer_file);
  }
  committed_ = true;
  WriteIdentity(folder, identity_);
  WriteFileAtomically(paths_.Configuration(), configuration);
  if (!tokenizer_file.empty()) {
    WriteFileAtomically(paths_.TokenizerCopy(tokenizer_file), ReadSmallFile(tokenizer_file));
  }
  SyncFolder(folder);
  for (const std::string& made : made_) {
    SyncFolder(Parent(made));
  }
}

void RunFolder::RecordFirstCheckpoint(int64_t step) const {
  if (Exists(paths_.FirstCheckpoint())) {
    return;
  }
  WriteFileAtomically(paths_.FirstCheckpoint(), fmt::format("{} {}\n", CheckpointFolderName(step), run_id()));
  SyncFolder(paths_.folder());
}

bool RunFolder::SaveRequested() const {
  return access(paths_.Save().c_str(), F_OK) == 0;
}

void RunFolder::ConsumeSave() const {
  if (unlink(paths_.Save().c_str()) != 0 && errno != ENOENT) {
    FailFile(FileUse::kWrite, errno, paths_.Save(), "cannot be removed, and would ask for a checkpoint again");
  }
}

void RunFolder::Release() {
  lock_.reset();
  if (!committed_) {
    for (auto folder = made_.rbegin(); folder != made_.rend() && rmdir(folder->c_str()) == 0; ++folder) {
    }
  }
  made_.clear();
}

void CheckTokenizerName(const std::string& tokenizer_file) {
  const std::string name = std::filesystem::path(tokenizer_file).filename();
  if (!IsTokenizerFile(name)) {
    Fail(ExitCode::kBadData,
         "{}: a tokenizer's file is called tokenizer.json, tokenizer.model or tokenizer.tiktoken; the index.json of "
         "this "
         "shard folder names another, which no program of ours writes: make the shards anew",
         tokenizer_file);
  }
}

}  // namespace ksa
