// Tokenizers for Hugging Face folders.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizers/tokenizer.h"

namespace ksa {

struct FolderFile {
  std::string name;
  std::string contents;
};

struct ExportedTokenizer {
  std::vector<FolderFile> files;
  std::vector<std::string> notes;  // what could not be kept, and why
};

// Byte tokens become a tokenizer.json whose ids are the bytes; a SentencePiece model is shipped as it is; ids whose
// text is not known have no file. `max_length`: the longest text, in tokens.
[[nodiscard]] ExportedTokenizer ExportTokenizer(const Tokenizer& tokenizer, int64_t max_length);

// Whether a tokenizer.json is the one that the byte tokenizer is exported as.
[[nodiscard]] bool IsExportedByteTokenizer(const std::string& contents);

}  // namespace ksa
