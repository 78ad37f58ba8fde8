#include "data/files/hdf5_handle.h"

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <string_view>

namespace ksa {
namespace {

// What a damaged file makes HDF5 ask of the system: a place that no file has.
bool ComesOfDamage(int error) {
  return error == EINVAL || error == EOVERFLOW || error == EFBIG;
}

}  // namespace

void PrepareHdf5() {
  static_cast<void>(H5dont_atexit());
  static_cast<void>(H5open());
  static_cast<void>(H5PLset_loading_state(0));
  static_cast<void>(H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr));
}

std::string LastHdf5Error() {
  std::string message;
  // Upward begins with the call that failed first.
  const auto keep_first = [](unsigned, const H5E_error2_t* error, void* data) -> herr_t {
    auto& kept = *static_cast<std::string*>(data);
    if (kept.empty() && error->desc != nullptr) {
      kept = error->desc;
    }
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &message);
  return message.empty() ? "no detail" : message;
}

// HDF5 has no other way to ask: its file driver puts the number into the message.
int LastHdf5Errno() {
  constexpr std::string_view kMark = "errno = ";
  const std::string message = LastHdf5Error();
  const size_t mark = message.find(kMark);
  int error = 0;
  if (mark != std::string::npos) {
    static_cast<void>(std::from_chars(message.data() + mark + kMark.size(), message.data() + message.size(), error));
  }
  return error;
}

void Hdf5Context::FailCall(const char* what) const {
  const std::string action = fmt::format("{} failed", what);
  if (const int error = LastHdf5Errno(); error != 0 && !(code == ExitCode::kBadData && ComesOfDamage(error))) {
    const FileUse use = code == ExitCode::kBadData        ? FileUse::kRead
                        : code == ExitCode::kCannotCreate ? FileUse::kCreate
                                                          : FileUse::kWrite;
    FailFile(use, error, path, action);
  }
  FailWith(fmt::format("{}: {}", action, LastHdf5Error()));
}

}  // namespace ksa
