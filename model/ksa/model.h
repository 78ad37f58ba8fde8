// KsaModel: the whole network, from token ids to the loss.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"
#include "model/layers/block.h"
#include "model/mixers/decode.h"
#include "model/mixers/mixer.h"
#include "model/mixers/rope_tables.h"
#include "model/ops/loss.h"

namespace ksa {

// The layout of a batch of `sequences` of `text_tokens` tokens: the summaries that some text can see have rows.
// `document_first_chunk` and `chunk_tokens` [sequences, C], or null for whole documents, must outlive the layout.
[[nodiscard]] SummaryLayout MakeLayout(const ModelConfig& config,
                                       int32_t sequences,
                                       int32_t text_tokens,
                                       const int32_t* document_first_chunk = nullptr,
                                       const int32_t* chunk_tokens = nullptr);

// The annealing weight a of update u (from 1): 1 without annealing.
[[nodiscard]] double AnnealMix(const ModelConfig& config, int64_t update);

class KsaModel {
 public:
  // `store` was made from ParameterSpecs(config) of the mesh that will run it; it and `allocator` must outlive the
  // model. `positions`: the longest sequence that will be run. Error(kConfig) on a GPU that cannot run all layers.
  KsaModel(
      const ModelConfig& config, ParameterStore& store, Allocator& allocator, const Stream& stream, int64_t positions);

  [[nodiscard]] const ModelConfig& config() const { return config_; }

  [[nodiscard]] ParameterStore& store() { return store_; }

  // Self-distillation (docs/design/distillation.md). The teacher is the same model without summary rows, every layer
  // full attention, without gradient. It runs a layer ahead of the student, which is pulled to its attention outputs.
  struct Teaching {
    double scale = 0.0;  // of the gradient of the sum over layers and elements
    bool normalize = false;
    Tensor sum;                            // [1] fp64, added to: that sum
    std::vector<Tensor>* trace = nullptr;  // for tests: by layer in which summary rows attend, the teacher's output
    Tensor hidden{};                       // out: [text rows, d] of the teacher, as Hidden returns the student's
  };

  struct Input {
    Tensor ids;            // [text rows] int32, 0 <= id < vocab_size
    SummaryLayout layout;  // of MakeLayout; over several context ranks this rank's, of MakeLocalLayout
    double mix = 1.0;      // AnnealMix
    Recompute recompute = Recompute::kNone;
    ContextMethod context_method = ContextMethod::kAuto;
    std::vector<Var>* trace = nullptr;  // for tests: the embedding, then the residual stream after every layer
    Teaching* teaching = nullptr;       // null: no teacher runs
    // Decoding: a cache for each layer, of MakeCaches; MixerCall says what these three are. A step's layout is its own.
    const std::vector<std::unique_ptr<LayerCache>>* caches = nullptr;
    int32_t slot = 0;
    DecodeStep* step = nullptr;
    // Told by backward, with falling numbers: it is done with the parameters whose first_layer is `layer` or later.
    std::function<void(int32_t layer)> on_gradients;  // may be empty
  };

  // -> [text rows, d], after the final norm; under sequence parallelism this rank's part of them.
  [[nodiscard]] Var Hidden(const ExecContext& cx, const Input& input);

  // What the loss is of.
  struct Targets {
    Tensor ids;  // [n] int32, of the rows below; < 0: none
    // [n] int32: numbers of text rows, `first_row` being the first of `text_rows`; empty: all text rows, in their
    // order. Rows that are not named reach neither the head nor the cross-entropy.
    Tensor rows{};
    int64_t first_row = 0;
    int64_t text_rows = 0;
    bool margins = false;  // CrossEntropyResult::margin is asked for, without a tape

    Targets() = default;

    Targets(Tensor of_all) : ids(std::move(of_all)), text_rows(ids.size()) {}  // NOLINT(google-explicit-constructor)
  };

  // Cross-entropy of hidden text rows; with a tape, gradients of grad_scale · sum start here. `loss_sum` [1] fp64 is
  // added to; empty: a new one. The result's rows are those of `targets`.
  [[nodiscard]] CrossEntropyResult Loss(
      const ExecContext& cx, const Var& hidden, const Targets& targets, double grad_scale, Tensor loss_sum = {});

  // The same with further terms; options.teacher is Teaching::hidden.
  [[nodiscard]] CrossEntropyResult Loss(const ExecContext& cx,
                                        const Var& hidden,
                                        const Targets& targets,
                                        LossOptions options);

  // Empty, or which layer cannot be decoded with a cache where `cx` computes.
  [[nodiscard]] std::string WhyNoCaches(const ExecContext& cx) const;

  // What decoding keeps, by layer; a null pointer where a layer cannot. On one context rank.
  [[nodiscard]] std::vector<std::unique_ptr<LayerCache>> MakeCaches(const ExecContext& cx,
                                                                    int32_t slots,
                                                                    int32_t tokens) const;

  // hidden [n, d] -> [n, EmbeddingRows()]. For a few rows: every tensor rank has them all.
  [[nodiscard]] Tensor Logits(const ExecContext& cx, const Tensor& hidden);

 private:
  struct Layer {
    WeightPair norm;
    std::unique_ptr<BoundMixer> mixer;
    std::unique_ptr<BoundMixer> teacher;  // null: the kind has none
    MlpWeights mlp;                       // without parameters in a block without MLP
    bool summaries_attend = false;
  };

  [[nodiscard]] SummaryRole RoleOf(size_t index, const SummaryLayout& layout) const;
  [[nodiscard]] Residual RunLayer(const ExecContext& cx,
                                  const Residual& x,
                                  size_t index,
                                  const Input& input,
                                  const std::shared_ptr<AttentionTarget>& target);
  [[nodiscard]] Var Final(const ExecContext& cx, const Residual& x, const SummaryLayout& layout);

  class Teacher;

  ModelConfig config_;
  ParameterStore& store_;
  RopeTables ropes_;
  std::vector<Layer> layers_;
  Parameter* head_ = nullptr;
};

}  // namespace ksa
