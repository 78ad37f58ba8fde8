#include "trainer/run/run_folder.h"

#include <sys/random.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"

namespace ksa {
namespace {

bool IsRunId(const std::string& text) {
  return text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string NewRunId() {
  uint64_t id = 0;
  if (getrandom(&id, sizeof id, 0) != static_cast<ssize_t>(sizeof id)) {
    Fail(ExitCode::kInternal, "no random number for the run's id: {}", std::strerror(errno));
  }
  return fmt::format("{:016x}", id);
}

// The run that wrote the newest readable checkpoint: the folder's run when its run_id file was lost.
std::string RunOfCheckpoints(const std::string& folder) {
  const std::vector<int64_t> steps = StepsIn(folder);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (std::string owner = OwnerOf(folder + "/" + CheckpointFolderName(*step)); IsRunId(owner)) {
      return owner;
    }
  }
  return {};
}

struct Identity {
  std::string run_id;
  int64_t attempt = 0;
};

// "<run_id> <attempt>"
Identity ParseIdentity(const std::string& text, const std::string& path) {
  Identity identity;
  std::istringstream stream(text);
  if (!(stream >> identity.run_id >> identity.attempt) || !IsRunId(identity.run_id) || identity.attempt < 0) {
    Fail(ExitCode::kBadData, "{}: expected a run's id (16 hexadecimal digits) and the number of its last start", path);
  }
  return identity;
}

// Reads, counts up and writes the identity of the run in this locked folder.
std::string NextIdentity(const std::string& folder) {
  const std::string path = folder + "/run_id";
  Identity identity;
  if (Exists(path)) {
    identity = ParseIdentity(ReadSmallFile(path), path);
  } else {
    identity.run_id = RunOfCheckpoints(folder + "/checkpoints");
    if (identity.run_id.empty()) {
      identity.run_id = NewRunId();
    }
  }
  std::string text = fmt::format("{} {}\n", identity.run_id, identity.attempt + 1);
  WriteFileAtomically(path, text);
  return text;
}

}  // namespace

RunFolder::RunFolder(const std::string& path, Communicator& world) : path_(path) {
  const std::string text = OnRankZero(world, [&] {
    MakeFolders(path_);
    lock_ = std::make_unique<FolderLock>(path_);
    return NextIdentity(path_);
  });
  const Identity identity = ParseIdentity(text, path_);
  run_id_ = identity.run_id;
  attempt_ = identity.attempt;
  CheckIsShared(text, world);
}

// Every rank writes here at the first checkpoint, and its watchdog before: not to be found out hours later. A network
// file system may show a new file some seconds late.
void RunFolder::CheckIsShared(const std::string& identity, Communicator& world) const {
  constexpr int kTries = 100;
  constexpr auto kPause = std::chrono::milliseconds(100);
  const std::string file = path_ + "/run_id";
  bool sees = false;
  for (int i = 0; i < kTries && !sees; ++i) {
    if (i > 0) {
      std::this_thread::sleep_for(kPause);
    }
    sees = Exists(file) && ReadSmallFile(file) == identity;
  }
  if (world.Max(sees ? 0 : 1) > 0) {
    Fail(ExitCode::kCannotCreate,
         "run folder {}: rank 0 made it, but {}; run.dir must be one folder that all hosts share, best with its full "
         "path",
         path_,
         sees ? "another rank does not see it" : fmt::format("rank {} does not see it there", world.rank()));
  }
}

void RunFolder::WriteConfig(const std::string& yaml) const {
  WriteFileAtomically(path_ + "/config.resolved.yaml", yaml);
}

void RunFolder::CopyTokenizer(const std::string& tokenizer_file) const {
  const std::string name = std::filesystem::path(tokenizer_file).filename();
  WriteFileAtomically(path_ + "/" + name, ReadSmallFile(tokenizer_file));
}

}  // namespace ksa
