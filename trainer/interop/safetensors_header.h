// The header of a safetensors file: which tensors there are, and where. docs/design/interop.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/files/posix_file.h"
#include "kernels/core/dtype.h"

namespace ksa {

// How numbers are stored.
enum class StoredType : int { kF64, kF32, kF16, kBF16 };

[[nodiscard]] int64_t SizeOf(StoredType type);           // bytes an element
[[nodiscard]] std::string_view NameOf(StoredType type);  // "F64", "F32", "F16", "BF16"

// The type in which they are read: fp64 for F64, else fp32, which holds F16 and BF16 exactly.
[[nodiscard]] DType ReadTypeOf(StoredType type);

// The reference's limit.
inline constexpr int64_t kMostHeaderBytes = 100'000'000;

struct StoredTensor {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<int64_t> shape;  // every dimension at least 1; [] has one element
  int64_t begin = 0;           // bytes [begin, end) behind the header
  int64_t end = 0;

  friend bool operator==(const StoredTensor&, const StoredTensor&) = default;
};

struct SafetensorsHeader {
  int64_t data = 0;                   // where the bytes behind the header begin in the file
  std::vector<StoredTensor> tensors;  // in the order of their bytes, which they tile
};

// Parses the JSON text of a header whose data have `data_bytes` bytes. Stricter than the reference: a key that comes
// twice, an unknown key, a number that is no count, holes and overlaps are refused. `path` stands for the file in
// messages. Takes memory for what it accepts only. Error(kBadData).
[[nodiscard]] std::vector<StoredTensor> ParseSafetensorsHeader(std::string_view text,
                                                               int64_t data_bytes,
                                                               const std::string& path);

// Sizes are compared with the file before memory is taken. Error(kBadData), kIo.
[[nodiscard]] SafetensorsHeader ReadSafetensorsHeader(const File& file);

// Canonical: puts the tensors in order (falling size of their type, then names), gives them their bytes, and returns
// length, metadata and entries, padded to a multiple of 8.
[[nodiscard]] std::string RenderSafetensorsHeader(std::vector<StoredTensor>& tensors);

}  // namespace ksa
