#include "data/files/hdf5_handle.h"

#include <cerrno>
#include <charconv>
#include <functional>
#include <string_view>

#include "data/files/file_error.h"

namespace ksa {
namespace {

// Calls use(message) for every entry of the error stack, the innermost first.
void WalkErrors(const std::function<void(std::string_view)>& use) {
  const auto visit = [](unsigned, const H5E_error2_t* error, void* data) -> herr_t {
    if (error->desc != nullptr) {
      (*static_cast<const std::function<void(std::string_view)>*>(data))(error->desc);
    }
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, visit, const_cast<std::function<void(std::string_view)>*>(&use));
}

// What a damaged file makes HDF5 ask of the system: a place that no file has.
bool ComesOfDamage(int error) {
  return error == EINVAL || error == EOVERFLOW || error == EFBIG;
}

}  // namespace

std::unique_lock<std::recursive_mutex> LockHdf5() {
  static std::recursive_mutex mutex;
  return std::unique_lock(mutex);
}

void PrepareHdf5() {
  const auto lock = LockHdf5();
  static_cast<void>(H5dont_atexit());
  static_cast<void>(H5open());
  static_cast<void>(H5PLset_loading_state(0));
  static_cast<void>(H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr));
}

std::string LastHdf5Error() {
  std::string message;
  WalkErrors([&](std::string_view text) { message = message.empty() ? std::string(text) : message; });
  return message.empty() ? "no detail" : message;
}

int LastHdf5Errno() {
  constexpr std::string_view kMark = "errno = ";
  int error = 0;
  WalkErrors([&](std::string_view text) {
    const size_t at = text.find(kMark);
    if (error == 0 && at != std::string_view::npos) {
      static_cast<void>(std::from_chars(text.data() + at + kMark.size(), text.data() + text.size(), error));
    }
  });
  return error;
}

void Hdf5Context::FailCheck(const char* what) const {
  const int error = LastHdf5Errno();
  const bool reads = code == ExitCode::kBadData;
  if (error == 0 || (reads && ComesOfDamage(error))) {
    FailWith(fmt::format("{} failed: {}", what, LastHdf5Error()));
  }
  const FileUse use = reads ? FileUse::kRead : code == ExitCode::kCannotCreate ? FileUse::kCreate : FileUse::kWrite;
  FailFile(use, error, path, fmt::format("{} failed", what));
}

}  // namespace ksa
