#include "tests/parallel/equality/problem.h"

#include <algorithm>

#include <fmt/core.h>

#include "kernels/core/philox.h"
#include "model/mixers/full/full.h"
#include "model/mixers/gdn/gdn.h"
#include "model/mixers/hca/hca.h"
#include "model/mixers/ksa/ksa.h"
#include "model/mixers/mla/mla.h"
#include "model/mixers/sca/sca.h"
#include "model/mixers/swa/swa.h"

namespace ksa::testing {
namespace {

constexpr int32_t kChunk = 4;

// Windows wider than the slices of 8 context ranks are long, and narrower.
std::vector<LayerSpec> LayersOf(ModelKind kind, HcaVisibility seen) {
  const LayerSpec full = FullLayer();
  switch (kind) {
    case ModelKind::kKsa:
      return {KsaLayer(1), KsaLayer(3), KsaLayer(2)};
    case ModelKind::kAttend:
      return {KsaLayer(3), full, KsaLayer(1), full};
    case ModelKind::kBypass:
      return {full, KsaLayer(1), SwaLayer(7), KsaLayer(2)};
    case ModelKind::kSca:
      return {ScaLayer(1), ScaLayer(4)};
    case ModelKind::kSwa:
      return {SwaLayer(5), SwaLayer(21)};
    case ModelKind::kFull:
      return {full, full};
    case ModelKind::kOptions:
      return {KsaLayer(2, {.rope = RopeUse::kNone, .short_conv = 4}),
              FullLayer({.short_conv = 11}),
              SwaLayer(7, {.rope = RopeUse::kNone}),
              KsaLayer(1, {.short_conv = 2})};
    case ModelKind::kHca:
      return {HcaLayer(2, seen), full, HcaLayer(0, seen, {.short_conv = 3}), HcaLayer(1, seen)};
    case ModelKind::kMla:
      return {WithMla(KsaKind(), AttentionWindow::Ksa(2)),
              MlaLayer(),
              WithMla(SwaKind(), AttentionWindow::SlidingTokens(9)),
              WithMla(KsaKind(), AttentionWindow::Ksa(1), {.short_conv = 3})};
    case ModelKind::kGdn:
      return {GdnLayer(), KsaLayer(2), GdnLayer(), SwaLayer(9), KsaLayer(1)};
    case ModelKind::kDistilled:
      return {KsaLayer(1), full, WithMla(KsaKind(), AttentionWindow::Ksa(2)), SwaLayer(9), KsaLayer(0)};
  }
  return {};
}

void ApplyBundle(ModelConfig& config, int bundle) {
  HcaConfig& hca = config.mixers.Of<HcaConfig>();
  config.ksa.summary_tokens = bundle < 2 ? 1 : 2;
  config.tie_word_embeddings = bundle == 1 || bundle == 2;
  if (bundle == 1) {
    config.ksa.independent = {.embedding = true, .qkv = true, .norm = true, .qk_norm = true};
    config.ksa.text_positions = TextPositions::kInnerChunk;
    hca.gate = HcaGate::kSeparate;
    config.mixers.Of<MlaConfig>().q_lora_rank = 9;
    config.mixers.Of<GdnConfig>().value_heads *= 2;
    hca.value_norm = false;
  } else if (bundle == 2) {
    config.ksa.independent = {.embedding = false, .qkv = false, .norm = false, .qk_norm = false};
    config.ksa.summary_positions = SummaryPositions::kChunkStart;
    config.intermediate_size = 0;
    hca.independent_kv = false;
    hca.compressed_positions = SummaryPositions::kChunkStart;
    config.mixers.Of<GdnConfig>().allow_neg_eigval = true;
  } else if (bundle == 3) {
    config.qk_norm = false;
    hca.visibility = HcaVisibility::kOverlap;
    config.ksa.anneal = {.start_step = 1, .end_step = 4};
  }
}

// The tokens of a sample, as many as are asked for.
class Tokens {
 public:
  Tokens(const Problem& problem, int64_t update, int64_t sample)
      : key_(NamedKey(static_cast<uint64_t>(update), "tokens")),
        stream_(static_cast<uint64_t>(sample)),
        vocabulary_(static_cast<uint32_t>(problem.model.vocab_size)) {}

  [[nodiscard]] int32_t At(int32_t i) const { return static_cast<int32_t>(Bits(i) % vocabulary_); }

  // A length that is drawn at token i, 1 to `most`.
  [[nodiscard]] int32_t Length(int32_t i, int32_t most) const {
    return 1 + static_cast<int32_t>(Bits(i + (1 << 20)) % static_cast<uint32_t>(most));
  }

 private:
  [[nodiscard]] uint32_t Bits(int32_t i) const { return Philox4x32(key_, static_cast<uint64_t>(i), stream_)[0]; }

  uint64_t key_;
  uint64_t stream_;
  uint32_t vocabulary_;
};

// One document, in which every now and then a row has no target.
void AddText(const Tokens& tokens, int32_t length, int64_t sample, Batch& batch) {
  for (int32_t i = 0; i < length; ++i) {
    batch.inputs.push_back(tokens.At(i));
    batch.targets.push_back(i % (sample + 2) != 0 ? tokens.At(i + 1) : Batch::kNoTarget);
  }
}

// Documents from multiples of the chunk size on; in every fourth sample the last chunks are padding.
void AddDocuments(const Tokens& tokens, int32_t length, int32_t k, int64_t sample, Batch& batch) {
  const auto base = batch.inputs.size();
  batch.inputs.resize(base + static_cast<size_t>(length), 0);
  batch.targets.resize(base + static_cast<size_t>(length), Batch::kNoTarget);
  const int32_t chunks = (length + k - 1) / k;
  const int32_t end = sample % 4 == 3 ? std::max(1, length - 2 * k) : length;
  int32_t chunk = 0;
  while (chunk * k < end) {
    const int32_t begin = chunk * k;
    const int32_t rows = std::min(tokens.Length(begin, 2 * length / 3 + 1), end - begin);
    for (int32_t i = 0; i < rows; ++i) {
      batch.inputs[base + static_cast<size_t>(begin + i)] = tokens.At(begin + i);
      if (i + 1 < rows) {
        batch.targets[base + static_cast<size_t>(begin + i)] = tokens.At(begin + i + 1);
      }
    }
    const int32_t first = chunk;
    for (int32_t left = rows; left > 0; left -= k, ++chunk) {
      batch.document_first_chunk.push_back(first);
      batch.chunk_tokens.push_back(std::min(left, k));
    }
  }
  for (; chunk < chunks; ++chunk) {
    batch.document_first_chunk.push_back(chunk);
    batch.chunk_tokens.push_back(0);
  }
}

}  // namespace

std::string NameOf(const MeshShape& mesh) {
  return fmt::format("{}x{}x{}", mesh.data, mesh.context, mesh.tensor);
}

std::string RunLayout::ToString() const {
  return fmt::format("mesh {}, rows {}, ZeRO {}, micro-batches of {}, recompute {}, buckets of {}, {} threads",
                     NameOf(mesh),
                     sequence_parallel ? "in parts" : "whole",
                     zero,
                     micro_batch,
                     static_cast<int>(recompute),
                     bucket_elements,
                     threads);
}

const char* NameOf(ModelKind kind) {
  constexpr std::array<const char*, kModelKinds.size()> kNames = {
      "ksa", "attend", "bypass", "sca", "swa", "full", "options", "hca", "mla", "gdn", "distilled"};
  return kNames.at(static_cast<size_t>(kind));
}

Problem MakeProblem(ModelKind kind, int bundle, int64_t tensor_ranks) {
  const bool threes = tensor_ranks % 3 == 0;
  Problem problem;
  problem.name = fmt::format("{}, bundle {}, {} heads", NameOf(kind), bundle, threes ? 6 : 8);
  problem.tokens = 67;
  problem.documents = bundle % 2 == 1;
  ModelConfig& config = problem.model;
  config.vocab_size = 97;
  config.hidden_size = 26;
  config.intermediate_size = 35;
  config.num_attention_heads = threes ? 6 : 8;
  config.num_key_value_heads = threes ? 3 : 2;
  config.head_dim = threes ? 6 : 4;
  config.rope_theta = 100.0;
  config.rms_norm_eps = 1e-5;
  config.initializer_range.fan_in = true;
  config.ksa.chunk_size = kChunk;
  config.mixers.Of<ScaConfig>().chunk_size = kChunk;
  config.mixers.Of<HcaConfig>().chunk_size = kChunk;
  config.mixers.Of<MlaConfig>() = {.kv_lora_rank = 10, .qk_nope_head_dim = 3, .qk_rope_head_dim = 4, .v_head_dim = 5};
  const int32_t heads = config.num_attention_heads;
  config.mixers.Of<GdnConfig>() = {
      .key_heads = heads, .value_heads = heads, .key_head_dim = 3, .value_head_dim = 5, .conv_taps = 4};
  const bool bypass = kind == ModelKind::kBypass || kind == ModelKind::kGdn;
  config.ksa.full_layers = bypass ? FullLayers::kBypass : FullLayers::kAttend;
  ApplyBundle(config, bundle);
  config.layers = LayersOf(kind, config.mixers.Of<HcaConfig>().visibility);
  config.num_hidden_layers = static_cast<int32_t>(config.layers.size());
  if (kind == ModelKind::kDistilled) {
    problem.distill = DistillConfig{.f_lm = 0.5, .f_kl = 2.0, .f_attn = 3.0, .normalize = bundle > 1};
    problem.trainable = config.ksa.independent.embedding && bundle < 2 ? Trainable::kSummaries : Trainable::kAll;
    problem.z_loss = bundle % 2 == 0 ? 0.0 : 1e-3;
  }
  return problem;
}

std::vector<MeshShape> Meshes() {
  std::vector<MeshShape> meshes;
  for (const int64_t data : {1, 2, 4, 8}) {
    for (const int64_t context : {1, 2, 4, 8}) {
      for (const int64_t tensor : {1, 2, 4, 8}) {
        if (data * context * tensor <= 8) {
          meshes.push_back({data, context, tensor});
        }
      }
    }
  }
  meshes.insert(meshes.end(), {{1, 1, 3}, {1, 1, 6}, {2, 1, 3}, {1, 2, 3}});
  return meshes;
}

Batch SamplesOf(const Problem& problem, int64_t update, int64_t first, int64_t count) {
  const int32_t k = problem.model.ChunkSize();
  Batch batch;
  batch.first_sample = (update - 1) * problem.samples + first;
  batch.samples = static_cast<int32_t>(count);
  batch.sequence_length = problem.tokens;
  batch.chunks = (problem.tokens + k - 1) / k;
  for (int64_t sample = first; sample < first + count; ++sample) {
    const Tokens tokens(problem, update, sample);
    const size_t rows = batch.targets.size();
    if (problem.documents) {
      AddDocuments(tokens, problem.tokens, k, sample, batch);
    } else {
      AddText(tokens, problem.tokens, sample, batch);
    }
    if (update == 2 && sample + 1 == problem.samples && sample > 0) {
      std::fill(batch.targets.begin() + static_cast<std::ptrdiff_t>(rows), batch.targets.end(), Batch::kNoTarget);
    }
  }
  batch.target_count = static_cast<int64_t>(batch.targets.size()) -
                       std::count(batch.targets.begin(), batch.targets.end(), Batch::kNoTarget);
  return batch;
}

}  // namespace ksa::testing
