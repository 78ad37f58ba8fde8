// A Hugging Face folder as weights under our names. docs/design/interop.md.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/tokenizers/tokenizer.h"
#include "trainer/checkpoint/checkpoint_sink.h"
#include "trainer/checkpoint/tensor_source.h"
#include "trainer/interop/hf_config.h"

namespace ksa {

struct HfFolder {
  std::string path;
  HfModel hf;
  std::shared_ptr<TensorSource> weights;  // named as parameters
  bool all_fp64 = false;                  // every tensor is stored as F64
  std::vector<std::string> unused;        // tensors that the layout says are not needed
};

// Whether `path` is such a folder: it has a config.json and no manifest of ours. Error(kIo).
[[nodiscard]] bool IsHfFolder(const std::string& path);

// Reads and checks config.json and the headers of the weights, but no weights beyond what the layout must know. Error
// (kMissingInput), kBadData, kConfig, kIo.
[[nodiscard]] HfFolder OpenHfFolder(const std::string& path);

// What differs between the folder's model and `ours`, other than its kinds of layers: `problems` are refused, `notes`
// are a model's to choose (RoPE's base, the longest position).
struct HfComparison {
  std::vector<std::string> problems;
  std::vector<std::string> notes;
};

[[nodiscard]] HfComparison CompareModels(const HfModel& hf, const ModelConfig& ours);

// Error(kConfig) with all problems; returns the notes.
std::vector<std::string> CheckHfModel(const HfFolder& folder, const ModelConfig& ours);

// The folder's tokenizer and its file's path; a null one where there is none that this program reads, and `why` says
// so.
struct FolderTokenizer {
  std::string path;
  std::unique_ptr<Tokenizer> tokenizer;
  std::string why;
};

[[nodiscard]] FolderTokenizer OpenTokenizerOfFolder(const std::string& path);

}  // namespace ksa
