#include "trainer/evaluate/target_bytes.h"

#include <numbers>
#include <vector>

namespace ksa {
namespace {

// Bytes of `text`, tokens of one document, behind the token `before`: one of the same document, or the end of another.
int64_t BytesOf(const std::vector<int32_t>& text, int32_t before, const Tokenizer& tokenizer) {
  if (text.empty()) {
    return 0;
  }
  if (before == tokenizer.eos_id()) {
    return static_cast<int64_t>(tokenizer.Decode(text).size());
  }
  std::vector<int32_t> behind = {before};
  behind.insert(behind.end(), text.begin(), text.end());
  return static_cast<int64_t>(DecodeBehind(tokenizer, behind, 1).size());
}

}  // namespace

int64_t TargetBytes(const Batch& batch, const Tokenizer& tokenizer) {
  const auto eos = static_cast<int32_t>(tokenizer.eos_id());
  int64_t bytes = 0;
  std::vector<int32_t> text;  // targets that follow each other in one document
  int32_t before = 0;         // the token before them
  for (size_t row = 0; row < batch.targets.size(); ++row) {
    const bool goes_on = row % static_cast<size_t>(batch.sequence_length) != 0 && batch.targets[row] >= 0 &&
                         batch.targets[row - 1] == batch.inputs[row] && batch.inputs[row] != eos;
    if (!goes_on) {
      bytes += BytesOf(text, before, tokenizer);
      text.clear();
      before = batch.inputs[row];
    }
    if (batch.targets[row] >= 0 && batch.targets[row] != eos) {
      text.push_back(batch.targets[row]);
    }
  }
  return bytes + BytesOf(text, before, tokenizer);
}

double BitsPerByte(double loss, int64_t bytes) {
  return loss / std::numbers::ln2 / static_cast<double>(bytes);
}

}  // namespace ksa
