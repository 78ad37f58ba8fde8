#include "trainer/step/batch_flops.h"

namespace ksa {

double BatchFlops::Forward(const Batch& batch) {
  if (counter_ == nullptr || batch.sequence_length != sequence_length_) {
    counter_ = std::make_unique<ForwardCounter>(model_, batch.sequence_length);
    sequence_length_ = batch.sequence_length;
    plain_.reset();
  }
  const auto count = [&](const int32_t* first_chunk, const int32_t* chunk_tokens) {
    const SummaryLayout layout = MakeLayout(model_, batch.samples, batch.sequence_length, first_chunk, chunk_tokens);
    const ForwardFlops flops = counter_->Count(layout);
    return flops.Total() - flops.head;
  };
  const double head = counter_->HeadOfRow() * static_cast<double>(batch.target_count);
  if (!batch.chunk_tokens.empty()) {
    return head + count(batch.document_first_chunk.data(), batch.chunk_tokens.data());
  }
  if (!plain_.has_value() || batch.samples != samples_) {
    samples_ = batch.samples;
    plain_ = count(nullptr, nullptr);
  }
  return head + *plain_;
}

}  // namespace ksa
