// Failures of the file system have one meaning each, wherever they come from.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/files/file_error.h"
#include "data/files/json.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"

namespace ksa {
namespace {

class Scratch {
 public:
  Scratch() {
    std::string name = testing::TempDir() + "ksa-files-XXXXXX";
    path_ = mkdtemp(name.data());
  }

  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  ~Scratch() { RemoveAll(path_); }

  [[nodiscard]] std::string In(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

template <typename Body>
std::string FailureOf(ExitCode code, const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(FileErrorTest, ErrnoDecidesTheCodeByUse) {
  EXPECT_EQ(CodeOf(FileUse::kRead, ENOENT), ExitCode::kMissingInput);
  EXPECT_EQ(CodeOf(FileUse::kRead, ELOOP), ExitCode::kMissingInput);
  EXPECT_EQ(CodeOf(FileUse::kRead, EACCES), ExitCode::kIo);
  EXPECT_EQ(CodeOf(FileUse::kRead, EIO), ExitCode::kIo);
  EXPECT_EQ(CodeOf(FileUse::kRead, ESTALE), ExitCode::kIo);
  EXPECT_EQ(CodeOf(FileUse::kCreate, EACCES), ExitCode::kCannotCreate);
  EXPECT_EQ(CodeOf(FileUse::kCreate, EROFS), ExitCode::kCannotCreate);
  EXPECT_EQ(CodeOf(FileUse::kCreate, ENOTDIR), ExitCode::kCannotCreate);
  EXPECT_EQ(CodeOf(FileUse::kCreate, ENOSPC), ExitCode::kIo);  // also: no inode is left
  EXPECT_EQ(CodeOf(FileUse::kCreate, EMFILE), ExitCode::kIo);
  EXPECT_EQ(CodeOf(FileUse::kWrite, ENOSPC), ExitCode::kIo);
}

TEST(FileLayerTest, MissingLoopAndLongNamesAreMissingInput) {
  const Scratch scratch;
  const std::string loop = scratch.In("loop");
  ASSERT_EQ(symlink("loop", loop.c_str()), 0);
  const std::string long_name = scratch.In(std::string(300, 'x'));
  for (const std::string& path : {scratch.In("none"), loop, long_name}) {
    const std::string message =
        FailureOf(ExitCode::kMissingInput, [&] { static_cast<void>(File::OpenForReading(path)); });
    EXPECT_NE(message.find(path), std::string::npos) << message;
  }
  EXPECT_EQ(KindOf(scratch.In("none")), PathKind::kNone);
  EXPECT_NE(FailureOf(ExitCode::kMissingInput, [&] { static_cast<void>(KindOf(loop)); }).find("symbolic links"),
            std::string::npos);
  static_cast<void>(FailureOf(ExitCode::kMissingInput, [&] { static_cast<void>(KindOf(long_name)); }));
  EXPECT_EQ(KindOfName(loop), PathKind::kLink);
}

TEST(FileLayerTest, APipeIsRefusedAndNotWaitedFor) {
  const Scratch scratch;
  const std::string pipe = scratch.In("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(KindOf(pipe), PathKind::kOther);
  EXPECT_NE(FailureOf(ExitCode::kMissingInput, [&] { static_cast<void>(File::OpenForReading(pipe)); }).find("a pipe"),
            std::string::npos);
  static_cast<void>(FailureOf(ExitCode::kCannotCreate, [&] { static_cast<void>(File::Create(pipe)); }));
}

TEST(FileLayerTest, AFolderIsNoFile) {
  const Scratch scratch;
  EXPECT_NE(
      FailureOf(ExitCode::kMissingInput, [&] { static_cast<void>(ReadSmallFile(scratch.In(""))); }).find("a folder"),
      std::string::npos);
  static_cast<void>(FailureOf(ExitCode::kCannotCreate, [&] { static_cast<void>(File::Create(scratch.In(""))); }));
}

// root may do everything: the rights are looked at as nobody, in a process of its own.
TEST(FileLayerTest, NoPermissionIsAnIoErrorAndNotAbsence) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root to become somebody else";
  }
  const Scratch scratch;
  WriteFileAtomically(scratch.In("secret"), "x");
  ASSERT_EQ(chmod(scratch.In("secret").c_str(), 0600), 0);
  MakeFolders(scratch.In("closed/inner"));
  ASSERT_EQ(chmod(scratch.In("closed").c_str(), 0700), 0);
  ASSERT_EQ(chmod(scratch.In("").c_str(), 0755), 0);
  EXPECT_EXIT(
      {
        constexpr uid_t kNobody = 65534;
        if (setuid(kNobody) != 0) {
          _exit(1);
        }
        const auto code = [](const auto& body) {
          try {
            body();
          } catch (const Error& error) {
            return error.code();
          }
          return ExitCode::kDone;
        };
        const bool good = code([&] { static_cast<void>(ReadSmallFile(scratch.In("secret"))); }) == ExitCode::kIo &&
                          code([&] { static_cast<void>(KindOf(scratch.In("closed/inner"))); }) == ExitCode::kIo &&
                          code([&] { static_cast<void>(NamesIn(scratch.In("closed"))); }) == ExitCode::kIo &&
                          code([&] { MakeFolders(scratch.In("closed/new")); }) == ExitCode::kCannotCreate &&
                          code([&] { static_cast<void>(File::Create(scratch.In("new"))); }) == ExitCode::kCannotCreate;
        _exit(good ? 0 : 1);
      },
      testing::ExitedWithCode(0),
      "");
}

TEST(FileLayerTest, FoldersAreMadeListedResolvedAndRemoved) {
  const Scratch scratch;
  MakeFolders(scratch.In("b/c"));
  WriteFileAtomically(scratch.In("b/a"), "12345");
  EXPECT_EQ(NamesIn(scratch.In("b")), (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(FileBytes(scratch.In("b/a")), 5);
  EXPECT_GT(FreeBytes(scratch.In("b")), 0);
  ASSERT_EQ(symlink("b", scratch.In("link").c_str()), 0);
  EXPECT_EQ(ResolvePath(scratch.In("link/./new/")), ResolvePath(scratch.In("b")) + "/new");
  RemoveAll(scratch.In("link"));
  EXPECT_TRUE(IsFile(scratch.In("b/a")));  // the link went, not what it leads to
  RemoveAll(scratch.In("b"));
  EXPECT_FALSE(Exists(scratch.In("b")));
  static_cast<void>(FailureOf(ExitCode::kMissingInput, [&] { static_cast<void>(NamesIn(scratch.In("b"))); }));
  SyncFolder(scratch.In(""));
}

TEST(FileLayerTest, ANameIsTheSameUntilItIsRenamedOrReplaced) {
  const Scratch scratch;
  EXPECT_FALSE(IdentityOfName(scratch.In("a")).has_value());
  MakeFolders(scratch.In("a"));
  MakeFolders(scratch.In("b"));
  const std::optional<FileIdentity> a = IdentityOfName(scratch.In("a"));
  EXPECT_NE(a, IdentityOfName(scratch.In("b")));
  Rename(scratch.In("a"), scratch.In("c"));
  EXPECT_EQ(IdentityOfName(scratch.In("c")), a);
  ASSERT_EQ(symlink("c", scratch.In("a").c_str()), 0);
  EXPECT_NE(IdentityOfName(scratch.In("a")), a);  // the link, not what it leads to
  // Its inode is the next folder's.
  if (a->born != 0) {
    for (int i = 0; i < 20; ++i) {
      RemoveAll(scratch.In("c"));
      usleep(10000);  // more than the clock of a file system's times
      MakeFolders(scratch.In("c"));
      EXPECT_NE(IdentityOfName(scratch.In("c")), a);
    }
  }
}

TEST(FileLayerTest, AVersionChangesWithTheContents) {
  const Scratch scratch;
  const std::string path = scratch.In("f");
  EXPECT_EQ(VersionOf(path), "");
  WriteFileAtomically(path, "12345");
  const std::string first = VersionOf(path);
  EXPECT_EQ(VersionOf(path), first);
  usleep(20000);  // more than the clock of a file system's times
  File file = File::OpenForWriting(path);
  file.WriteAt(0, "2", 1);
  file.Close();
  const std::string second = VersionOf(path);
  EXPECT_NE(second, first);
  WriteFileAtomically(path, "22345");
  EXPECT_NE(VersionOf(path), second);
}

TEST(FileLayerTest, BytesOnDiskAreThoseThatRemovingGivesBack) {
  const Scratch scratch;
  MakeFolders(scratch.In("d/inner"));
  WriteDurably(scratch.In("d/full"), std::string(1 << 20, 'x'));
  WriteDurably(scratch.In("d/sparse"), "");
  ASSERT_EQ(truncate(scratch.In("d/sparse").c_str(), 1 << 30), 0);
  EXPECT_GE(BytesOnDisk(scratch.In("d")), 1 << 20);
  EXPECT_LT(BytesOnDisk(scratch.In("d")), 2 << 20);
}

// Pages of the file that are in memory; -1 where that cannot be told.
int64_t PagesInMemory(const std::string& path, int64_t bytes) {
  const int fd = open(path.c_str(), O_RDONLY);
  void* map = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (map == MAP_FAILED) {
    return -1;
  }
  std::vector<unsigned char> in_memory(static_cast<size_t>(bytes / sysconf(_SC_PAGESIZE)));
  const int result = mincore(map, static_cast<size_t>(bytes), in_memory.data());
  munmap(map, static_cast<size_t>(bytes));
  return result == 0 ? std::count_if(in_memory.begin(), in_memory.end(), [](unsigned char page) { return page & 1; })
                     : -1;
}

TEST(FileLayerTest, WhatIsReadBackComesFromTheDisk) {
  const Scratch scratch;

  struct statfs disk {};

  ASSERT_EQ(statfs(scratch.In("").c_str(), &disk), 0);
  constexpr int64_t kTmpfs = 0x01021994;
  if (disk.f_type == kTmpfs) {
    GTEST_SKIP() << "a disk in memory is all in memory";
  }
  const std::string path = scratch.In("f");
  const std::string contents(8 << 20, 'x');
  File file = File::Create(path);
  file.Write(contents.data(), static_cast<int64_t>(contents.size()));
  file.Sync();
  EXPECT_EQ(PagesInMemory(path, 8 << 20), (8 << 20) / sysconf(_SC_PAGESIZE));
  file.DropCache();
  EXPECT_EQ(PagesInMemory(path, 8 << 20), 0);
}

TEST(JsonTest, DepthIsBoundedAndBadTextNamed) {
  EXPECT_EQ(ParseJson(R"({"a": [1, {"b": 2}]})", "x.json")["a"][1]["b"].get<int>(), 2);
  const std::string deep(300000, '[');
  EXPECT_NE(FailureOf(ExitCode::kBadData, [&] { static_cast<void>(ParseJson(deep, "x.json")); }).find("nested"),
            std::string::npos);
  const std::string objects = [] {
    std::string text;
    for (int i = 0; i < 100000; ++i) {
      text += R"({"x":)";
    }
    return text;
  }();
  static_cast<void>(FailureOf(ExitCode::kBadData, [&] { static_cast<void>(ParseJson(objects, "x.json")); }));
  EXPECT_NE(
      FailureOf(ExitCode::kBadData, [&] { static_cast<void>(ParseJson("{", "x.json")); }).find("x.json: not JSON"),
      std::string::npos);
  EXPECT_EQ(ParseJson("[[[1]]]", "x.json", 3)[0][0][0].get<int>(), 1);
  static_cast<void>(FailureOf(ExitCode::kBadData, [&] { static_cast<void>(ParseJson("[[[[1]]]]", "x.json", 3)); }));
}

}  // namespace
}  // namespace ksa
