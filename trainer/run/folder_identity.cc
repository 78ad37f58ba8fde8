#include "trainer/run/folder_identity.h"

#include <sys/random.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <sstream>
#include <vector>

#include <fmt/core.h>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/observe/metrics.h"

namespace ksa {
namespace {

std::string PathIn(const std::string& folder) {
  return folder + "/run_id";
}

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

// "<run_id> <attempt>"; none when the text is no such thing.
std::optional<RunIdentity> Parse(const std::string& text) {
  RunIdentity identity;
  std::istringstream stream(text);
  if (!(stream >> identity.run_id >> identity.attempt) || !IsRunId(identity.run_id) || identity.attempt < 0) {
    return std::nullopt;
  }
  return identity;
}

// The run that wrote the newest readable checkpoint; empty: none.
std::string RunOfCheckpoints(const std::string& folder) {
  const std::vector<int64_t> steps = StepsIn(folder);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (std::string owner = OwnerOf(folder + "/" + CheckpointFolderName(*step)); IsRunId(owner)) {
      return owner;
    }
  }
  return {};
}

}  // namespace

RunIdentity ReadIdentity(const std::string& folder, std::string& note) {
  const std::string path = PathIn(folder);
  const bool there = Exists(path);
  if (const std::optional<RunIdentity> identity = there ? Parse(ReadSmallFile(path)) : std::nullopt) {
    return *identity;
  }
  RunIdentity identity{.run_id = RunOfCheckpoints(folder + "/checkpoints"), .attempt = 0};
  const std::string metrics = folder + "/metrics.jsonl";
  // Readers take the last attempt of an update: a number that was used must not come again.
  if (const auto last = IsFile(metrics) ? LastAttemptOf(metrics) : std::nullopt) {
    identity.attempt = last->attempt;
    if (identity.run_id.empty() && IsRunId(last->run_id)) {
      identity.run_id = last->run_id;
    }
  }
  const bool known = !identity.run_id.empty();
  if (!known) {
    identity.run_id = NewRunId();
  }
  if (there || known) {
    note = fmt::format("{} {}: {} {}, attempt {}",
                       path,
                       there ? "is spoilt" : "is missing",
                       known ? "by checkpoints and metrics the run is" : "the run is now called",
                       identity.run_id,
                       identity.attempt + 1);
  }
  return identity;
}

void WriteIdentity(const std::string& folder, const RunIdentity& identity) {
  WriteFileAtomically(PathIn(folder), fmt::format("{} {}\n", identity.run_id, identity.attempt));
}

}  // namespace ksa
