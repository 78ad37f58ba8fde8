#include <algorithm>

#include <fmt/core.h>

#include "trainer/config/rules.h"

namespace ksa {
namespace {

constexpr const char* kLayers = "model.num_hidden_layers";
constexpr const char* kHeads = "model.num_attention_heads";
constexpr const char* kKvHeads = "model.num_key_value_heads";
constexpr const char* kHidden = "model.hidden_size";
constexpr const char* kHeadDim = "model.head_dim";
constexpr int32_t kMaxHeadDim = 1024;  // what the kernels take
constexpr const char* kPositions = "model.max_position_embeddings";
constexpr const char* kSequence = "training.sequence_length";
constexpr const char* kPattern = "model.attention.pattern";
constexpr const char* kKsaChunk = "model.attention.ksa.chunk_size";
constexpr const char* kSummaryTokens = "model.attention.ksa.summary_tokens";
constexpr const char* kQkv = "model.attention.ksa.independent.qkv";
constexpr const char* kOwnQkNorm = "model.attention.ksa.independent.qk_norm";
constexpr const char* kAnnealStart = "model.attention.ksa.anneal.start_step";
constexpr const char* kAnnealEnd = "model.attention.ksa.anneal.end_step";
constexpr const char* kSwaWindow = "model.attention.swa.window";
constexpr const char* kScaChunk = "model.attention.sca.chunk_size";
constexpr const char* kScaWindow = "model.attention.sca.window_chunks";

void CheckHeads(const RuleCheck& check) {
  const ModelConfig& model = check.draft.config.model;
  const int32_t heads = model.num_attention_heads;
  if (check.draft.num_key_value_heads && check.given.Usable({kHeads, kKvHeads}) &&
      heads % *check.draft.num_key_value_heads != 0) {
    check.Fail(
        {kKvHeads},
        fmt::format(
            "{} does not divide num_attention_heads {}; use a divisor of it", *check.draft.num_key_value_heads, heads));
  }
  if (check.draft.head_dim) {
    if (check.given.Usable({kHeadDim}) && *check.draft.head_dim % 2 != 0) {
      check.Fail({kHeadDim}, fmt::format("must be even (RoPE turns pairs), got {}", *check.draft.head_dim));
    } else if (check.given.Usable({kHeadDim}) && *check.draft.head_dim > kMaxHeadDim) {
      check.Fail({kHeadDim}, fmt::format("must be at most {}, got {}", kMaxHeadDim, *check.draft.head_dim));
    }
    return;
  }
  if (!check.given.Usable({kHidden, kHeads, kHeadDim})) {
    return;
  }
  if (model.hidden_size % heads != 0) {
    check.Fail({kHidden},
               fmt::format("{} is not a multiple of num_attention_heads {}; change one of them or give model.head_dim",
                           model.hidden_size,
                           heads));
  } else if (model.hidden_size / heads % 2 != 0) {
    check.Fail({kHidden},
               fmt::format("hidden_size / num_attention_heads = {} is an odd head_dim; change one of them or give an "
                           "even model.head_dim",
                           model.hidden_size / heads));
  } else if (model.hidden_size / heads > kMaxHeadDim) {
    check.Fail(
        {kHidden},
        fmt::format("hidden_size / num_attention_heads = {}, but head_dim is at most {}; take more heads or give "
                    "model.head_dim",
                    model.hidden_size / heads,
                    kMaxHeadDim));
  }
}

void CheckPositions(const RuleCheck& check) {
  const int32_t sequence = check.draft.config.training.sequence_length;
  if (check.draft.max_position_embeddings && check.given.Usable({kPositions, kSequence}) &&
      *check.draft.max_position_embeddings < sequence) {
    check.Fail({kPositions},
               fmt::format("{} is less than training.sequence_length {}; raise it or shorten the sequences",
                           *check.draft.max_position_embeddings,
                           sequence));
  }
}

void CheckSummaryParameters(const RuleCheck& check) {
  const IndependentSummary& own = check.draft.config.model.ksa.independent;
  if (check.given.Usable({kOwnQkNorm, kQkv}) && own.qk_norm && !own.qkv) {
    check.Fail({kOwnQkNorm},
               "needs independent.qkv: true, because it norms the own projections; set that or drop this");
  }
  const std::optional<int64_t>& start = check.draft.anneal_start_step;
  const std::optional<int64_t>& end = check.draft.anneal_end_step;
  if (!check.given.Usable({kAnnealStart, kAnnealEnd})) {
    return;
  }
  if (start.has_value() != end.has_value()) {
    check.Fail({start ? kAnnealEnd : kAnnealStart, start ? kAnnealStart : kAnnealEnd},
               "missing; anneal needs both start_step and end_step");
    return;
  }
  if (start && *end <= *start) {
    check.Fail({kAnnealEnd}, fmt::format("must be greater than start_step {}, got {}", *start, *end));
  }
  if (start && check.given.Usable({kQkv}) && !own.qkv) {
    check.Fail({kAnnealStart}, "annealing needs independent.qkv: true; set that or remove anneal");
  }
}

// The entries that some layer uses.
std::vector<PatternEntry> UsedEntries(const Draft& draft) {
  const size_t used = std::min(draft.pattern.size(), static_cast<size_t>(draft.config.model.num_hidden_layers));
  return {draft.pattern.begin(), draft.pattern.begin() + static_cast<std::ptrdiff_t>(used)};
}

void CheckPattern(const RuleCheck& check) {
  if (!check.given.Usable({kPattern, kLayers})) {
    return;
  }
  bool has_ksa = false;
  bool has_sca = false;
  bool swa_window = false;
  bool sca_window = false;
  for (const PatternEntry& entry : UsedEntries(check.draft)) {
    has_ksa = has_ksa || entry.kind == LayerKind::kKsa;
    has_sca = has_sca || entry.kind == LayerKind::kSca;
    swa_window = swa_window || (entry.kind == LayerKind::kSwa && !entry.window_tokens);
    sca_window = sca_window || (entry.kind == LayerKind::kSca && !entry.window_chunks);
  }
  const Config& config = check.draft.config;
  const auto require = [&](const char* key, bool needed, bool there, const char* kind) {
    if (needed && !there && check.given.Usable({key})) {
      check.Fail({key, kPattern}, fmt::format("required, because the pattern has {} layers; give it", kind));
    }
  };
  require(kSwaWindow, swa_window, config.pattern_defaults.swa_window.has_value(), "swa");
  require(kScaChunk, has_sca, check.draft.sca_chunk_size.has_value(), "sca");
  require(kScaWindow, sca_window, config.pattern_defaults.sca_window_chunks.has_value(), "sca");
  if (has_ksa && has_sca && check.draft.sca_chunk_size && check.given.Usable({kScaChunk, kKsaChunk}) &&
      *check.draft.sca_chunk_size != config.model.ksa.chunk_size) {
    check.Fail({kScaChunk},
               fmt::format("must equal ksa.chunk_size {} in a pattern with both kinds, got {}",
                           config.model.ksa.chunk_size,
                           *check.draft.sca_chunk_size));
  }
}

// Summary rows are numbered with 32 bits.
void CheckSummaryCount(const RuleCheck& check) {
  const Config& config = check.draft.config;
  const KsaConfig& ksa = config.model.ksa;
  if (!check.given.Usable({kSummaryTokens, kKsaChunk, kSequence})) {
    return;
  }
  const int64_t chunks = (int64_t{config.training.sequence_length} + ksa.chunk_size - 1) / ksa.chunk_size;
  if (chunks * ksa.summary_tokens > INT32_MAX) {
    check.Fail({kSummaryTokens, kKsaChunk, kSequence},
               fmt::format("{} chunks of {} summaries are more than {} a sequence; use larger chunks",
                           chunks,
                           ksa.summary_tokens,
                           INT32_MAX));
  }
}

}  // namespace

void CheckModelRules(const Draft& draft, const Given& given, Problems& problems) {
  const RuleCheck check{draft, given, problems};
  CheckHeads(check);
  CheckPositions(check);
  CheckSummaryParameters(check);
  CheckPattern(check);
  CheckSummaryCount(check);
}

}  // namespace ksa
