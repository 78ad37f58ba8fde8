#include "data/files/hdf5_handle.h"

namespace ksa {

void PrepareHdf5() {
  static_cast<void>(H5dont_atexit());
  static_cast<void>(H5open());
  static_cast<void>(H5PLset_loading_state(0));
  static_cast<void>(H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr));
}

std::string LastHdf5Error() {
  std::string message = "no detail";
  const auto keep = [](unsigned, const H5E_error2_t* error, void* data) -> herr_t {
    if (error->desc != nullptr) {
      *static_cast<std::string*>(data) = error->desc;
    }
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep, &message);
  return message;
}

}  // namespace ksa
