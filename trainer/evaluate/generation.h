// Texts that a model goes on with, a batch at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/ksa/decoder.h"
#include "trainer/evaluate/sampling.h"

namespace ksa {

struct GenerationOptions {
  SamplingOptions sampling;
  int64_t max_tokens = 200;     // of a text
  int64_t vocabulary = 0;       // ids below it are sampled
  std::optional<int32_t> last;  // the id that ends a text, and is not part of it
  int64_t positions = 0;        // the longest context
  bool check = false;           // compare every logit with that of a whole pass
};

// Where a context is longer than the model has positions: as few tokens of it as leave room for as many more. The rest
// is forgotten, for the positions of what is kept change, and so all that was computed of it.
[[nodiscard]] inline int64_t ContextBehindEnd(int64_t positions) {
  return (positions + 1) / 2;
}

class Generation {
 public:
  // Takes the memory of the caches. A model that cannot be decoded with them recomputes the whole context for each
  // token. `cx` and what is in it, and `model`, outlive it. `prompts`: at least one token each.
  Generation(const ExecContext& cx,
             KsaModel& model,
             double mix,
             std::vector<std::vector<int32_t>> prompts,
             const GenerationOptions& options);

  // Tokens that a cache is made for.
  [[nodiscard]] static int64_t CacheTokens(const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerationOptions& options);

  // Empty where caches are used, or why not.
  [[nodiscard]] const std::string& why_recomputed() const { return why_recomputed_; }

  struct Result {
    int64_t prompt_tokens = 0;
    int64_t new_tokens = 0;
    double prompt_seconds = 0.0;  // of the first pass over all prompts
    double seconds = 0.0;         // of everything behind it
    int64_t cache_bytes = 0;      // of the buffers
    int64_t cache_tokens = 0;     // of a sequence, that they are made for
    int64_t forgotten = 0;        // times that a context grew longer than the positions
    double difference = 0.0;      // `check`: the largest of any logit, relative to the largest logit
    int64_t checked = 0;          // tokens of which all logits were compared
  };

  // on_token(text, id) hears of every token, in the order of the steps, and says whether the text goes on.
  [[nodiscard]] Result Run(const std::function<bool(size_t text, int32_t id)>& on_token);

 private:
  struct Text {
    std::vector<int32_t> context;
    std::vector<double> logits;  // behind it
    bool goes_on = true;
  };

  void Begin(size_t text);
  void Advance();
  void Sample(int64_t step, const std::function<bool(size_t, int32_t)>& on_token);
  void TakeLogits(const Tensor& hidden, const std::vector<size_t>& texts);
  [[nodiscard]] Tensor WholePass(const std::vector<int32_t>& ids);
  void Compare(const std::vector<int32_t>& context, const std::vector<double>& logits);

  ExecContext cx_;
  KsaModel& model_;
  double mix_;
  GenerationOptions options_;
  std::vector<Text> texts_;
  std::unique_ptr<Decoder> decoder_;
  std::string why_recomputed_;
  Result result_;
};

}  // namespace ksa
