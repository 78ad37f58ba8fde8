#include "data/tools/token_stream.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "data/files/known_format.h"
#include "data/files/paths.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int64_t kLlmcHeaderBytes = 256 * 4;

// The token files of llm.c: u16 of GPT-2, u32 of Llama 3.
struct LlmcKind {
  int32_t magic;
  int32_t version;
  IntegerType type;
};

constexpr std::array<LlmcKind, 2> kLlmcKinds = {{{20240520, 1, {2, false}}, {20240801, 7, {4, false}}}};

std::string IndexPath(const std::string& path) {
  const size_t name = path.rfind('/') + 1;
  const size_t dot = path.rfind('.');
  return (dot == std::string::npos || dot <= name ? path : path.substr(0, dot)) + ".idx";
}

std::string MetaPath(const std::string& path) {
  return path + ".meta";
}

template <typename T>
T ReadValue(const File& file, int64_t offset) {
  T value;
  file.ReadAt(offset, &value, sizeof value);
  return value;
}

// The kind of llm.c's file whose magic number begins the file.
const LlmcKind* FindLlmcKind(const File& file) {
  const int32_t magic = file.Size() >= kLlmcHeaderBytes ? ReadValue<int32_t>(file, 0) : 0;
  for (const LlmcKind& kind : kLlmcKinds) {
    if (kind.magic == magic) {
      return &kind;
    }
  }
  return nullptr;
}

// Throws when the file begins as one of another format, which nothing else would notice: any bytes are u16.
void CheckBeginning(const File& file) {
  if (const std::optional<KnownFormat> format = FormatOfFile(file.path())) {
    const std::string cure = CureFor(*format, file.path());
    Fail(ExitCode::kBadData,
         "{}: {}{}. If it is tokens all the same, say --format nanogpt, or name their type in {}",
         file.path(),
         format->name,
         cure.empty() ? "" : "; " + cure,
         MetaPath(file.path()));
  }
}

// Throws when the file, which has no header, can hardly be u16.
void CheckPlainU16(const File& file, int64_t vocab_size) {
  constexpr int64_t kLooked = int64_t{1} << 16;  // numbers
  constexpr size_t kLeast = 16;                  // fewer say nothing
  if (vocab_size > 65536) {
    Fail(ExitCode::kBadData,
         "{}: no header that is known, and u16 cannot hold a vocabulary of {}; name the type of the integers (such as "
         "uint32) in {}, or say --format nanogpt",
         file.path(),
         vocab_size,
         MetaPath(file.path()));
  }
  std::vector<uint16_t> numbers(static_cast<size_t>(std::min(kLooked, file.Size() / 4 * 2)));
  file.ReadAt(0, numbers.data(), static_cast<int64_t>(numbers.size() * sizeof(uint16_t)));
  std::array<bool, 2> zero = {true, true};  // every even, every odd place
  for (size_t i = 0; i < numbers.size(); ++i) {
    zero[i % 2] = zero[i % 2] && numbers[i] == 0;
  }
  if (numbers.size() >= kLeast && (zero[0] || zero[1])) {
    Fail(ExitCode::kBadData,
         "{}: read as u16, every second number is 0: these are wider integers. Name their type (such as uint32) in {}, "
         "or say --format nanogpt",
         file.path(),
         MetaPath(file.path()));
  }
}

ImportFormat Guess(const std::string& path, const File& file, int64_t vocab_size) {
  if (path != IndexPath(path) && Exists(IndexPath(path))) {
    return ImportFormat::kMegatron;
  }
  if (Exists(MetaPath(path))) {
    return ImportFormat::kRaw;
  }
  if (FindLlmcKind(file) != nullptr) {
    return ImportFormat::kLlmc;
  }
  CheckBeginning(file);
  CheckPlainU16(file, vocab_size);
  return ImportFormat::kNanoGpt;
}

// Everything from byte `begin` on is tokens.
void TakeRest(TokenStream& stream, int64_t begin) {
  const int64_t bytes = stream.file.Size() - begin;
  if (bytes % stream.type.bytes != 0) {
    Fail(ExitCode::kBadData,
         "{}: {} bytes of tokens are no whole number of {}-byte integers; the file is cut short or of another format",
         stream.file.path(),
         bytes,
         stream.type.bytes);
  }
  stream.begin = begin;
  stream.count = bytes / stream.type.bytes;
}

void OpenLlmc(TokenStream& stream) {
  const std::string& path = stream.file.path();
  const LlmcKind* kind = FindLlmcKind(stream.file);
  if (kind == nullptr) {
    Fail(ExitCode::kBadData,
         "{}: not a token file of llm.c (its first integer is neither {} nor {})",
         path,
         kLlmcKinds[0].magic,
         kLlmcKinds[1].magic);
  }
  const int32_t version = ReadValue<int32_t>(stream.file, 4);
  if (version != kind->version) {
    Fail(ExitCode::kBadData,
         "{}: a token file of llm.c ({}) of version {}; version {} is read here",
         path,
         kind->magic,
         version,
         kind->version);
  }
  stream.type = kind->type;
  TakeRest(stream, kLlmcHeaderBytes);
  const int32_t count = ReadValue<int32_t>(stream.file, 8);
  if (count != stream.count) {
    Fail(ExitCode::kBadData,
         "{}: the header counts {} tokens, the file holds {}; it is cut short or damaged",
         path,
         count,
         stream.count);
  }
}

// The integer types that a .bin.meta may name, by numpy's long and short names.
std::optional<IntegerType> TypeNamed(std::string_view word) {
  static constexpr std::array<std::pair<std::string_view, IntegerType>, 14> kNames = {{
      {"uint8", {1, false}},
      {"uint16", {2, false}},
      {"uint32", {4, false}},
      {"uint64", {8, false}},
      {"int8", {1, true}},
      {"int16", {2, true}},
      {"int32", {4, true}},
      {"int64", {8, true}},
      {"u2", {2, false}},
      {"u4", {4, false}},
      {"u8", {8, false}},
      {"i2", {2, true}},
      {"i4", {4, true}},
      {"i8", {8, true}},
  }};
  for (const auto& [name, type] : kNames) {
    if (word == name) {
      return type;
    }
  }
  return std::nullopt;
}

// The one type that the text names as a word: `uint16`, `{"dtype": "uint16"}`, `numpy.uint16` and `<u2` all do.
IntegerType TypeInMeta(const std::string& path) {
  const std::string text = ReadSmallFile(path, int64_t{1} << 20);
  const auto in_word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
  std::optional<IntegerType> found;
  for (size_t begin = 0; begin < text.size(); ++begin) {
    size_t end = begin;
    while (end < text.size() && in_word(text[end])) {
      ++end;
    }
    const std::optional<IntegerType> type = TypeNamed(std::string_view(text).substr(begin, end - begin));
    if (type.has_value() && found.has_value() && (found->bytes != type->bytes || found->is_signed != type->is_signed)) {
      Fail(ExitCode::kBadData, "{}: names more than one integer type", path);
    }
    found = type.has_value() ? type : found;
    begin = end;
  }
  if (!found.has_value()) {
    Fail(ExitCode::kBadData, "{}: names no integer type (uint16, int32, …) for the tokens beside it", path);
  }
  return *found;
}

// --- Megatron: magic, u64 version, u8 dtype code, u64 sequences, u64 documents (one more than there are), i32 length
// of each sequence, i64 byte offset of each, i64 first sequence of each document.

IntegerType MegatronType(const std::string& path, uint8_t code) {
  switch (code) {
    case 1:
      return {1, false};
    case 2:
      return {1, true};
    case 3:
      return {2, true};
    case 4:
      return {4, true};
    case 5:
      return {8, true};
    case 8:
      return {2, false};
    default:
      Fail(ExitCode::kBadData, "{}: tokens of the type code {}, which is no integer", path, code);
  }
}

struct MegatronIndex {
  IntegerType type;
  std::vector<int32_t> lengths;  // of the sequences, in tokens
  std::vector<int64_t> offsets;  // of the sequences, in bytes
  std::vector<int64_t> starts;   // first sequence of each document, and the number of sequences
};

MegatronIndex ReadMegatronIndex(const std::string& path) {
  constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
  constexpr int64_t kHeader = 9 + 8 + 1 + 8 + 8;
  const File file = File::OpenForReading(path);
  std::array<char, 9> magic{};
  if (file.Size() >= kHeader) {
    file.ReadAt(0, magic.data(), magic.size());
  }
  if (std::string_view(magic.data(), magic.size()) != kMagic || ReadValue<uint64_t>(file, 9) != 1) {
    Fail(ExitCode::kBadData, "{}: not an index of Megatron, version 1", path);
  }
  const auto sequences = ReadValue<uint64_t>(file, 18);
  const auto documents = ReadValue<uint64_t>(file, 26);
  const auto room = static_cast<uint64_t>(file.Size() - kHeader);
  if (sequences > room / 12 || documents > room / 8 || sequences * 12 + documents * 8 > room || documents < 1) {
    Fail(ExitCode::kBadData, "{}: {} sequences and {} documents do not fit in the file", path, sequences, documents);
  }
  MegatronIndex index{MegatronType(path, ReadValue<uint8_t>(file, 17)), {}, {}, {}};
  int64_t at = kHeader;
  const auto read = [&](auto& array, uint64_t count) {
    array.resize(count);
    const auto bytes = static_cast<int64_t>(count * sizeof(array[0]));
    file.ReadAt(at, array.data(), bytes);
    at += bytes;
  };
  read(index.lengths, sequences);
  read(index.offsets, sequences);
  read(index.starts, documents);
  return index;
}

void OpenMegatron(TokenStream& stream) {
  const std::string path = IndexPath(stream.file.path());
  const MegatronIndex index = ReadMegatronIndex(path);
  stream.type = index.type;
  TakeRest(stream, 0);
  std::vector<int64_t> sequence_ends = {0};
  for (size_t i = 0; i < index.lengths.size(); ++i) {
    if (index.lengths[i] < 0 || index.offsets[i] != sequence_ends.back() * stream.type.bytes) {
      Fail(ExitCode::kBadData, "{}: sequence {} does not follow the one before it", path, i);
    }
    sequence_ends.push_back(sequence_ends.back() + index.lengths[i]);
  }
  if (sequence_ends.back() != stream.count) {
    Fail(ExitCode::kBadData,
         "{}: the index counts {} tokens, {} holds {}",
         path,
         sequence_ends.back(),
         stream.file.path(),
         stream.count);
  }
  for (const int64_t start : index.starts) {
    if (start < 0 || start >= static_cast<int64_t>(sequence_ends.size())) {
      Fail(ExitCode::kBadData, "{}: a document starts at sequence {} of {}", path, start, index.lengths.size());
    }
    const int64_t end = sequence_ends[static_cast<size_t>(start)];
    if (!stream.document_ends.empty() && end < stream.document_ends.back()) {
      Fail(ExitCode::kBadData, "{}: its documents are out of order", path);
    }
    stream.document_ends.push_back(end);
  }
}

template <typename T>
uint64_t LoadAs(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return static_cast<uint64_t>(static_cast<int64_t>(value));
}

// A negative number becomes a huge one.
uint64_t Load(const char* from, IntegerType type) {
  switch (type.bytes) {
    case 1:
      return type.is_signed ? LoadAs<int8_t>(from) : LoadAs<uint8_t>(from);
    case 2:
      return type.is_signed ? LoadAs<int16_t>(from) : LoadAs<uint16_t>(from);
    case 4:
      return type.is_signed ? LoadAs<int32_t>(from) : LoadAs<uint32_t>(from);
    default:
      return LoadAs<int64_t>(from);
  }
}

}  // namespace

TokenStream OpenTokenStream(const std::string& path, ImportFormat format, int64_t vocab_size) {
  TokenStream stream{File::OpenForReading(path), {}, 0, 0, {}};
  switch (format == ImportFormat::kAuto ? Guess(path, stream.file, vocab_size) : format) {
    case ImportFormat::kLlmc:
      OpenLlmc(stream);
      break;
    case ImportFormat::kMegatron:
      OpenMegatron(stream);
      break;
    case ImportFormat::kRaw:
      stream.type = TypeInMeta(MetaPath(path));
      TakeRest(stream, 0);
      break;
    case ImportFormat::kAuto:
    case ImportFormat::kNanoGpt:
      TakeRest(stream, 0);
      break;
  }
  return stream;
}

void ReadTokens(
    const TokenStream& stream, int64_t first, int64_t count, int64_t vocab_size, std::vector<int32_t>& tokens) {
  std::vector<char> bytes(static_cast<size_t>(count * stream.type.bytes));
  stream.file.ReadAt(stream.begin + first * stream.type.bytes, bytes.data(), static_cast<int64_t>(bytes.size()));
  tokens.resize(static_cast<size_t>(count));
  const auto limit = static_cast<uint64_t>(vocab_size);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const uint64_t value = Load(bytes.data() + i * static_cast<size_t>(stream.type.bytes), stream.type);
    if (value >= limit) {
      Fail(ExitCode::kBadData,
           "{}: token {} at position {} is outside the vocabulary of {}",
           stream.file.path(),
           stream.type.is_signed ? fmt::format("{}", static_cast<int64_t>(value)) : fmt::format("{}", value),
           first + static_cast<int64_t>(i),
           vocab_size);
    }
    tokens[i] = static_cast<int32_t>(value);
  }
}

}  // namespace ksa
