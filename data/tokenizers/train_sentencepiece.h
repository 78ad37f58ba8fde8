// Trains a SentencePiece model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace ksa {

// SentencePiece leaves out longer lines, and lines with its own mark for unknown characters, without a word.
inline constexpr size_t kLongestTrainingLine = size_t{1} << 16;         // bytes
inline constexpr std::string_view kSentencePieceMark = "\xE2\x96\x85";  // U+2585

enum class SentencePieceKind : int { kBpe, kUnigram };

struct SentencePieceTraining {
  SentencePieceKind kind = SentencePieceKind::kBpe;
  int32_t vocab_size = 4096;           // unknown, beginning, end and, with byte_fallback, 256 bytes included
  bool byte_fallback = true;           // characters outside the vocabulary become bytes instead of <unk>
  double character_coverage = 0.9995;  // share of the characters that get a piece of their own
  int64_t max_sentences = 2'000'000;   // at most as many lines are kept in memory, drawn evenly; 0: all
  int threads = 1;
};

// The model's file. `next` puts the next line of text into its argument and returns false at the end; a line is at most
// kLongestTrainingLine bytes and without kSentencePieceMark. The model keeps
// line breaks and runs of spaces, has <unk> 0, <s> 1 and </s> 2 (the eos of shards), and depends on the text and the
// options alone. Error kBadData: too little text for the vocabulary, no text.
[[nodiscard]] std::string TrainSentencePiece(const SentencePieceTraining& training,
                                             const std::function<bool(std::string&)>& next);

}  // namespace ksa
