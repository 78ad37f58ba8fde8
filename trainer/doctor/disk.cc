#include <fcntl.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <system_error>
#include <vector>

#include <fmt/ranges.h>
#include <stdlib.h>

#include "data/files/file_error.h"
#include "data/files/hdf5_library.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/piece_file.h"
#include "trainer/doctor/health_check.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kLeastRoom = int64_t{16} << 20;
constexpr int64_t kFewFiles = 1000;
constexpr int64_t kTrialBytes = int64_t{8} << 20;

// A folder for trials in the one that is examined, removed with all that is in it.
class Trial {
 public:
  explicit Trial(const std::string& folder) {
    std::string missing = folder;
    while (!missing.empty() && !Exists(missing)) {
      made_.insert(made_.begin(), missing);
      const size_t slash = missing.find_last_of('/');
      missing = slash == std::string::npos ? "" : missing.substr(0, slash);
    }
    MakeFolders(folder);
    path_ = folder + "/.ksa-doctor-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) {
      const int error = errno;
      path_.clear();
      Clear();
      FailFile(FileUse::kCreate, error, folder, "nothing can be made in it");
    }
  }

  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  ~Trial() { Clear(); }

  [[nodiscard]] std::string Name(const std::string& name) const { return path_ + "/" + name; }

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  void Clear() noexcept {
    try {
      if (!path_.empty()) {
        RemoveAll(path_);
      }
    } catch (const Error&) {
      return;  // what is left is a hidden folder, which the next look does not mind
    }
    for (auto folder = made_.rbegin(); folder != made_.rend(); ++folder) {
      static_cast<void>(rmdir(folder->c_str()));
    }
  }

  std::string path_;
  std::vector<std::string> made_;  // folders that were missing, the outermost first
};

// The answer of a look at `folder` that may fail, as a fault with the error's words.
HealthCheck Examine(const std::string& name,
                    const std::string& folder,
                    const std::string& cure,
                    const std::function<HealthCheck()>& look) {
  try {
    return look();
  } catch (const Error& error) {
    return {
        .name = name, .health = Health::kFault, .detail = fmt::format("{}: {}", folder, error.what()), .cure = cure};
  }
}

struct FileSystemKind {
  std::string name;
  std::string warning;  // why runs should lie elsewhere; empty: they need not
};

FileSystemKind KindOfFileSystem(const std::string& folder) {
  const std::string lost = "what lies on it is gone with the machine or the container: put runs on a disk that stays";
  // Numbers of linux/magic.h and of file systems outside of the kernel.
  const std::map<int64_t, FileSystemKind> kinds = {{0xEF53, {"ext4", ""}},
                                                   {0x58465342, {"xfs", ""}},
                                                   {0x9123683E, {"btrfs", ""}},
                                                   {0x2FC12FC1, {"zfs", ""}},
                                                   {0x01021994, {"tmpfs", lost}},
                                                   {0x794C7630, {"overlay", lost}},
                                                   {0x6969, {"NFS", ""}},
                                                   {0x0BD00BD0, {"Lustre", ""}},
                                                   {0x19830326, {"BeeGFS", ""}},
                                                   {0x47504653, {"GPFS", ""}},
                                                   {0xFF534D42, {"CIFS", ""}},
                                                   {0x65735546, {"FUSE", ""}}};

  struct statfs room {};

  if (statfs(folder.c_str(), &room) != 0) {
    return {"unknown", ""};
  }
  const auto found = kinds.find(static_cast<int64_t>(static_cast<uint32_t>(room.f_type)));
  return found != kinds.end() ? found->second : FileSystemKind{fmt::format("of type {:#x}", room.f_type), ""};
}

std::string WordsOf(int error) {
  return std::system_category().message(error);
}

// What a trial of the file system found.
struct Trials {
  std::vector<std::string> works;
  std::vector<std::string> lacks;

  void Add(const std::string& what, bool good, int error) {
    if (good) {
      works.push_back(what);
    } else {
      lacks.push_back(fmt::format("{} ({})", what, WordsOf(error)));
    }
  }
};

// Renames over a file and over an exchange of two folders, a name that is made once.
Trials TryNames(const Trial& trial) {
  Trials trials;
  WriteDurably(trial.Name("a"), "a");
  WriteDurably(trial.Name("b"), "b");
  const bool replaced = rename(trial.Name("a").c_str(), trial.Name("b").c_str()) == 0;
  trials.Add("replacing a file", replaced && ReadSmallFile(trial.Name("b")) == "a", errno);
  MakeFolders(trial.Name("old"));
  MakeFolders(trial.Name("new"));
  const std::string old_name = trial.Name("old");
  const std::string new_name = trial.Name("new");
  trials.Add("exchanging two folders",
             renameat2(AT_FDCWD, new_name.c_str(), AT_FDCWD, old_name.c_str(), RENAME_EXCHANGE) == 0,
             errno);
  const int first = open(trial.Name("once").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const int first_error = errno;
  const int second = first < 0 ? -1 : open(trial.Name("once").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  trials.Add("making a name once", first >= 0 && second < 0, first < 0 ? first_error : EEXIST);
  for (const int file : {first, second}) {
    if (file >= 0) {
      close(file);
    }
  }
  return trials;
}

}  // namespace

HealthCheck CheckDisk(const std::string& folder) {
  return Examine("disk", folder, "choose another folder, or let this user write to it", [&] {
    const Trial trial(folder);
    const int64_t free = FreeBytes(trial.path());
    const FileSystemKind kind = KindOfFileSystem(trial.path());
    struct statvfs room {};
    const bool counted = statvfs(trial.path().c_str(), &room) == 0 && room.f_files > 0;
    const auto files = static_cast<int64_t>(room.f_favail);
    HealthCheck check = {.name = "disk",
                         .health = Health::kGood,
                         .detail = fmt::format("{}: {}, {} free{}",
                                               folder,
                                               kind.name,
                                               FormatBytes(free),
                                               counted ? fmt::format(", room for {} files", files) : ""),
                         .cure = kind.warning};
    check.health = kind.warning.empty() ? Health::kGood : Health::kWarning;
    if (free < kGiB || (counted && files < kFewFiles)) {
      check.health = free < kLeastRoom || (counted && files == 0) ? Health::kFault : Health::kWarning;
      check.cure = "make room: ksa plan says what a checkpoint takes, and checkpoint.keep_last + 1 of them must fit";
    }
    return check;
  });
}

HealthCheck CheckFileSystem(const std::string& folder) {
  return Examine("file system", folder, "put runs on a file system that can do this", [&] {
    const Trial trial(folder);
    const Trials trials = TryNames(trial);
    const auto begin = std::chrono::steady_clock::now();
    WriteDurably(trial.Name("large"), std::string(static_cast<size_t>(kTrialBytes), 'x'));
    SyncFolder(trial.path());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    HealthCheck check = {
        .name = "file system",
        .health = Health::kGood,
        .detail = fmt::format("{} written and flushed in {:.0f} ms; {}",
                              FormatBytes(kTrialBytes),
                              seconds * 1e3,
                              trials.works.empty() ? "" : fmt::format("{} work", fmt::join(trials.works, ", "))),
        .cure = ""};
    if (!trials.lacks.empty()) {
      const bool exchange_alone = trials.lacks.size() == 1 && trials.lacks.front().starts_with("exchanging");
      check.health = exchange_alone ? Health::kWarning : Health::kFault;
      check.detail += fmt::format("; it cannot do: {}", fmt::join(trials.lacks, ", "));
      check.cure = exchange_alone ? "nothing is lost: a checkpoint of a step that is repeated is moved aside instead"
                                  : "put runs on a file system that can do this";
    }
    return check;
  });
}

HealthCheck CheckFlock(const std::string& folder) {
  return Examine("flock", folder, "choose another folder, or let this user write to it", [&] {
    const Trial trial(folder);
    const File file = File::Create(trial.Name("lock"));
    const bool locked = flock(file.fd(), LOCK_EX | LOCK_NB) == 0;
    const int error = errno;
    HealthCheck check = {.name = "flock", .health = Health::kGood, .detail = "flock works in " + folder, .cure = ""};
    if (!locked) {
      check.health = Health::kWarning;
      check.detail = fmt::format("flock does not work in {}: {}", folder, WordsOf(error));
      check.cure =
          "ksa locks run folders without it; for other programs that read shards by HDF5 set "
          "HDF5_USE_FILE_LOCKING=FALSE";
    }
    return check;
  });
}

HealthCheck CheckHdf5(const std::string& folder) {
  return Examine("HDF5", folder, "look at the disk, and at which HDF5 the program finds (ldd)", [&] {
    const Trial trial(folder);
    std::vector<float> numbers(1000);
    for (size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = static_cast<float>(i) / 3.0F;
    }
    const TensorView values{numbers.data(), DType::kF32, {}, {static_cast<int64_t>(numbers.size())}};
    const std::string path = trial.Name("piece.h5");
    const std::vector<uint64_t> hashes = WritePieceFile(path, {{"numbers", values}}, Stream{});
    const PieceFile file(path);
    const bool same = file.FrameIsIntact() && file.Read("numbers", DType::kF32, values.size()) == hashes.front();
    const Hdf5Library library = Hdf5LibraryHere();
    HealthCheck check = {.name = "HDF5",
                         .health = Health::kGood,
                         .detail = fmt::format("{}{}; a checkpoint's file is written and read back",
                                               library.running,
                                               library.thread_safe ? ", thread-safe" : ""),
                         .cure = ""};
    if (!same) {
      check.health = Health::kFault;
      check.detail = library.running + "; a checkpoint's file reads back differently from what was written";
      check.cure = "the disk or its driver changes what it is given: put runs elsewhere";
    } else if (library.running != library.built) {
      check.health = Health::kWarning;
      check.detail += "; ksa was built with " + library.built;
      check.cure = "build it again here, or let it find the other one (ldd, LD_LIBRARY_PATH)";
    }
    return check;
  });
}

}  // namespace ksa
