#include <algorithm>

#include <fmt/core.h>

#include "model/mixers/mixer.h"
#include "model/mixers/registry.h"
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
constexpr const char* kIntermediate = "model.intermediate_size";
constexpr const char* kRecompute = "training.recompute";
constexpr const char* kPattern = "model.attention.pattern";
constexpr const char* kTrainable = "training.trainable";
constexpr const char* kDistill = "training.distill";
constexpr const char* kOwnEmbedding = "model.attention.ksa.independent.embedding";

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

void CheckMlp(const RuleCheck& check) {
  const Config& config = check.draft.config;
  if (check.given.Usable({kRecompute, kIntermediate}) && config.model.intermediate_size == 0 &&
      config.training.recompute == Recompute::kMlp) {
    check.Fail({kRecompute}, "mlp, but intermediate_size is 0: there is no MLP; use none, attention or block");
  }
}

// The entries that some layer uses.
std::vector<PatternEntry> UsedEntries(const Draft& draft) {
  const size_t used = std::min(draft.pattern.size(), static_cast<size_t>(draft.config.model.num_hidden_layers));
  return {draft.pattern.begin(), draft.pattern.begin() + static_cast<std::ptrdiff_t>(used)};
}

// What the kinds of layers say of their own keys.
void CheckMixers(const RuleCheck& check) {
  MixerDraft draft = {check.draft.config.model, check.draft.config.training.sequence_length, {}};
  if (check.given.Usable({kPattern, kLayers})) {
    for (const PatternEntry& entry : UsedEntries(check.draft)) {
      draft.used.push_back({std::string(entry.kind->name()), entry.values});
    }
  }
  for (const MixerProblem& problem : FindMixerProblems(draft)) {
    if (check.given.Usable(problem.judged)) {
      check.problems.Add(check.given.PlaceOf(problem.keys), problem.keys.front(), problem.message);
    }
  }
}

// What learns, and from whom.
void CheckLearning(const RuleCheck& check) {
  const TrainingConfig& training = check.draft.config.training;
  if (!check.given.Usable({kTrainable, kDistill, kPattern, kLayers, kOwnEmbedding}) ||
      (training.trainable == Trainable::kAll && !training.distill) || check.draft.pattern.empty()) {
    return;
  }
  const ModelConfig model = ResolveDefaults(check.draft).model;
  if (training.trainable == Trainable::kSummaries) {
    const auto pools = [](const LayerSpec& layer) { return layer->kind().name() == "hca"; };
    if (model.HasSummaryRows() && !model.ksa.independent.embedding) {
      check.Fail({kTrainable},
                 "summaries, but with independent.embedding: false their embedding is a part of the vocabulary's, "
                 "which would learn as a whole; set independent.embedding: true, or train all");
    } else if (!model.HasSummaryRows() && std::none_of(model.layers.begin(), model.layers.end(), pools)) {
      check.Fail({kTrainable}, "summaries, but no layer of the pattern has any (ksa, hca); train all");
    }
  }
  if (!training.distill) {
    return;
  }
  const auto unlike = [](const LayerSpec& layer) { return !layer->IsFullAttention(); };
  for (const LayerSpec& layer : model.layers) {
    if (!layer->Teacher()) {
      check.Fail({kDistill},
                 fmt::format("the teacher is this model under full attention, which {} layers have no place for; "
                             "remove distill, or those layers",
                             layer->kind().name()));
      return;
    }
  }
  if (std::none_of(model.layers.begin(), model.layers.end(), unlike)) {
    check.Fail({kDistill}, "every layer is full attention already: teacher and student are the same; remove it");
  }
}

}  // namespace

void CheckModelRules(const Draft& draft, const Given& given, Problems& problems) {
  const RuleCheck check{draft, given, problems};
  CheckHeads(check);
  CheckPositions(check);
  CheckMlp(check);
  CheckMixers(check);
  CheckLearning(check);
}

}  // namespace ksa
