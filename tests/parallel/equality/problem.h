// What meshes of ranks are held against one rank on: small models of every kind with odd sizes, their text, and the
// layouts they run on.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/batch.h"
#include "kernels/core/dtype.h"
#include "model/mixers/model_config.h"
#include "parallel/mesh/process_mesh.h"
#include "trainer/config/config.h"

namespace ksa::testing {

// What is trained. Layouts change no more of its results than the order of sums does.
struct Problem {
  std::string name;  // another problem has another one
  ModelConfig model;
  int32_t tokens = 0;      // T, of a sequence
  int32_t samples = 8;     // of an update, all ranks together
  bool documents = false;  // several in a sequence
  DType precision = DType::kF64;
  Trainable trainable = Trainable::kAll;
  std::optional<DistillConfig> distill;
  double z_loss = 0.0;
};

// How it is trained.
struct RunLayout {
  MeshShape mesh;
  bool sequence_parallel = false;
  int32_t zero = 0;
  int32_t micro_batch = 8;  // at most: a rank has samples / data ranks
  Recompute recompute = Recompute::kNone;
  int64_t bucket_elements = INT64_MAX;
  int threads = 1;  // of a rank

  [[nodiscard]] std::string ToString() const;
};

// "2x1x4": data, context and tensor ranks.
[[nodiscard]] std::string NameOf(const MeshShape& mesh);

// kOptions: layers of several kinds with options of their own (model/mixers/attention/options.h).
// kDistilled: ksa, latents, full and sliding attention, pulled to their teacher; in half of the bundles the summaries
// alone learn.
enum class ModelKind : int { kKsa, kAttend, kBypass, kSca, kSwa, kFull, kOptions, kHca, kMla, kGdn, kDistilled };
inline constexpr std::array<ModelKind, 11> kModelKinds = {ModelKind::kKsa,
                                                          ModelKind::kAttend,
                                                          ModelKind::kBypass,
                                                          ModelKind::kSca,
                                                          ModelKind::kSwa,
                                                          ModelKind::kFull,
                                                          ModelKind::kOptions,
                                                          ModelKind::kHca,
                                                          ModelKind::kMla,
                                                          ModelKind::kGdn,
                                                          ModelKind::kDistilled};

[[nodiscard]] const char* NameOf(ModelKind kind);

// The options of a model and its text come in bundles, 0 to kBundles - 1, so that each of their values is in half of
// them: one or two summaries a chunk, plain text or documents, an output matrix of its own or tied, and what of the
// summaries is independent. One of them has blocks without MLP.
inline constexpr int kBundles = 4;

// A small model of a kind. 3 or 6 tensor ranks get 6 query and 3 key/value heads, others 8 and 2. 17 chunks where there
// are chunks, of which 2, 4 and 8 context ranks cannot have the same number each, and the last of which is short.
[[nodiscard]] Problem MakeProblem(ModelKind kind, int bundle, int64_t tensor_ranks);

// Every mesh of up to 8 ranks from {1, 2, 4, 8} in each direction, and some of 3 and 6 tensor ranks.
[[nodiscard]] std::vector<MeshShape> Meshes();

// Samples [first, first + count) of update `update` (from 1): a pure function of these and the problem. Samples have
// different numbers of targets; one of them in the second update has none.
[[nodiscard]] Batch SamplesOf(const Problem& problem, int64_t update, int64_t first, int64_t count);

}  // namespace ksa::testing
