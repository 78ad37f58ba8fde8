#include "data/files/hdf5_library.h"

#include <fmt/core.h>
#include <hdf5.h>

namespace ksa {

Hdf5Library Hdf5LibraryHere() {
  Hdf5Library library;
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  if (H5get_libversion(&major, &minor, &release) >= 0) {
    library.running = fmt::format("{}.{}.{}", major, minor, release);
  }
  library.built = fmt::format("{}.{}.{}", H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE);
  hbool_t thread_safe = 0;
  library.thread_safe = H5is_library_threadsafe(&thread_safe) >= 0 && thread_safe != 0;
  return library;
}

}  // namespace ksa
