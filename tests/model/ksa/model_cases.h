// Small models of every kind, and one place that runs them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "model/ksa/model.h"
#include "model/ksa/parameters.h"
#include "parallel/context/slices.h"
#include "tests/support/kernel_test.h"
#include "tests/support/place.h"

namespace ksa::testing {

// A model and the text it runs on.
struct ModelCase {
  std::string name;
  ModelConfig config;
  int32_t sequences = 1;
  // Lengths of the documents of each sequence; a document starts at a multiple of the chunk size. Empty: one document
  // of `tokens` tokens.
  std::vector<int32_t> documents;
  int32_t tokens = 19;
  double mix = 1.0;
};

// Every option of docs/ksa.md at least once.
[[nodiscard]] std::vector<ModelCase> ModelCases();
[[nodiscard]] ModelCase FindCase(const std::string& name);

// Where a document lies in a sequence.
struct DocumentPlace {
  int32_t sequence = 0;
  int32_t first = 0;  // text row of the sequence
  int32_t length = 0;
};

// What one forward and backward pass gave, in host memory.
struct Outcome {
  double loss = 0.0;                           // mean over targets; of a context rank its part of it
  Tensor hidden;                               // [text rows, d]; zero where the rank has none
  std::vector<std::vector<double>> gradients;  // of what the rank holds of every parameter, of the mean loss
};

class ModelHarness {
 public:
  // Computes at `place`, which must outlive it; without memory there: on the CPU, in guarded memory. With a mesh, which
  // must outlive it too: as one of its tensor ranks, which all run the same text, and context ranks, which share it.
  ModelHarness(const ModelCase& model_case, DType dtype, const Place& place = {}, const ProcessMesh* mesh = nullptr);

  struct Options {
    Recompute recompute = Recompute::kNone;
    int threads = 1;  // on the CPU
    bool all_chunks_live = false;
    int32_t micro_batch = 0;  // sequences a pass; 0: all
    ContextMethod context_method = ContextMethod::kAuto;
    std::function<void(int32_t layer)> on_gradients;
  };

  [[nodiscard]] Outcome Run(const Options& options);

  [[nodiscard]] Outcome Run() { return Run(Options()); }

  // Weights of another harness of the same case, in any type and at any place.
  void TakeWeights(const ModelHarness& other);

  // Changes every weight by up to a sixty-fourth of itself, at random: another run of the same kind, of which every
  // step rounds otherwise. `draw`: 0 changes nothing.
  void ShakeWeights(int draw);

  // The mean loss alone.
  [[nodiscard]] double Loss();

  [[nodiscard]] ParameterStore& store() { return store_; }

  [[nodiscard]] KsaModel& model() { return model_; }

  [[nodiscard]] Tensor& ids() { return ids_; }

  [[nodiscard]] const std::vector<DocumentPlace>& places() const { return places_; }

  [[nodiscard]] std::vector<int32_t> TokensOf(const DocumentPlace& place) const;

  // Row of `hidden` in which a document starts.
  [[nodiscard]] int64_t FirstRow(const DocumentPlace& place) const {
    return int64_t{1} * place.sequence * case_.tokens + place.first;
  }

 private:
  void MakeText();
  [[nodiscard]] int ContextRanks() const;
  // The text rows of `count` sequences that this rank has.
  [[nodiscard]] std::vector<RowSegment> TextHere(int32_t count) const;
  // Of ids or targets of the whole text: what this rank has of these sequences, where the model computes.
  [[nodiscard]] Tensor Here(const Tensor& text, int32_t first_sequence, int32_t count) const;
  [[nodiscard]] KsaModel::Input InputOf(int32_t first_sequence, int32_t count, const Options& options);
  [[nodiscard]] Stream StreamOf(const Options& options) const;

  [[nodiscard]] ExecContext Context(const Stream& stream, Tape* tape) const;

  ModelCase case_;
  const ProcessMesh* mesh_;
  GuardAllocator allocator_;  // of the host
  Place place_;
  ParameterStore store_;
  KsaModel model_;
  std::vector<DocumentPlace> places_;
  Tensor document_first_chunk_;  // [sequences, C], where the model computes; empty: whole sequences
  Tensor chunk_tokens_;
  Tensor ids_;      // [sequences, T], on the host
  Tensor targets_;  // [sequences, T], on the host
  double target_count_ = 0.0;
};

}  // namespace ksa::testing
