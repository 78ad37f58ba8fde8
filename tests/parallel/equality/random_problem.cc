#include "tests/parallel/equality/random_problem.h"

#include <cstdlib>
#include <sstream>

#include <fmt/core.h>

#include "kernels/core/philox.h"
#include "model/mixers/full/full.h"
#include "model/mixers/ksa/ksa.h"
#include "model/mixers/sca/sca.h"
#include "model/mixers/swa/swa.h"

namespace ksa::testing {
namespace {

class Random {
 public:
  explicit Random(uint64_t seed) : key_(NamedKey(seed, "random case")) {}

  // low to high, both included.
  [[nodiscard]] int32_t Number(int32_t low, int32_t high) {
    const uint32_t bits = Philox4x32(key_, counter_++)[0];
    return low + static_cast<int32_t>(bits % static_cast<uint32_t>(high - low + 1));
  }

  [[nodiscard]] bool Coin() { return Number(0, 1) == 1; }

 private:
  uint64_t key_;
  uint64_t counter_ = 0;
};

MeshShape RandomMesh(Random& random) {
  MeshShape mesh;
  do {
    mesh = {.data = random.Number(1, 8), .context = random.Number(1, 8), .tensor = random.Number(1, 8)};
  } while (mesh.size() > 8);
  return mesh;
}

void AddHeads(Random& random, int32_t tensor_ranks, ModelConfig& config) {
  do {
    config.num_attention_heads = tensor_ranks * random.Number(1, 3);
    config.num_key_value_heads = random.Number(1, config.num_attention_heads);
  } while (config.num_attention_heads % config.num_key_value_heads != 0 ||
           (config.num_key_value_heads % tensor_ranks != 0 && tensor_ranks % config.num_key_value_heads != 0));
  config.head_dim = 2 * random.Number(1, 4);
}

void AddLayers(Random& random, ModelConfig& config) {
  config.num_hidden_layers = random.Number(1, 4);
  for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    AttentionOptions options;
    options.rope = random.Number(0, 3) == 0 ? RopeUse::kNone : RopeUse::kDefault;
    options.short_conv = random.Number(0, 2) == 0 ? random.Number(2, 16) : 0;
    switch (random.Number(0, 5)) {
      case 0:
        config.layers.push_back(FullLayer(options));
        break;
      case 1:
        config.layers.push_back(SwaLayer(random.Number(1, 40), options));
        break;
      case 2:
        config.layers.push_back(ScaLayer(random.Number(0, 6), options));
        break;
      default:
        config.layers.push_back(KsaLayer(random.Number(0, 6), options));
    }
  }
}

void AddSummaries(Random& random, ModelConfig& config) {
  KsaConfig& ksa = config.ksa;
  ksa.chunk_size = random.Number(1, 9);
  config.mixers.Of<ScaConfig>().chunk_size = ksa.chunk_size;
  ksa.summary_tokens = random.Number(1, 4);
  ksa.text_positions = random.Coin() ? TextPositions::kOrigin : TextPositions::kInnerChunk;
  ksa.summary_positions = static_cast<SummaryPositions>(random.Number(0, 2));
  ksa.full_layers = random.Coin() ? FullLayers::kAttend : FullLayers::kBypass;
  ksa.independent = {.embedding = random.Coin(), .qkv = random.Coin(), .norm = random.Coin()};
  ksa.independent.qk_norm = ksa.independent.qkv && random.Coin();
  if (ksa.independent.qkv && random.Coin()) {
    ksa.anneal = {.start_step = random.Number(0, 2), .end_step = random.Number(3, 6)};
  }
}

ModelConfig RandomModel(Random& random, int32_t tensor_ranks) {
  ModelConfig config;
  config.vocab_size = random.Number(tensor_ranks + 1, 97);
  config.hidden_size = random.Number(8, 40);  // norms of fewer channels magnify roundings too much
  config.intermediate_size = random.Number(0, 5) == 0 ? 0 : random.Number(tensor_ranks, 50);
  AddHeads(random, tensor_ranks, config);
  config.rope_theta = 100.0;
  config.rms_norm_eps = 1e-3;
  config.qk_norm = random.Coin();
  config.tie_word_embeddings = random.Coin();
  config.initializer_range.fan_in = true;
  AddLayers(random, config);
  AddSummaries(random, config);
  return config;
}

RunLayout RandomLayout(Random& random, const MeshShape& mesh) {
  RunLayout layout = {.mesh = mesh};
  layout.sequence_parallel = layout.mesh.tensor > 1 && random.Coin();
  layout.zero = random.Number(0, 1);
  layout.micro_batch = random.Number(1, 3);
  layout.recompute = static_cast<Recompute>(random.Number(0, 3));
  layout.bucket_elements = random.Coin() ? 1 : 200 * random.Number(1, 50);
  return layout;
}

bool Fits(const Problem& problem, const MeshShape& mesh) {
  const ModelConfig& model = problem.model;
  const int64_t kv_heads = model.num_key_value_heads;
  const int64_t chunks = (problem.tokens + model.ChunkSize() - 1) / model.ChunkSize();
  return model.num_attention_heads % mesh.tensor == 0 && (kv_heads % mesh.tensor == 0 || mesh.tensor % kv_heads == 0) &&
         model.vocab_size >= mesh.tensor && (model.intermediate_size == 0 || model.intermediate_size >= mesh.tensor) &&
         problem.samples % mesh.data == 0 && (mesh.context == 1 || chunks >= 2 * mesh.context);
}

}  // namespace

RandomCase MakeRandomCase(uint64_t seed) {
  Random random(seed);
  RandomCase made;
  made.layout = RandomLayout(random, RandomMesh(random));
  const MeshShape& mesh = made.layout.mesh;
  Problem& problem = made.problem;
  problem.name = fmt::format("random {}", seed);
  problem.model = RandomModel(random, static_cast<int32_t>(mesh.tensor));
  const int32_t k = problem.model.ChunkSize();
  const auto slices = static_cast<int32_t>(mesh.context > 1 ? 2 * mesh.context : 1);
  problem.tokens = (slices + random.Number(0, k > 1 ? 20 : 60) - 1) * k + random.Number(1, k);
  problem.samples = static_cast<int32_t>(mesh.data) * random.Number(1, 3);
  problem.documents = random.Coin();
  MeshShape other;
  do {
    other = RandomMesh(random);
  } while (!Fits(problem, other));
  made.other = RandomLayout(random, other);
  return made;
}

Seeds SeedsToRun(uint64_t count) {
  Seeds seeds = {1, count};
  if (const char* asked = std::getenv("KSA_RANDOM_CASES")) {
    std::istringstream(asked) >> seeds.first >> seeds.count;
  }
  return seeds;
}

std::string Describe(const RandomCase& random) {
  const ModelConfig& model = random.problem.model;
  std::string layers;
  for (const LayerSpec& layer : model.layers) {
    layers += layer->kind().name();
    for (const auto& [name, value] : layer->kind().EntryOf(model, *layer)) {
      const auto* number = std::get_if<int64_t>(&value);
      layers +=
          fmt::format("({} {})", name, number == nullptr ? std::get<std::string>(value) : fmt::format("{}", *number));
    }
    layers += " ";
  }
  return fmt::format(
      "{}: {}; then {}; {}k {}, m {}, T {}, {} samples, documents {}, heads {}/{} of {}, hidden {}, mlp {}, vocabulary "
      "{}, tied "
      "{}",
      random.problem.name,
      random.layout.ToString(),
      random.other.ToString(),
      layers,
      model.ChunkSize(),
      model.SummaryTokens(),
      random.problem.tokens,
      random.problem.samples,
      random.problem.documents,
      model.num_attention_heads,
      model.num_key_value_heads,
      model.head_dim,
      model.hidden_size,
      model.intermediate_size,
      model.vocab_size,
      model.tie_word_embeddings);
}

}  // namespace ksa::testing
