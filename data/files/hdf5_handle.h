// Owners of HDF5 identifiers that check every return. Only .cc files include this.
#pragma once

#include <mutex>
#include <string>
#include <utility>

#include <hdf5.h>

#include "data/files/file_error.h"
#include "kernels/core/error.h"

namespace ksa {

// Before the first use: no plugins, no handler at exit (it crashes after a failed write), no messages on stderr.
void PrepareHdf5();

// The innermost message of HDF5's error stack, which is the nearest to the cause.
[[nodiscard]] std::string LastHdf5Error();

// The errno of the system call that HDF5 failed at; 0 when it was none.
[[nodiscard]] int LastHdf5Errno();

// HDF5 as it is built by default may be called by one thread at a time; a thread that saves a checkpoint runs beside
// one that reads shards. Held by every Hdf5Context; a thread may hold it several times.
[[nodiscard]] std::unique_lock<std::recursive_mutex> LockHdf5();

// Where errors of a file are reported. HDF5 belongs to the thread that has one, so it lives no longer than its calls.
struct Hdf5Context {
  const std::string& path;
  ExitCode code;  // of what HDF5 finds wrong; where the file system failed, errno decides
  std::unique_lock<std::recursive_mutex> lock = LockHdf5();

  [[noreturn]] void FailWith(const std::string& what) const { Fail(code, "{}: {}", path, what); }

  // Passes an identifier or a status of HDF5 through; negative is an error. Where the system refused something (a full
  // disk, no permission, too many open files) the error has its words and its code, whatever `code` is.
  template <typename T>
  T Check(T result, const char* what) const {
    if (result < 0) {
      FailCheck(what);
    }
    return result;
  }

  [[noreturn]] void FailCheck(const char* what) const;
};

// Owns an HDF5 identifier. Close() reports errors; the destructor, which runs after one, does not. `context` must
// outlive the handle.
class Hdf5Handle {
 public:
  using CloseFunction = herr_t (*)(hid_t);

  Hdf5Handle(const Hdf5Context& context, hid_t id, CloseFunction close, const char* what)
      : context_(context), id_(context.Check(id, what)), close_(close) {}

  Hdf5Handle(const Hdf5Handle&) = delete;
  Hdf5Handle& operator=(const Hdf5Handle&) = delete;

  ~Hdf5Handle() {
    if (id_ >= 0) {
      static_cast<void>(close_(id_));
    }
  }

  void Close() { context_.Check(close_(std::exchange(id_, hid_t{-1})), "closing"); }

  [[nodiscard]] hid_t id() const { return id_; }

 private:
  const Hdf5Context& context_;
  hid_t id_;
  CloseFunction close_;
};

}  // namespace ksa
