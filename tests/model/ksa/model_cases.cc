#include "tests/model/ksa/model_cases.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "model/mixers/full/full.h"
#include "model/mixers/gdn/gdn.h"
#include "model/mixers/hca/hca.h"
#include "model/mixers/ksa/ksa.h"
#include "model/mixers/mla/mla.h"
#include "model/mixers/sca/sca.h"
#include "model/mixers/swa/swa.h"
#include "model/ops/collectives.h"

namespace ksa::testing {
namespace {

const LayerSpec kKsa0 = KsaLayer(0);
const LayerSpec kKsa1 = KsaLayer(1);
const LayerSpec kKsa3 = KsaLayer(3);
const LayerSpec kFull = FullLayer();
const LayerSpec kSwa = SwaLayer(4);
const LayerSpec kSca = ScaLayer(1);
constexpr AttentionOptions kNoRope = {.rope = RopeUse::kNone};

constexpr IndependentSummary kNothingOwn = {.embedding = false, .qkv = false, .norm = false, .qk_norm = false};
constexpr IndependentSummary kAllOwn = {.embedding = true, .qkv = true, .norm = true, .qk_norm = true};

ModelCase Case(const std::string& name, const std::vector<LayerSpec>& layers) {
  ModelCase c;
  c.name = name;
  ModelConfig& config = c.config;
  config.vocab_size = 11;
  config.hidden_size = 6;
  config.intermediate_size = 7;
  config.num_hidden_layers = static_cast<int32_t>(layers.size());
  config.num_attention_heads = 2;
  config.num_key_value_heads = 2;
  config.head_dim = 4;
  config.rope_theta = 100.0;
  config.rms_norm_eps = 1e-3;
  config.initializer_range.fan_in = true;
  config.layers = layers;
  config.ksa.chunk_size = 3;
  config.mixers.Of<ScaConfig>().chunk_size = 4;
  return c;
}

void AddKsaCases(std::vector<ModelCase>& cases) {
  cases.push_back(Case("ksa", {kKsa1, kKsa1, kKsa1}));
  ModelCase c = Case("ksa, windows differ", {kKsa3, kKsa0, kKsa1});
  c.sequences = 2;
  cases.push_back(c);
  c = Case("ksa, m 2, GQA, everything own", {kKsa1, kKsa1});
  c.config.num_attention_heads = 4;
  c.config.ksa.summary_tokens = 2;
  c.config.ksa.independent = kAllOwn;
  c.sequences = 2;
  cases.push_back(c);
  c = Case("ksa, nothing own", {kKsa1, kKsa1});
  c.config.ksa.independent = kNothingOwn;
  c.config.ksa.summary_tokens = 2;
  cases.push_back(c);
  c.name = "ksa, nothing own, tied";
  c.config.tie_word_embeddings = true;
  cases.push_back(c);
  c = Case("ksa, tied, no q/k norm, own norm", {kKsa1, kKsa1});
  c.config.tie_word_embeddings = true;
  c.config.qk_norm = false;
  c.config.ksa.independent.norm = true;
  cases.push_back(c);
  c = Case("ksa, inner chunk and zero positions", {kKsa1, kKsa1});
  c.config.ksa.text_positions = TextPositions::kInnerChunk;
  c.config.ksa.summary_positions = SummaryPositions::kZero;
  cases.push_back(c);
  c = Case("ksa, chunk start positions, m 4", {kKsa0, kKsa0});
  c.config.ksa.summary_tokens = 4;
  c.config.ksa.summary_positions = SummaryPositions::kChunkStart;
  cases.push_back(c);
  c = Case("ksa, one layer", {kKsa1});
  cases.push_back(c);
  c = Case("ksa, no summary is live", {kKsa1, kKsa1});
  c.tokens = 5;
  cases.push_back(c);
  c.name = "ksa, two tokens";
  c.sequences = 3;
  c.tokens = 2;
  cases.push_back(c);
  c = Case("ksa, whole chunks", {kKsa1, kKsa1});
  c.tokens = 18;
  cases.push_back(c);
}

void AddAnnealCases(std::vector<ModelCase>& cases) {
  for (const double mix : {0.3, 0.0}) {
    ModelCase c = Case(mix > 0.0 ? "anneal 0.3, everything own" : "anneal 0, everything own", {kKsa1, kFull, kKsa1});
    c.config.ksa.independent = kAllOwn;
    c.mix = mix;
    cases.push_back(c);
  }
  ModelCase c = Case("anneal 0.3, own qkv", {kKsa1, kKsa1});
  c.mix = 0.3;
  cases.push_back(c);
}

void AddHybridCases(std::vector<ModelCase>& cases) {
  cases.push_back(Case("hybrid, attend", {kKsa1, kFull, kKsa1, kFull}));
  ModelCase c = Case("hybrid, attend, everything own, m 2", {kFull, kKsa0, kSwa, kKsa1});
  c.config.ksa.independent = kAllOwn;
  c.config.ksa.summary_tokens = 2;
  c.sequences = 2;
  cases.push_back(c);
  c = Case("hybrid, bypass", {kKsa1, kFull, kKsa1, kFull});
  c.config.ksa.full_layers = FullLayers::kBypass;
  cases.push_back(c);
  c = Case("hybrid, bypass first", {kFull, kSwa, kKsa1});
  c.config.ksa.full_layers = FullLayers::kBypass;
  c.config.ksa.independent = kAllOwn;
  c.sequences = 2;
  cases.push_back(c);
  cases.push_back(Case("hybrid, swa and sca, attend", {kSwa, kSca, kKsa1}));
}

void AddCasesWithoutMlp(std::vector<ModelCase>& cases) {
  cases.push_back(Case("no MLP, full", {kFull, kFull}));
  cases.push_back(Case("no MLP, ksa", {kKsa1, kKsa0, kKsa1}));
  ModelCase c = Case("no MLP, hybrid, m 2, everything own", {kFull, kKsa0, kSwa, kKsa1, kSca});
  c.config.mixers.Of<ScaConfig>().chunk_size = c.config.ksa.chunk_size;
  c.config.ksa.summary_tokens = 2;
  c.config.ksa.independent = kAllOwn;
  c.sequences = 2;
  cases.push_back(c);
  c = Case("no MLP, documents, bypass", {kKsa0, kFull, kKsa0});
  c.documents = {5, 7, 4, 1};
  c.config.ksa.full_layers = FullLayers::kBypass;
  cases.push_back(c);
  for (ModelCase& without : cases) {
    if (without.name.starts_with("no MLP")) {
      without.config.intermediate_size = 0;
    }
  }
}

void AddPlainCases(std::vector<ModelCase>& cases) {
  cases.push_back(Case("full", {kFull, kFull}));
  ModelCase c = Case("full, tied, GQA", {kFull, kFull});
  c.config.tie_word_embeddings = true;
  c.config.num_key_value_heads = 1;
  c.sequences = 2;
  cases.push_back(c);
  cases.push_back(Case("swa", {kSwa, kSwa}));
  cases.push_back(Case("sca", {kSca, kSca}));
  cases.push_back(Case("swa, sca, full", {kSwa, kSca, kFull}));
}

void AddRopeCases(std::vector<ModelCase>& cases) {
  cases.push_back(Case("rope none, swa, sca and full", {SwaLayer(4, kNoRope), kSca, FullLayer(kNoRope)}));
  ModelCase c = Case("rope none, ksa, m 2, everything own",
                     {KsaLayer(0, kNoRope), kFull, kKsa0, FullLayer(kNoRope), KsaLayer(1, kNoRope)});
  c.config.ksa.independent = kAllOwn;
  c.config.ksa.summary_tokens = 2;
  c.config.num_attention_heads = 4;
  c.mix = 0.3;
  cases.push_back(c);
  c = Case("rope none, no q/k norm", {KsaLayer(0, kNoRope), FullLayer(kNoRope), kKsa1});
  c.config.qk_norm = false;
  c.sequences = 2;
  cases.push_back(c);
  c = Case("documents, rope none", {KsaLayer(0, kNoRope), kFull, SwaLayer(4, kNoRope), KsaLayer(0, kNoRope)});
  c.documents = {5, 7, 4, 1};
  cases.push_back(c);
}

constexpr AttentionOptions Conv(int32_t taps, RopeUse rope = RopeUse::kDefault) {
  return {.rope = rope, .short_conv = taps};
}

// Taps that end inside a chunk, and that reach over several.
void AddConvCases(std::vector<ModelCase>& cases) {
  cases.push_back(
      Case("short_conv, full, swa and sca", {FullLayer(Conv(4)), SwaLayer(4, Conv(2)), ScaLayer(1, Conv(7))}));
  ModelCase c = Case("short_conv, ksa, m 2, GQA, everything own",
                     {KsaLayer(1, Conv(3)), FullLayer(Conv(5)), KsaLayer(0, Conv(8))});
  c.config.ksa.independent = kAllOwn;
  c.config.ksa.summary_tokens = 2;
  c.config.num_attention_heads = 4;
  c.sequences = 2;
  c.mix = 0.3;
  cases.push_back(c);
  c = Case("short_conv, bypass, no q/k norm, rope none",
           {FullLayer(Conv(16)), KsaLayer(0, Conv(2, RopeUse::kNone)), kSwa, kKsa1});
  c.config.ksa.full_layers = FullLayers::kBypass;
  c.config.qk_norm = false;
  cases.push_back(c);
  c = Case("documents, short_conv", {KsaLayer(0, Conv(4)), SwaLayer(4, Conv(3)), FullLayer(Conv(6)), kKsa0});
  c.documents = {5, 7, 4, 1};
  c.sequences = 2;
  cases.push_back(c);
}

// What layers of hca and the settings of their model agree on.
ModelCase HcaCase(const std::string& name, const std::vector<LayerSpec>& layers, const HcaConfig& hca) {
  ModelCase c = Case(name, layers);
  c.config.mixers.Of<HcaConfig>() = hca;
  c.config.mixers.Of<ScaConfig>().chunk_size = hca.chunk_size;
  return c;
}

void AddHcaCases(std::vector<ModelCase>& cases) {
  constexpr HcaVisibility kOverlap = HcaVisibility::kOverlap;
  const LayerSpec hca0 = HcaLayer(0);
  const LayerSpec hca1 = HcaLayer(1);
  cases.push_back(HcaCase("hca", {hca1, hca0}, {.chunk_size = 3}));
  ModelCase c =
      HcaCase("hca, GQA, separate gates, windows differ, with full, swa and sca",
              {HcaLayer(3), kFull, hca0, kSwa, kSca},
              {.chunk_size = 3, .compressed_positions = SummaryPositions::kChunkStart, .gate = HcaGate::kSeparate});
  c.config.num_attention_heads = 4;
  c.sequences = 2;
  cases.push_back(c);
  c = HcaCase(
      "hca, the text's keys, no norms",
      {hca1, hca1},
      {.chunk_size = 4, .compressed_positions = SummaryPositions::kZero, .independent_kv = false, .value_norm = false});
  c.config.qk_norm = false;
  cases.push_back(c);
  c = HcaCase("hca, overlap, rope none, short_conv",
              {HcaLayer(1, kOverlap, Conv(4, RopeUse::kNone)), HcaLayer(0, kOverlap, Conv(2))},
              {.chunk_size = 3, .visibility = kOverlap, .independent_kv = false, .gate = HcaGate::kSeparate});
  c.sequences = 2;
  cases.push_back(c);
  cases.push_back(HcaCase("hca, chunks of one token", {HcaLayer(2), HcaLayer(0)}, {.chunk_size = 1}));
  c = HcaCase("hca, no entry is live", {hca1, HcaLayer(5)}, {.chunk_size = 8});
  c.tokens = 7;
  cases.push_back(c);
  for (const bool overlap : {false, true}) {
    c = HcaCase(overlap ? "documents, hca, overlap" : "documents, hca, short_conv",
                overlap ? std::vector{HcaLayer(0, kOverlap), HcaLayer(1, kOverlap)}
                        : std::vector{HcaLayer(0, HcaVisibility::kDisjoint, Conv(3)), kFull, hca0},
                {.chunk_size = 3, .visibility = overlap ? kOverlap : HcaVisibility::kDisjoint});
    c.documents = {5, 7, 4, 9, 1};
    c.sequences = 2;
    cases.push_back(c);
  }
}

// Heads of 3 + 2 columns of keys and 5 of values.
ModelCase MlaCase(const std::string& name, const std::vector<LayerSpec>& layers, std::optional<int32_t> q_lora_rank) {
  ModelCase c = Case(name, layers);
  c.config.mixers.Of<MlaConfig>() = {
      .q_lora_rank = q_lora_rank, .kv_lora_rank = 7, .qk_nope_head_dim = 3, .qk_rope_head_dim = 2, .v_head_dim = 5};
  return c;
}

LayerSpec LatentKsa(int32_t window, const AttentionOptions& options = {}) {
  return WithMla(KsaKind(), AttentionWindow::Ksa(window), options);
}

void AddMlaCases(std::vector<ModelCase>& cases) {
  const LayerSpec swa = WithMla(SwaKind(), AttentionWindow::SlidingTokens(4));
  const LayerSpec sca = WithMla(ScaKind(), AttentionWindow::SlidingChunks(1));
  const LayerSpec full = WithMla(FullKind(), AttentionWindow::Full());
  cases.push_back(MlaCase("mla", {MlaLayer(), MlaLayer()}, std::nullopt));
  ModelCase c = MlaCase("mla, query latents, with full, swa and sca", {MlaLayer(), kFull, swa, sca}, 6);
  c.sequences = 2;
  cases.push_back(c);
  c = MlaCase("ksa of latents, everything own, m 2, annealed", {LatentKsa(1), full, LatentKsa(0)}, 6);
  c.config.ksa.independent = kAllOwn;
  c.config.ksa.summary_tokens = 2;
  c.mix = 0.3;
  cases.push_back(c);
  c = MlaCase("ksa of latents, own qkv, annealed", {LatentKsa(1), kKsa1, LatentKsa(0)}, std::nullopt);
  c.mix = 0.7;
  cases.push_back(c);
  cases.push_back(MlaCase("ksa of latents", {LatentKsa(1), MlaLayer(), LatentKsa(0)}, std::nullopt));
  c = MlaCase("ksa of latents, nothing own", {LatentKsa(1), LatentKsa(0)}, 6);
  c.config.ksa.independent = kNothingOwn;
  c.sequences = 2;
  cases.push_back(c);
  c = MlaCase(
      "ksa of latents, short_conv, rope none", {LatentKsa(1, Conv(3)), LatentKsa(0, Conv(4, RopeUse::kNone))}, 6);
  cases.push_back(c);
  c = MlaCase("documents, latents, short_conv", {LatentKsa(0), MlaLayer(Conv(3)), swa, LatentKsa(0)}, std::nullopt);
  c.documents = {5, 7, 4, 1};
  c.sequences = 2;
  cases.push_back(c);
}

// Heads of 3 columns of keys and 5 of values, two heads of values to one of keys.
ModelCase GdnCase(const std::string& name, const std::vector<LayerSpec>& layers) {
  ModelCase c = Case(name, layers);
  c.config.mixers.Of<GdnConfig>() = {
      .key_heads = 2, .value_heads = 4, .key_head_dim = 3, .value_head_dim = 5, .conv_taps = 3};
  c.config.ksa.full_layers = FullLayers::kBypass;
  return c;
}

void AddGdnCases(std::vector<ModelCase>& cases) {
  const LayerSpec gdn = GdnLayer();
  cases.push_back(GdnCase("gdn", {gdn, gdn}));
  ModelCase c = GdnCase("gdn, writes up to 2, more taps, with full, swa and sca", {gdn, kFull, gdn, kSwa, kSca});
  c.config.mixers.Of<GdnConfig>() = {.key_heads = 4,
                                     .value_heads = 4,
                                     .key_head_dim = 5,
                                     .value_head_dim = 3,
                                     .conv_taps = 7,
                                     .allow_neg_eigval = true};
  c.config.rms_norm_eps = 0.1;  // norms of three columns, some nearly 0: high derivatives grow with 1 / sqrt(eps)
  c.sequences = 2;
  cases.push_back(c);
  c = GdnCase("gdn, two chunks of its own", {gdn});
  c.tokens = 100;
  cases.push_back(c);
  c = GdnCase("gdn, ksa, m 2, everything own", {kKsa1, gdn, kKsa0, gdn});
  c.config.ksa.independent = kAllOwn;
  c.config.ksa.summary_tokens = 2;
  cases.push_back(c);
  c = GdnCase("documents, gdn, no MLP", {gdn, gdn});
  c.config.intermediate_size = 0;
  c.documents = {5, 70, 4, 1};
  c.sequences = 2;
  cases.push_back(c);
  c = GdnCase("documents, gdn, ksa and full", {gdn, kKsa0, gdn, kFull, kKsa0});
  c.documents = {5, 7, 4, 1};
  c.sequences = 2;
  cases.push_back(c);
}

// Chunks of 3: two chunks of 5 tokens, three of 7, two of 4 and one of 1. With w = 0 and 1 some summaries are live in
// the longer ones.
void AddDocumentCases(std::vector<ModelCase>& cases) {
  ModelCase c = Case("documents, ksa", {kKsa0, kKsa1, kKsa0});
  c.documents = {5, 7, 4, 1};
  c.sequences = 2;
  cases.push_back(c);
  c = Case("documents, hybrid, m 2, everything own", {kKsa0, kFull, kSwa, kKsa0});
  c.documents = {5, 7, 4, 1};
  c.config.ksa.summary_tokens = 2;
  c.config.ksa.independent = kAllOwn;
  cases.push_back(c);
  c = Case("documents, bypass, inner chunk positions", {kKsa0, kFull, kKsa0});
  c.documents = {9, 7};
  c.config.ksa.full_layers = FullLayers::kBypass;
  c.config.ksa.text_positions = TextPositions::kInnerChunk;
  cases.push_back(c);
  c = Case("documents, full and swa", {kFull, kSwa});
  c.documents = {5, 7, 4, 1};
  cases.push_back(c);
  c = Case("documents, sca", {kSca, kSca});
  c.documents = {10, 3, 5};
  cases.push_back(c);
}

}  // namespace

std::vector<ModelCase> ModelCases() {
  std::vector<ModelCase> cases;
  AddKsaCases(cases);
  AddAnnealCases(cases);
  AddHybridCases(cases);
  AddPlainCases(cases);
  AddCasesWithoutMlp(cases);
  AddRopeCases(cases);
  AddConvCases(cases);
  AddHcaCases(cases);
  AddMlaCases(cases);
  AddGdnCases(cases);
  AddDocumentCases(cases);
  for (ModelCase& c : cases) {
    // The last document's padding, and a chunk of padding behind it.
    const int32_t k = c.config.ChunkSize();
    int32_t chunks = 1;
    for (const int32_t length : c.documents) {
      chunks += (length + k - 1) / k;
    }
    c.tokens = c.documents.empty() ? c.tokens : chunks * k;
  }
  return cases;
}

ModelCase FindCase(const std::string& name) {
  for (const ModelCase& c : ModelCases()) {
    if (c.name == name) {
      return c;
    }
  }
  Fail(ExitCode::kInternal, "no model case is called {}", name);
}

namespace {

int TensorRanks(const ProcessMesh* mesh) {
  return mesh == nullptr ? 1 : mesh->Size(MeshAxis::kTensor);
}

FlatSharding ShardingOf(const ProcessMesh* mesh) {
  return {.tensor_parts = TensorRanks(mesh), .tensor_rank = mesh == nullptr ? 0 : mesh->Rank(MeshAxis::kTensor)};
}

}  // namespace

ModelHarness::ModelHarness(const ModelCase& model_case, DType dtype, const Place& place, const ProcessMesh* mesh)
    : case_(model_case),
      mesh_(mesh),
      place_(place.memory == nullptr ? Place{{}, &allocator_} : place),
      store_(ParameterSpecs(case_.config, TensorRanks(mesh), mesh != nullptr && mesh->sequence_parallel()),
             dtype,
             *place_.memory,
             ShardingOf(mesh),
             place_.stream),
      model_(case_.config, store_, *place_.memory, place_.stream, case_.tokens) {
  store_.Initialize(17, place_.stream);
  // Norm weights that differ from 1, what starts as 0 that does not stay there, and all from each other.
  for (const Parameter& parameter : store_.parameters()) {
    if (parameter.spec.init_std == 0.0) {
      const Tensor whole = Normal(parameter.spec.name, parameter.spec.shape, store_.state_dtype(), allocator_);
      const double mean = parameter.spec.initial == nullptr ? 1.0 : 0.0;
      const HeldRuns held = HeldRunsOf(parameter);
      const Tensor values = Tensor::Empty({parameter.shape.size()}, store_.state_dtype(), allocator_);
      for (int64_t i = 0; i < values.size(); ++i) {
        SetElement(values, i, mean + 0.3 * ElementAt(whole, held.InWhole(i)));
      }
      store_.SetWeights(parameter, values, place_.stream);
    }
  }
  MakeText();
}

void ModelHarness::TakeWeights(const ModelHarness& other) {
  for (size_t p = 0; p < store_.parameters().size(); ++p) {
    const Parameter& parameter = store_.parameters()[p];
    const std::vector<double> from = ValuesOf(other.store_.parameters()[p].value, other.place_.stream);
    const Tensor values = Tensor::Empty({parameter.spec.shape.size()}, store_.state_dtype(), allocator_);
    for (int64_t i = 0; i < values.size(); ++i) {
      SetElement(values, i, from[static_cast<size_t>(i)]);
    }
    store_.SetWeights(parameter, values, place_.stream);
  }
}

void ModelHarness::ShakeWeights(int draw) {
  if (draw == 0) {
    return;
  }
  constexpr double kMost = 1.0 / 64.0;
  std::mt19937_64 random(static_cast<uint64_t>(draw));
  std::uniform_real_distribution<double> change(-kMost, kMost);
  for (const Parameter& parameter : store_.parameters()) {
    const std::vector<double> from = ValuesOf(parameter.value, place_.stream);
    const Tensor values = Tensor::Empty({parameter.spec.shape.size()}, store_.state_dtype(), allocator_);
    for (int64_t i = 0; i < values.size(); ++i) {
      SetElement(values, i, from[static_cast<size_t>(i)] * (1.0 + change(random)));
    }
    store_.SetWeights(parameter, values, place_.stream);
  }
}

void ModelHarness::MakeText() {
  const int32_t k = case_.config.ChunkSize();
  const int32_t chunks = (case_.tokens + k - 1) / k;
  const bool packed = !case_.documents.empty();
  const std::vector<int32_t> lengths = packed ? case_.documents : std::vector<int32_t>{case_.tokens};
  const Tensor first_chunk = Tensor::Zeros({int64_t{1} * case_.sequences * chunks}, DType::kI32, allocator_);
  const Tensor chunk_tokens = Tensor::Zeros(first_chunk.shape(), DType::kI32, allocator_);
  const Tensor random =
      Integers("text", {int64_t{1} * case_.sequences * (case_.tokens + 1)}, 0, case_.config.vocab_size, allocator_);
  ids_ = Tensor::Zeros({int64_t{1} * case_.sequences * case_.tokens}, DType::kI32, allocator_);
  targets_ = Tensor::Empty(ids_.shape(), DType::kI32, allocator_);
  std::fill_n(targets_.As<int32_t>(), targets_.size(), -1);
  for (int32_t s = 0; s < case_.sequences; ++s) {
    int32_t chunk = 0;
    for (const int32_t length : lengths) {
      const DocumentPlace place = {s, chunk * k, length};
      places_.push_back(place);
      for (int32_t i = 0; i < length; ++i) {
        const int64_t row = FirstRow(place) + i;
        ids_.As<int32_t>()[row] = random.As<int32_t>()[row];
        if (i + 1 < length) {
          targets_.As<int32_t>()[row] = random.As<int32_t>()[row + 1];
          target_count_ += 1.0;
        }
      }
      const int32_t first = chunk;
      for (int32_t left = length; left > 0 && packed; left -= k, ++chunk) {
        first_chunk.As<int32_t>()[s * chunks + chunk] = first;
        chunk_tokens.As<int32_t>()[s * chunks + chunk] = std::min(left, k);
      }
    }
    for (; chunk < chunks && packed; ++chunk) {
      first_chunk.As<int32_t>()[s * chunks + chunk] = chunk;
    }
  }
  if (packed) {
    document_first_chunk_ = ToPlace(first_chunk, place_);
    chunk_tokens_ = ToPlace(chunk_tokens, place_);
  }
}

std::vector<int32_t> ModelHarness::TokensOf(const DocumentPlace& place) const {
  const int32_t* first = ids_.As<int32_t>() + FirstRow(place);
  return {first, first + place.length};
}

int ModelHarness::ContextRanks() const {
  return mesh_ == nullptr ? 1 : mesh_->Size(MeshAxis::kContext);
}

std::vector<RowSegment> ModelHarness::TextHere(int32_t count) const {
  const int rank = mesh_ == nullptr ? 0 : mesh_->Rank(MeshAxis::kContext);
  return SegmentsOf(MakeLayout(case_.config, count, case_.tokens), ContextRanks(), rank, false);
}

Tensor ModelHarness::Here(const Tensor& text, int32_t first_sequence, int32_t count) const {
  const int32_t* whole = text.As<int32_t>() + int64_t{1} * first_sequence * case_.tokens;
  std::vector<int32_t> values;
  for (const RowSegment& segment : TextHere(count)) {
    values.insert(values.end(), whole + segment.whole, whole + segment.whole + segment.rows);
  }
  return ToPlace({values.data(), DType::kI32, {}, {static_cast<int64_t>(values.size())}}, place_);
}

KsaModel::Input ModelHarness::InputOf(int32_t first_sequence, int32_t count, const Options& options) {
  KsaModel::Input input;
  input.ids = Here(ids_, first_sequence, count);
  const bool packed = !document_first_chunk_.empty();
  const int32_t k = case_.config.ChunkSize();
  const int64_t first_chunk = int64_t{1} * first_sequence * ((case_.tokens + k - 1) / k);
  input.layout = MakeLayout(case_.config,
                            count,
                            case_.tokens,
                            packed ? document_first_chunk_.As<int32_t>() + first_chunk : nullptr,
                            packed ? chunk_tokens_.As<int32_t>() + first_chunk : nullptr);
  if (options.all_chunks_live && case_.config.HasSummaryRows()) {
    input.layout.live_chunks = input.layout.chunks();
  }
  if (ContextRanks() > 1) {
    input.layout = MakeLocalLayout(input.layout, ContextRanks(), mesh_->Rank(MeshAxis::kContext));
  }
  input.context_method = options.context_method;
  input.mix = case_.mix;
  input.recompute = options.recompute;
  input.on_gradients = options.on_gradients;
  return input;
}

Stream ModelHarness::StreamOf(const Options& options) const {
  Stream stream = place_.stream;
  stream.threads = stream.device.IsCpu() ? options.threads : stream.threads;
  return stream;
}

ExecContext ModelHarness::Context(const Stream& stream, Tape* tape) const {
  return {.tape = tape, .stream = stream, .allocator = place_.memory, .mesh = mesh_};
}

Outcome ModelHarness::Run(const Options& options) {
  const Stream stream = StreamOf(options);
  const int32_t step = options.micro_batch == 0 ? case_.sequences : options.micro_batch;
  Outcome outcome;
  outcome.hidden = Tensor::Zeros({ids_.size(), case_.config.hidden_size}, store_.compute_dtype(), allocator_);
  store_.BeginUpdate();
  for (int32_t first = 0; first < case_.sequences; first += step) {
    const int64_t first_row = int64_t{1} * first * case_.tokens;
    Tape tape;
    const ExecContext cx = Context(stream, &tape);
    const KsaModel::Input input = InputOf(first, step, options);
    const Var hidden = model_.Hidden(cx, input);
    const Tensor rows = TensorEnter(Context(stream, nullptr), hidden, {input.layout.text_rows()}).value;
    for (const RowSegment& s : TextHere(step)) {
      CopyToHost(rows.Rows(s.local, s.rows), outcome.hidden.Rows(first_row + s.whole, s.rows), stream);
    }
    const CrossEntropyResult loss = model_.Loss(cx, hidden, Here(targets_, first, step), 1.0 / target_count_);
    outcome.loss += ValuesOf(loss.loss_sum.value, stream)[0] / target_count_;
    tape.Backward(cx, loss.loss_sum, Tensor());
  }
  store_.FinishGradients(stream);
  for (const Parameter& parameter : store_.parameters()) {
    outcome.gradients.push_back(ValuesOf(parameter.grad, stream));
  }
  return outcome;
}

double ModelHarness::Loss() {
  const ExecContext cx = Context(place_.stream, nullptr);
  const Var hidden = model_.Hidden(cx, InputOf(0, case_.sequences, {}));
  const CrossEntropyResult loss = model_.Loss(cx, hidden, Here(targets_, 0, case_.sequences), 1.0);
  return ValuesOf(loss.loss_sum.value, place_.stream)[0] / target_count_;
}

}  // namespace ksa::testing
