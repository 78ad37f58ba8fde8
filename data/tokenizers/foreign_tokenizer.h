// Tokenizers of other programs, to say what they are.
#pragma once

#include <string>
#include <string_view>

namespace ksa {

// What a file is that holds a tokenizer of another kind: "a tokenizer.json of Hugging Face's tokenizers (BPE, 50257
// tokens)"; empty: none that is known here.
[[nodiscard]] std::string DescribeForeignTokenizer(std::string_view contents);

}  // namespace ksa
