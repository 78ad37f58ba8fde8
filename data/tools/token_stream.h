// Token files of other trainers, read in blocks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/files/posix_file.h"
#include "data/tools/import.h"

namespace ksa {

// An integer type that tokens are stored in, little-endian.
struct IntegerType {
  int bytes = 2;
  bool is_signed = false;
};

// One file: where its tokens lie, and where its documents end if it says so.
struct TokenStream {
  File file;
  IntegerType type;
  int64_t begin = 0;                   // byte offset of the first token
  int64_t count = 0;                   // tokens
  std::vector<int64_t> document_ends;  // token numbers, rising; empty: documents end at eos alone
};

// `vocab_size`: of the tokens that are expected, which tells kAuto whether they can be u16. Error kMissingInput, kIo,
// kBadData: see ImportTokens.
[[nodiscard]] TokenStream OpenTokenStream(const std::string& path, ImportFormat format, int64_t vocab_size);

// Tokens [first, first + count). Error kBadData for one that is not in [0, vocab_size).
void ReadTokens(
    const TokenStream& stream, int64_t first, int64_t count, int64_t vocab_size, std::vector<int32_t>& tokens);

}  // namespace ksa
