#include "trainer/evaluate/generation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/core/gpu.h"

namespace ksa {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Rows of logits on the host, as double.
std::vector<std::vector<double>> RowsOf(const TensorView& logits, int64_t vocabulary) {
  std::vector<double> wide(static_cast<size_t>(logits.size()));
  Copy(logits, {wide.data(), DType::kF64, {}, {logits.size()}}, {});
  std::vector<std::vector<double>> rows;
  for (int64_t r = 0; r < logits.rows(); ++r) {
    const auto first = wide.begin() + r * logits.cols();
    rows.emplace_back(first, first + vocabulary);
  }
  return rows;
}

}  // namespace

int64_t Generation::CacheTokens(const std::vector<std::vector<int32_t>>& prompts, const GenerationOptions& options) {
  size_t longest = 0;
  for (const std::vector<int32_t>& prompt : prompts) {
    longest = std::max(longest, prompt.size());
  }
  return std::min(options.positions, static_cast<int64_t>(longest) + options.max_tokens);
}

Generation::Generation(const ExecContext& cx,
                       KsaModel& model,
                       double mix,
                       std::vector<std::vector<int32_t>> prompts,
                       const GenerationOptions& options)
    : cx_(cx), model_(model), mix_(mix), options_(options) {
  const int64_t tokens = CacheTokens(prompts, options);
  why_recomputed_ = model.WhyNoCaches(cx);
  if (why_recomputed_.empty()) {
    const Decoder::Size size = {static_cast<int32_t>(prompts.size()), static_cast<int32_t>(tokens)};
    decoder_ = std::make_unique<Decoder>(cx, model, size, mix);
    result_.cache_bytes = decoder_->CacheBytes();
    result_.cache_tokens = decoder_->capacity();
  }
  const auto positions = static_cast<size_t>(options.positions);
  for (std::vector<int32_t>& prompt : prompts) {
    KSA_CHECK(!prompt.empty(), "a prompt of no token");
    result_.prompt_tokens += static_cast<int64_t>(prompt.size());
    const size_t context = std::min(prompt.size(), positions);
    texts_.push_back({{prompt.end() - static_cast<std::ptrdiff_t>(context), prompt.end()}, {}});
  }
}

Tensor Generation::WholePass(const std::vector<int32_t>& ids) {
  const auto length = static_cast<int32_t>(ids.size());
  const Var hidden = model_.Hidden(
      cx_, {.ids = UploadNumbers(cx_, ids, {length}), .layout = MakeLayout(model_.config(), 1, length), .mix = mix_});
  return hidden.value.Rows(length - 1, 1);
}

void Generation::Compare(const std::vector<int32_t>& context, const std::vector<double>& logits) {
  const Tensor whole = model_.Logits(cx_, WholePass(context));
  const std::vector<double> expected = RowsOf(HostCopy(whole, cx_.stream).view(), options_.vocabulary)[0];
  double largest = 0.0;
  double difference = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    const double d = std::abs(expected[i] - logits[i]);
    difference = d <= difference ? difference : d;  // NaN stays
  }
  const double relative = difference == 0.0 ? 0.0 : difference / largest;
  result_.difference = relative <= result_.difference ? result_.difference : relative;
  ++result_.checked;
}

// `hidden`: a row of each of these texts.
void Generation::TakeLogits(const Tensor& hidden, const std::vector<size_t>& texts) {
  std::vector<std::vector<double>> rows =
      decoder_ == nullptr ? RowsOf(HostCopy(model_.Logits(cx_, hidden), cx_.stream).view(), options_.vocabulary)
                          : RowsOf(decoder_->Logits(hidden), options_.vocabulary);
  for (size_t i = 0; i < texts.size(); ++i) {
    Text& text = texts_[texts[i]];
    text.logits = std::move(rows[i]);
    if (options_.check && decoder_ != nullptr) {
      Compare(text.context, text.logits);
    }
  }
}

// The whole context of a text in one pass.
void Generation::Begin(size_t text) {
  const std::vector<int32_t>& context = texts_[text].context;
  TakeLogits(decoder_ == nullptr ? WholePass(context) : decoder_->Prefill(static_cast<int32_t>(text), context), {text});
}

// Logits behind the tokens that were sampled last.
void Generation::Advance() {
  std::vector<Decoder::Next> next;
  std::vector<size_t> texts;
  for (size_t i = 0; i < texts_.size(); ++i) {
    std::vector<int32_t>& context = texts_[i].context;
    if (!texts_[i].goes_on) {
      continue;
    }
    if (static_cast<int64_t>(context.size()) > options_.positions) {
      context.erase(context.begin(), context.end() - ContextBehindEnd(options_.positions));
      ++result_.forgotten;
      Begin(i);
    } else if (decoder_ == nullptr) {
      Begin(i);
    } else {
      next.push_back({static_cast<int32_t>(i), context.back()});
      texts.push_back(i);
    }
  }
  if (!texts.empty()) {
    TakeLogits(decoder_->Step(next), texts);
  }
}

void Generation::Sample(int64_t step, const std::function<bool(size_t, int32_t)>& on_token) {
  for (size_t i = 0; i < texts_.size(); ++i) {
    Text& text = texts_[i];
    if (!text.goes_on) {
      continue;
    }
    const int32_t id = SampleToken(text.logits, options_.sampling, static_cast<uint64_t>(step), i);
    if (options_.last == id) {
      text.goes_on = false;
      continue;
    }
    ++result_.new_tokens;
    text.context.push_back(id);
    text.goes_on = on_token(i, id);
  }
}

Generation::Result Generation::Run(const std::function<bool(size_t text, int32_t id)>& on_token) {
  const Clock::time_point start = Clock::now();
  for (size_t i = 0; i < texts_.size() && options_.max_tokens > 0; ++i) {
    Begin(i);
  }
  result_.prompt_seconds = SecondsSince(start);
  const Clock::time_point behind = Clock::now();
  for (int64_t step = 0; step < options_.max_tokens; ++step) {
    Sample(step, on_token);
    if (std::none_of(texts_.begin(), texts_.end(), [](const Text& text) { return text.goes_on; })) {
      break;
    }
    if (step + 1 < options_.max_tokens) {
      Advance();
    }
  }
  result_.seconds = SecondsSince(behind);
  return result_;
}

}  // namespace ksa
