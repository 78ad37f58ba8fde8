// Files that are easily taken for others, told by how they begin.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ksa {

struct KnownFormat {
  std::string_view name;     // "compressed (gzip)", "an HDF5 file, perhaps a token shard already"
  std::string_view cure;     // what makes text or tokens of it, with {} for the file; empty: nothing that is known
  bool is_unpacked = false;  // where text is read: it is taken as the text that was compressed
};

// By the first bytes of a file; none: nothing that is known here. Text and plain integers never begin like these.
[[nodiscard]] std::optional<KnownFormat> FormatOfBeginning(std::string_view bytes);

// By the beginning of a file. Error kMissingInput, kIo.
[[nodiscard]] std::optional<KnownFormat> FormatOfFile(const std::string& path);

// The cure for a file, as in "unpack it first: gzip -dk a.gz".
[[nodiscard]] std::string CureFor(const KnownFormat& format, const std::string& path);

}  // namespace ksa
