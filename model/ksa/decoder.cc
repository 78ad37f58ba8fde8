#include "model/ksa/decoder.h"

#include <algorithm>
#include <utility>

namespace ksa {
namespace {

// What waits for each operation, or watches it, is told of none that is in a recorded step. Ranks that sum over each
// other queue their own.
bool CanRecord(const ExecContext& cx) {
  const bool alone = cx.mesh == nullptr || cx.mesh->Size(MeshAxis::kTensor) == 1;
  return alone && !cx.stream.dry && !cx.stream.synchronous && cx.stream.tracer == nullptr;
}

int64_t BytesOf(const std::vector<std::unique_ptr<LayerCache>>& caches) {
  int64_t bytes = 0;
  for (const std::unique_ptr<LayerCache>& cache : caches) {
    bytes += cache == nullptr ? 0 : cache->bytes();
  }
  return bytes;
}

}  // namespace

Decoder::Decoder(const ExecContext& cx, KsaModel& model, const Size& size, double mix)
    : cx_(cx), model_(model), mix_(mix), tokens_(std::max(size.tokens, kLeastCacheTokens)) {
  KSA_CHECK(cx.tape == nullptr && size.sequences > 0, "a decoder of {} sequences, without a tape", size.sequences);
  if (const std::string problem = model.WhyNoCaches(cx); !problem.empty()) {
    Fail(ExitCode::kConfig, "{}", problem);
  }
  caches_ = model.MakeCaches(cx, size.sequences, tokens_);
  lengths_.resize(static_cast<size_t>(size.sequences));
  const bool wanted = size.recording == StepRecording::kAlways ||
                      (size.recording == StepRecording::kOnGpus && !cx.stream.device.IsCpu());
  if (wanted && CanRecord(cx)) {
    records_ = std::make_unique<StepRecords>(cx_);
  }
}

// The same buffers, at addresses that do not exist.
int64_t Decoder::BytesOfSequence(const ExecContext& cx, const KsaModel& model, int32_t tokens) {
  ImaginarySlabs slabs(cx.stream.device);
  ArenaAllocator imaginary(slabs);
  ExecContext dry = cx;
  dry.stream.dry = true;
  dry.allocator = &imaginary;
  return BytesOf(model.MakeCaches(dry, 1, std::max(tokens, kLeastCacheTokens)));
}

int64_t Decoder::CacheBytes() const {
  return BytesOf(caches_);
}

// A summary is kept as soon as its chunk has ended, though no text sees it yet: so all whole chunks have rows.
Tensor Decoder::Prefill(int32_t slot, std::span<const int32_t> ids) {
  const auto tokens = static_cast<int32_t>(ids.size());
  KSA_CHECK(tokens > 0 && tokens <= tokens_, "a sequence of {} tokens; a slot has room for {}", tokens, tokens_);
  SummaryLayout layout = MakeLayout(model_.config(), 1, tokens);
  if (layout.summary_tokens > 0) {
    layout.live_chunks = tokens / layout.chunk_size;
  }
  const Var hidden = model_.Hidden(cx_,
                                   {.ids = UploadNumbers(cx_, std::vector<int32_t>(ids.begin(), ids.end()), {tokens}),
                                    .layout = layout,
                                    .mix = mix_,
                                    .caches = &caches_,
                                    .slot = slot});
  lengths_.at(static_cast<size_t>(slot)) = tokens;
  return hidden.value.Rows(tokens - 1, 1);
}

Tensor Decoder::Step(std::span<const Next> next) {
  std::vector<DecodeToken> tokens;
  for (const Next& token : next) {
    int32_t& length = lengths_.at(static_cast<size_t>(token.slot));
    KSA_CHECK(length > 0 && length < tokens_, "slot {} has {} tokens of {}", token.slot, length, tokens_);
    tokens.push_back({token.slot, length++, token.id});
  }
  StepTokens step_tokens(std::move(tokens), MakeLayout(model_.config(), 1, 1));
  const auto pass = [this](const ExecContext& cx, DecodeStep& step) {
    const Tensor ids = step.Ids();
    return model_.Hidden(cx, {.ids = ids, .layout = step.Layout(), .mix = mix_, .caches = &caches_, .step = &step})
        .value;
  };
  if (records_ != nullptr) {
    return records_->Run(std::move(step_tokens), pass);
  }
  DecodeStep step(cx_, std::move(step_tokens));
  return pass(cx_, step);
}

TensorView Decoder::Logits(const Tensor& hidden) {
  logits_ = model_.Logits(cx_, hidden);
  if (cx_.stream.device.IsCpu()) {
    return logits_;
  }
  const int64_t bytes = logits_.view().bytes();
  if (on_host_ == nullptr || on_host_->bytes() < bytes) {
    on_host_ = std::make_unique<PinnedMemory>(bytes, cx_.stream);
  }
  const TensorView host = {on_host_->data(), logits_.dtype(), {}, logits_.shape()};
  CopyToHost(logits_, host, cx_.stream);
  return host;
}

}  // namespace ksa
