#include "data/files/known_format.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "data/files/posix_file.h"

namespace ksa {
namespace {

struct Beginning {
  std::string_view bytes;  // a ? stands for any
  KnownFormat format;
};

using namespace std::string_view_literals;

constexpr std::array<Beginning, 13> kBeginnings = {{
    {"\x1f\x8b\x08"sv, {"compressed (gzip)", "unpack it first: gzip -dk {}", true}},
    {"\x28\xb5\x2f\xfd"sv, {"compressed (zstd)", "unpack it first: zstd -dk {}", true}},
    {"\xfd"
     "7zXZ\0"sv,
     {"compressed (xz)", "unpack it first: xz -dk {}"}},
    {"BZh?1AY&"sv, {"compressed (bzip2)", "unpack it first: bzip2 -dk {}"}},
    {"\x04\x22\x4d\x18"sv, {"compressed (lz4)", "unpack it first: lz4 -dk {}"}},
    {"PK\x03\x04"sv, {"a zip archive", "unpack it first: unzip {}"}},
    {"PAR1\x15"sv, {"a Parquet table", "write its text column as JSON lines first, and give --jsonl-field"}},
    {"ARROW1\0\0"sv, {"an Arrow table", "write its text column as JSON lines first, and give --jsonl-field"}},
    {"\x89HDF"sv,
     {"an HDF5 file, perhaps a token shard already", "`ksa data inspect` shows what a folder of shards holds"}},
    {"\x93NUMPY"sv,
     {"a NumPy array", "write its numbers alone (array.tofile) and their type to FILE.bin.meta, for ksa data import"}},
    {"MMIDIDX"sv, {"the index of a Megatron file", "give the .bin beside it to ksa data import"}},
    {"BIN.TOK\n"sv, {"a token file of LLM.Q, which is not read here", ""}},
    // 20240522 as an int32.
    {"\x8a\xd8\x34\x01"sv, {"an evaluation file of llm.c, which holds questions and answers", ""}},
}};

}  // namespace

std::optional<KnownFormat> FormatOfBeginning(std::string_view bytes) {
  const auto* found = std::find_if(kBeginnings.begin(), kBeginnings.end(), [&](const Beginning& beginning) {
    const std::string_view wanted = beginning.bytes;
    return bytes.size() >= wanted.size() &&
           std::equal(wanted.begin(), wanted.end(), bytes.begin(), [](char a, char b) { return a == '?' || a == b; });
  });
  return found == kBeginnings.end() ? std::nullopt : std::optional(found->format);
}

std::optional<KnownFormat> FormatOfFile(const std::string& path) {
  const File file = File::OpenForReading(path);
  std::array<char, 8> bytes{};
  const int64_t read = std::min(file.Size(), static_cast<int64_t>(bytes.size()));
  file.ReadAt(0, bytes.data(), read);
  return FormatOfBeginning({bytes.data(), static_cast<size_t>(read)});
}

std::string CureFor(const KnownFormat& format, const std::string& path) {
  std::string cure(format.cure);
  const size_t place = cure.find("{}");
  return place == std::string::npos ? cure : cure.replace(place, 2, path);
}

}  // namespace ksa
