// A folder that appears whole under its name, or not at all.
#pragma once

#include <string>

namespace ksa {

// Files are written to staging(); Commit() puts them in place, and without it the destructor removes them. A folder
// that is new is written beside its place, as `PATH.tmp-<process>`, and renamed. An empty folder that is there already,
// which may be a disk of its own or the working directory, keeps its place: files are written to `PATH/.ksa-tmp` and
// moved, index.json last. Links are resolved first.
class StagedFolder {
 public:
  // Everything that can be known is checked here, before the first byte. Error kCannotCreate: `path` holds something,
  // is no folder, has a name that cannot stand in an index (not UTF-8, too long), or may not be made there; kIo.
  explicit StagedFolder(const std::string& path);
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  ~StagedFolder();

  [[nodiscard]] const std::string& staging() const { return staging_; }

  // The last part of the resolved path.
  [[nodiscard]] std::string name() const;

  void Commit();

 private:
  std::string path_;  // resolved
  std::string staging_;
  bool inside_ = false;  // staging_ lies in path_
  bool committed_ = false;
};

}  // namespace ksa
