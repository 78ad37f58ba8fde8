#include "model/ksa/decoder.h"

#include <algorithm>
#include <utility>

namespace ksa {

Decoder::Decoder(const ExecContext& cx, KsaModel& model, const Size& size, double mix)
    : cx_(cx), model_(model), mix_(mix), tokens_(std::max(size.tokens, kLeastCacheTokens)) {
  KSA_CHECK(cx.tape == nullptr && size.sequences > 0, "a decoder of {} sequences, without a tape", size.sequences);
  if (const std::string problem = model.WhyNoCaches(cx); !problem.empty()) {
    Fail(ExitCode::kConfig, "{}", problem);
  }
  caches_ = model.MakeCaches(cx, size.sequences, tokens_);
  lengths_.resize(static_cast<size_t>(size.sequences));
}

int64_t Decoder::CacheBytes() const {
  int64_t bytes = 0;
  for (const std::unique_ptr<LayerCache>& cache : caches_) {
    bytes += cache->bytes();
  }
  return bytes;
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
  std::vector<int32_t> ids;
  for (const Next& token : next) {
    int32_t& length = lengths_.at(static_cast<size_t>(token.slot));
    KSA_CHECK(length > 0 && length < tokens_, "slot {} has {} tokens of {}", token.slot, length, tokens_);
    tokens.push_back({token.slot, length++});
    ids.push_back(token.id);
  }
  const Tensor uploaded = UploadNumbers(cx_, ids, {static_cast<int64_t>(ids.size())});
  DecodeStep step(cx_, std::move(tokens), MakeLayout(model_.config(), 1, 1));
  return model_.Hidden(cx_, {.ids = uploaded, .layout = step.Layout(), .mix = mix_, .caches = &caches_, .step = &step})
      .value;
}

}  // namespace ksa
