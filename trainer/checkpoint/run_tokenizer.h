// Which tokenizer the model of a checkpoint was trained with, and whether other data was made with the same: one answer
// for evaluation, generation, checkpoint.load and checkpoint.resume.
#pragma once

#include <optional>
#include <string>

#include "data/loader/dataset.h"
#include "data/tokenizers/tokenizer.h"
#include "trainer/checkpoint/checkpoint.h"

namespace ksa {

// The tokenizer's file: the copy that the manifest names, else one in the checkpoint, else the one in the folder of its
// run (two above, whether or not a link led to the checkpoint). Nothing where there is none. Error(kBadData) when the
// manifest's copy is not what it says.
[[nodiscard]] std::optional<std::string> FindTokenizerFile(const Checkpoint& checkpoint);

// Error(kBadData) when the data was made with another tokenizer: its tokens mean something else to the model. False
// when the checkpoint's tokenizer is not there to compare with, which the caller should say. Data of tasks alone has no
// tokenizer and fits any.
[[nodiscard]] bool CheckTokenizer(const Checkpoint& checkpoint, const Dataset& data);

// The same of a tokenizer at `path`, with which the model of `model`, a path, was trained.
void CheckTokenizerOf(const std::string& model,
                      const std::string& path,
                      const Tokenizer& tokenizer,
                      const Dataset& data);

}  // namespace ksa
