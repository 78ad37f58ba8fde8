// How much text the targets of a validation are: what turns nats a token into bits a byte.
#pragma once

#include <cstddef>
#include <optional>

#include "data/loader/dataset.h"
#include "data/sampling/even_samples.h"
#include "data/tokenizers/tokenizer.h"

namespace ksa {

// Bytes of text a target, over all targets of `samples` of a validation source; an end of document is none. None where
// the tokenizer does not know the text of its ids (imported shards), or there is none.
[[nodiscard]] std::optional<double> BytesPerTarget(const Dataset& dataset,
                                                   size_t source,
                                                   const EvenSamples& samples,
                                                   const Tokenizer& tokenizer);

}  // namespace ksa
