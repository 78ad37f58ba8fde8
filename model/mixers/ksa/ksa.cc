#include "model/mixers/ksa/ksa.h"

#include <fmt/core.h>

#include "model/mixers/attention/attention_mixer.h"

namespace ksa {
namespace {

constexpr const char* kWindow = "window_chunks";
constexpr const char* kChunkSize = "ksa.chunk_size";
constexpr const char* kSummaryTokens = "ksa.summary_tokens";
constexpr const char* kQkv = "ksa.independent.qkv";
constexpr const char* kOwnQkNorm = "ksa.independent.qk_norm";
constexpr const char* kAnnealStart = "ksa.anneal.start_step";
constexpr const char* kAnnealEnd = "ksa.anneal.end_step";

std::vector<MixerKey> ChunkKeys() {
  return {KeyAt(
              kChunkSize,
              KeyType::Integer(1),
              "8",
              "k: text tokens a chunk, the compression ratio",
              [](auto& config) -> auto& { return config.ksa.chunk_size; }),
          KeyAt(
              kSummaryTokens, KeyType::Integer(1, 64), "1", "m: summary tokens a chunk", [](auto& config) -> auto& {
                return config.ksa.summary_tokens;
              }),
          KeyAt(
              "ksa.window_chunks",
              KeyType::Integer(0),
              "128",
              "w: earlier chunks whose text stays visible",
              [](auto& config) -> auto& { return config.ksa.window_chunks; }),
          NameKeyAt(
              "ksa.text_positions",
              {"origin", "inner_chunk"},
              "origin",
              "RoPE position of text token i: i, or i mod k",
              [](auto& config) -> auto& { return config.ksa.text_positions; }),
          NameKeyAt(
              "ksa.summary_positions",
              {"chunk_end", "chunk_start", "zero"},
              "chunk_end",
              "RoPE position of the summaries in their chunk",
              [](auto& config) -> auto& { return config.ksa.summary_positions; }),
          NameKeyAt(
              "ksa.full_layers", {"attend", "bypass"}, "attend", "what summary rows do in full, swa and sca layers", [
              ](auto& config) -> auto& { return config.ksa.full_layers; })};
}

std::vector<MixerKey> IndependentKeys() {
  return {
      KeyAt(
          "ksa.independent.embedding",
          KeyType::Truth(),
          "true",
          "summaries start from a table of their own, else from m extra vocabulary rows",
          [](auto& config) -> auto& { return config.ksa.independent.embedding; }),
      KeyAt(
          kQkv, KeyType::Truth(), "true", "summary rows have their own q, k, v projections", [](auto& config) -> auto& {
            return config.ksa.independent.qkv;
          }),
      KeyAt(
          "ksa.independent.norm",
          KeyType::Truth(),
          "false",
          "summary rows have their own input norm",
          [](auto& config) -> auto& { return config.ksa.independent.norm; }),
      KeyAt(
          kOwnQkNorm, KeyType::Truth(), "false", "own q and k norms for the own projections; needs independent.qkv", [
          ](auto& config) -> auto& { return config.ksa.independent.qk_norm; })};
}

// `anneal` is there as long as one of its steps is given.
MixerKey AnnealKey(const char* path, const char* doc, int64_t AnnealConfig::*step) {
  return {path,
          KeyType::Integer(0, INT64_MAX).OrNone(),
          "none",
          doc,
          [step](const ModelConfig& config) -> KeyValue {
            const std::optional<AnnealConfig>& anneal = config.ksa.anneal;
            return anneal && (*anneal).*step != AnnealConfig::kNotGiven ? KeyValue((*anneal).*step) : KeyValue();
          },
          [step](ModelConfig& config, const KeyValue& given) {
            std::optional<AnnealConfig>& anneal = config.ksa.anneal;
            AnnealConfig steps = anneal.value_or(AnnealConfig());
            const auto* number = std::get_if<int64_t>(&given);
            steps.*step = number == nullptr ? AnnealConfig::kNotGiven : *number;
            anneal = steps == AnnealConfig() ? std::nullopt : std::optional(steps);
          }};
}

class Ksa final : public MixerKind {
 public:
  [[nodiscard]] std::string_view name() const override { return "ksa"; }

  [[nodiscard]] std::string_view doc() const override {
    return "the text of its own chunk and of `window_chunks` chunks before it, up to itself, and the summaries of all "
           "chunks before those";
  }

  [[nodiscard]] std::vector<MixerKey> Keys() const override {
    std::vector<MixerKey> keys = ChunkKeys();
    for (MixerKey& key : IndependentKeys()) {
      keys.push_back(std::move(key));
    }
    keys.push_back(
        AnnealKey(kAnnealStart,
                  "update after which the own projections begin to give way to the base ones; needs independent.qkv",
                  &AnnealConfig::start_step));
    keys.push_back(AnnealKey(kAnnealEnd, "update from which only the base projections count", &AnnealConfig::end_step));
    return keys;
  }

  [[nodiscard]] std::vector<EntryField> EntryFields() const override {
    return WithProjection(WithAttentionFields({{kWindow, KeyType::Integer(0)}}));
  }

  [[nodiscard]] LayerSpec MakeLayer(const ModelConfig& config, const EntryValues& entry) const override {
    const int32_t window = NumberOf(entry, kWindow).value_or(config.ksa.window_chunks);
    return MakeAttentionLayer(*this, AttentionWindow::Ksa(window), config, entry);
  }

  [[nodiscard]] EntryValues EntryOf(const ModelConfig& config, const Mixer& mixer) const override {
    const int32_t window = WindowOf(mixer).chunks;
    return WithAttentionEntry(
        config, mixer, config.ksa.window_chunks == window ? EntryValues() : EntryValues{{kWindow, int64_t{window}}});
  }

  [[nodiscard]] std::optional<ChunkKey> Chunk(const ModelConfig& config) const override {
    return ChunkKey{kChunkSize, config.ksa.chunk_size};
  }

  [[nodiscard]] std::optional<int64_t> TextWindow(const ModelConfig& config) const override {
    return int64_t{1} * config.ksa.chunk_size * config.ksa.window_chunks;
  }

  [[nodiscard]] std::vector<std::string> Warnings(const ModelConfig& config, int32_t sequence_length) const override {
    const int32_t chunk = config.ksa.chunk_size;
    const int32_t chunks = (sequence_length + chunk - 1) / chunk;
    if (LiveChunks(chunks, config.MinKsaWindow()) > 0) {
      return {};
    }
    return {fmt::format(
        "model.attention: no summary is live: a sequence of {} tokens has {} chunks of {}, and the smallest "
        "window_chunks of the ksa layers is {}, so text sees all text before it and no summary; use a "
        "smaller window_chunks or chunk_size, or longer sequences",
        sequence_length,
        chunks,
        chunk,
        config.MinKsaWindow())};
  }

  [[nodiscard]] std::vector<MixerProblem> Problems(const MixerDraft& draft) const override {
    std::vector<MixerProblem> problems;
    CheckOwnParameters(draft.model.ksa, problems);
    CheckSummaryCount(draft, problems);
    return problems;
  }

 private:
  static void CheckOwnParameters(const KsaConfig& ksa, std::vector<MixerProblem>& problems) {
    if (ksa.independent.qk_norm && !ksa.independent.qkv) {
      problems.push_back({{FullPath(kOwnQkNorm)},
                          {FullPath(kOwnQkNorm), FullPath(kQkv)},
                          "needs independent.qkv: true, because it norms the own projections; set that or drop this"});
    }
    if (!ksa.anneal) {
      return;
    }
    const std::string start = FullPath(kAnnealStart);
    const std::string end = FullPath(kAnnealEnd);
    const AnnealConfig& anneal = *ksa.anneal;
    const bool has_start = anneal.start_step != AnnealConfig::kNotGiven;
    if (!has_start || anneal.end_step == AnnealConfig::kNotGiven) {
      problems.push_back({{has_start ? end : start, has_start ? start : end},
                          {start, end},
                          "missing; anneal needs both start_step and end_step"});
      return;
    }
    if (anneal.end_step <= anneal.start_step) {
      problems.push_back(
          {{end},
           {start, end},
           fmt::format("must be greater than start_step {}, got {}", anneal.start_step, anneal.end_step)});
    }
    if (!ksa.independent.qkv) {
      problems.push_back(
          {{start}, {start, end, FullPath(kQkv)}, "annealing needs independent.qkv: true; set that or remove anneal"});
    }
  }

  // Summary rows are numbered with 32 bits.
  static void CheckSummaryCount(const MixerDraft& draft, std::vector<MixerProblem>& problems) {
    const KsaConfig& ksa = draft.model.ksa;
    const int64_t chunks = (draft.sequence_length + ksa.chunk_size - 1) / ksa.chunk_size;
    if (chunks * ksa.summary_tokens > INT32_MAX) {
      const std::vector<std::string> keys = {
          FullPath(kSummaryTokens), FullPath(kChunkSize), "training.sequence_length"};
      problems.push_back({keys,
                          keys,
                          fmt::format("{} chunks of {} summaries are more than {} a sequence; use larger chunks",
                                      chunks,
                                      ksa.summary_tokens,
                                      INT32_MAX)});
    }
  }
};

}  // namespace

const MixerKind& KsaKind() {
  static const Ksa kKind;
  return kKind;
}

LayerSpec KsaLayer(int32_t window_chunks, const AttentionOptions& options) {
  return MakeAttentionLayer(KsaKind(), AttentionWindow::Ksa(window_chunks), options);
}

}  // namespace ksa
