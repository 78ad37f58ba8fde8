// What a layer mixes, in plain loops over double: one function a kind, for the naive model.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/autograd/parameter.h"
#include "model/mixers/mixer.h"

namespace ksa::testing {

using NaiveVector = std::vector<double>;

// A text token or a summary of one document.
struct NaiveRow {
  bool is_summary = false;
  int32_t chunk = 0;
  int32_t index = 0;  // text: i; summary: a
  int32_t position = 0;
  NaiveVector x;
  NaiveVector normed;  // x after the block's norm: what a mixer reads
  NaiveVector mixed;   // what it adds to x: what a mixer writes
  // Of softmax attention on these rows: by head, the weight on each row that runs through the layer; 0 on those that it
  // does not see.
  std::vector<NaiveVector> weights{};
};

struct NaiveLayer {
  const ModelConfig& config;
  const Mixer& spec;
  std::function<const Parameter&(const std::string& name)> get;  // a parameter by its name in the layer
  double mix = 1.0;                                              // of annealing
  const std::vector<NaiveRow*>& rows;                            // that run through the layer
};

struct NaiveMixer {
  std::string_view kind;
  bool (*summaries_run)(const ModelConfig& config);  // or they skip the block
  void (*run)(const NaiveLayer& layer);
};

// Every kind that the naive model knows. Alone in naive_mixers.cc, so that a test can bring a list of its own.
[[nodiscard]] std::vector<NaiveMixer> NaiveMixers();

[[nodiscard]] std::optional<NaiveMixer> FindNaiveMixer(std::string_view kind);

// Those that are softmax attention with a window: ksa, full, swa, sca.
[[nodiscard]] std::vector<NaiveMixer> NaiveAttentionMixers();

// A row with what it reads others with, and what others read of it.
struct NaiveAttending {
  NaiveVector q;
  NaiveVector k;
  NaiveVector v;
};

// Of a layer with latents, in naive_mla.cc: keys and values of every head.
[[nodiscard]] NaiveAttending NaiveLatentRow(const NaiveLayer& layer, const NaiveRow& row);

// hca, in naive_hca.cc.
[[nodiscard]] NaiveMixer NaiveHcaMixer();

// gdn, in naive_gdn.cc.
[[nodiscard]] NaiveMixer NaiveGdnMixer();

// q, k or v of a text row, convolved, before norm and rotation: what the layer's `part` projection gives. Rotated as
// its position says: the same, then normed (by head) and rotated.
[[nodiscard]] NaiveVector NaiveProduct(const NaiveLayer& layer, const std::string& part, const NaiveRow& row);
[[nodiscard]] NaiveVector NaiveProject(const NaiveLayer& layer, const std::string& part, const NaiveRow& row);

// In place: rotates the head of x that starts at `begin`.
void NaiveRotate(const ModelConfig& config, NaiveVector& x, size_t begin, int32_t position);

[[nodiscard]] NaiveVector NaiveTableRow(const Parameter& table, int64_t row);
[[nodiscard]] NaiveVector NaiveMultiply(const Parameter& weight, const NaiveVector& x);
void NaiveAdd(NaiveVector& x, const NaiveVector& y);

// RMSNorm of x[begin, begin + size of the weight) in place.
void NaiveNormalize(NaiveVector& x, size_t begin, const Parameter& weight, double eps);

}  // namespace ksa::testing
