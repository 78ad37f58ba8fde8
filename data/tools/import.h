// `ksa data import`: token files of other trainers to a folder of token shards.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tools/shard_space.h"

namespace ksa {

enum class ImportFormat : int {
  kAuto,      // megatron when FILE.idx is beside it, raw when FILE.bin.meta is, llmc by its header, else nanogpt where
              // nothing speaks against it
  kLlmc,      // 256 int32 (20240520, 1, token count, …), then u16 tokens; (20240801, 7, …), then u32
  kNanoGpt,   // u16 tokens and nothing else
  kMegatron,  // FILE.bin with FILE.idx
  kRaw,       // integers whose type FILE.bin.meta names
};

struct ImportOptions {
  std::vector<std::string> inputs;  // .bin files, in this order
  std::string output;
  ImportFormat format = ImportFormat::kAuto;
  std::string tokenizer;       // `byte` or the file of one; empty: unknown here, described by the next three
  std::string tokenizer_name;  // e.g. gpt2
  int64_t vocab_size = 0;
  int64_t eos_id = -1;
  int shards = 1;
  Warn warn = [](const std::string&) {};  // is told of what looks wrong but may be meant
};

struct ImportSummary {
  int64_t tokens = 0;
  int64_t documents = 0;
  int64_t shards = 0;
};

// Documents are cut behind every eos (Megatron: also where its index cuts them). A lone eos is no document, and a
// document without an eos at its end gets one. Memory does not grow with the files. Error kUsage: the tokenizer is
// neither given nor described; kMissingInput; kBadData: not of the format, cut short, a token outside the vocabulary,
// no document; kCannotCreate; kIo.
[[nodiscard]] ImportSummary ImportTokens(const ImportOptions& options);

}  // namespace ksa
