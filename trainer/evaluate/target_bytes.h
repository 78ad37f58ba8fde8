// Bytes of text that the targets of a batch stand for, which turn nats a token into bits a byte.
#pragma once

#include <cstdint>

#include "data/loader/batch.h"
#include "data/tokenizers/tokenizer.h"

namespace ksa {

// Of all targets of the batch; the end of a document stands for none. `tokenizer`: the one they were made with, which
// spells text.
[[nodiscard]] int64_t TargetBytes(const Batch& batch, const Tokenizer& tokenizer);

// `loss`: summed over targets, in nats.
[[nodiscard]] double BitsPerByte(double loss, int64_t bytes);

}  // namespace ksa
