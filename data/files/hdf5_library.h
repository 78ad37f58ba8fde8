// Which HDF5 this program runs with.
#pragma once

#include <string>

namespace ksa {

struct Hdf5Library {
  std::string running;       // "1.10.8"
  std::string built;         // that the program was built with
  bool thread_safe = false;  // ksa does not need it: one thread at a time calls HDF5
};

[[nodiscard]] Hdf5Library Hdf5LibraryHere();

}  // namespace ksa
