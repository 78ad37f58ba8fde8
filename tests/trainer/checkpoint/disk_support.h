// Disks and users for tests of what a file system refuses; both need root.
#pragma once

#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace ksa::testing {

// A disk in memory for one test: mounted with `options` of tmpfs, as "size=9m".
class SmallDisk {
 public:
  SmallDisk(const std::string& path, const std::string& options) : path_(path) {
    std::filesystem::create_directory(path);
    mounted_ = mount("tmpfs", path.c_str(), "tmpfs", 0, options.c_str()) == 0;
  }

  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  ~SmallDisk() {
    if (mounted_) {
      static_cast<void>(umount2(path_.c_str(), MNT_DETACH));
    }
  }

  [[nodiscard]] bool mounted() const { return mounted_; }

 private:
  std::string path_;
  bool mounted_ = false;
};

// While it lives, this process may do what nobody in particular may do.
class AsNobody {
 public:
  AsNobody() : changed_(geteuid() == 0 && seteuid(kNobody) == 0) {}

  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

  ~AsNobody() {
    if (changed_) {
      static_cast<void>(seteuid(0) == 0);
    }
  }

 private:
  static constexpr uid_t kNobody = 65534;
  bool changed_;
};

}  // namespace ksa::testing
