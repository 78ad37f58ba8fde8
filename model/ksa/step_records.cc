#include "model/ksa/step_records.h"

#include <algorithm>
#include <utility>

namespace ksa {

Tensor StepRecords::Run(StepTokens tokens, const Pass& pass) {
  const Kind kind = {
      static_cast<int64_t>(tokens.tokens.size()), static_cast<int64_t>(tokens.ended.size()), tokens.most_tokens};
  const std::unique_ptr<Record>* found = records_.Find(kind);
  if (found == nullptr) {
    Record& record = *records_.Insert(kind, std::make_unique<Record>());
    DecodeStep step(cx_, std::move(tokens), &record.numbers);
    return pass(cx_, step);
  }
  Record& record = **found;
  if (record.work.empty()) {
    RecordStep(record, tokens, pass);
  }
  WriteNumbers(record, tokens);
  record.work.Launch(cx_.stream);
  return record.result;
}

// The step that is recorded knows these tokens, all others only the numbers in memory.
void StepRecords::RecordStep(Record& record, const StepTokens& tokens, const Pass& pass) {
  ExecContext inner = cx_;
  inner.allocator = &arena_;
  record.numbers.Fix(inner);
  record.work.Record(cx_.stream, [&record, inner, tokens, pass] {
    record.numbers.Restart();
    DecodeStep step(inner, tokens, &record.numbers);
    record.result = pass(inner, step);
  });
}

void StepRecords::WriteNumbers(Record& record, const StepTokens& tokens) {
  const int64_t count = record.numbers.total();
  const int64_t bytes = count * SizeOf(DType::kI32);
  staged_.Wait();
  if (staging_ == nullptr || staging_->bytes() < bytes) {
    staging_ = std::make_unique<PinnedMemory>(2 * bytes, cx_.stream);
  }
  auto* numbers = static_cast<int32_t*>(staging_->data());
  record.numbers.Make(tokens, numbers);
  CopyFromHost({numbers, DType::kI32, {}, {count}}, record.numbers.memory(), cx_.stream);
  staged_.Record(cx_.stream);
}

}  // namespace ksa
