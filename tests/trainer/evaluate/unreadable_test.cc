// Paths that may not be looked at, or lead nowhere: errno's words with the code that fits, at every door.
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/trainer/checkpoint/support.h"
#include "trainer/config/load.h"
#include "trainer/config/sweep.h"
#include "trainer/evaluate/compare.h"
#include "trainer/evaluate/sweep_table.h"

namespace ksa::testing {
namespace {

// Files that root could read are read as somebody else.
class AsNobody {
 public:
  AsNobody() { EXPECT_TRUE(geteuid() != 0 || seteuid(65534) == 0); }

  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

  ~AsNobody() { EXPECT_EQ(seteuid(getuid()), 0); }
};

struct Door {
  const char* name;
  std::function<void(const std::string& path)> open;
};

std::vector<Door> Doors(const std::string& folder) {
  return {{"configuration", [](const std::string& path) { static_cast<void>(LoadConfig(path)); }},
          {"model", [](const std::string& path) { static_cast<void>(LoadModelConfig(path, 64)); }},
          {"sweep", [](const std::string& path) { static_cast<void>(LoadSweep(path)); }},
          {"base of a sweep",
           [folder](const std::string& path) {
             static_cast<void>(LoadSweep(folder + "/" + path.substr(path.rfind('/') + 1) + ".sweep"));
           }},
          {"compare", [](const std::string& path) { static_cast<void>(OpenComparedRun(path)); }},
          {"metrics", [](const std::string& path) { static_cast<void>(ReadMetrics(path)); }}};
}

TEST(Unreadable, IsWhatErrnoSays) {
  const ScratchFolder scratch;
  std::filesystem::permissions(scratch.path(), std::filesystem::perms(0755));
  std::filesystem::create_directory(scratch / "secret");
  Spill(scratch / "secret/x", "run: {name: x}\n");
  std::filesystem::create_symlink("loop", scratch / "loop");
  const std::string long_name(300, 'n');
  Spill(scratch / "x.sweep", "name: s\nbase: secret/x\naxes: {run.seed: [1]}\n");
  Spill(scratch / "loop.sweep", "name: s\nbase: loop\naxes: {run.seed: [1]}\n");
  std::filesystem::permissions(scratch / "secret", std::filesystem::perms(geteuid() == 0 ? 0700 : 0));
  const AsNobody nobody;
  for (const Door& door : Doors(scratch.path())) {
    const Error secret = ErrorOf([&] { door.open(scratch / "secret/x"); });
    EXPECT_EQ(secret.code(), ExitCode::kIo) << door.name << ": " << secret.what();
    EXPECT_NE(std::string(secret.what()).find("Permission denied"), std::string::npos) << secret.what();
    const Error loop = ErrorOf([&] { door.open(scratch / "loop"); });
    EXPECT_EQ(loop.code(), ExitCode::kMissingInput) << door.name << ": " << loop.what();
    EXPECT_NE(std::string(loop.what()).find("Too many levels of symbolic links"), std::string::npos) << loop.what();
    if (door.name != std::string("base of a sweep")) {
      const Error longest = ErrorOf([&] { door.open(scratch / long_name); });
      EXPECT_EQ(longest.code(), ExitCode::kMissingInput) << door.name << ": " << longest.what();
      EXPECT_NE(std::string(longest.what()).find("File name too long"), std::string::npos) << longest.what();
    }
  }
}

TEST(Unreadable, IncludedFilesAreNamedInTheReport) {
  const ScratchFolder scratch;
  std::filesystem::create_symlink("loop", scratch / "loop");
  Spill(scratch / "t.yaml", "include: [loop]\nrun: {name: x}\n");
  const Error error = ErrorOf([&] { static_cast<void>(LoadConfig(scratch / "t.yaml")); });
  EXPECT_EQ(error.code(), ExitCode::kConfig);
  EXPECT_NE(std::string(error.what()).find("loop: cannot be examined: Too many levels"), std::string::npos)
      << error.what();
}

// The table's folder is known to be unusable before the first cell, not after the last.
TEST(Unreadable, TablesSayWhyTheyCannotBeWritten) {
  const ScratchFolder scratch;
  Spill(scratch / "file", "");
  Sweep sweep;
  sweep.dir = scratch / "file/table";
  sweep.cells.emplace_back();
  const Error error = ErrorOf([&] { WriteSweepTable(sweep, Table({})); });
  EXPECT_EQ(error.code(), ExitCode::kCannotCreate);
  EXPECT_NE(std::string(error.what()).find("Not a directory"), std::string::npos) << error.what();
}

}  // namespace
}  // namespace ksa::testing
