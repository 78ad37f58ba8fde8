// The model in plain loops over double, one row at a time, written from docs/ksa.md and from nothing else: no layout,
// no kernels, no skipped rows. The oracle of KsaModel.
#pragma once

#include <cstdint>
#include <vector>

#include "model/autograd/parameter.h"
#include "model/mixers/model_config.h"
#include "tests/support/naive_mixer.h"

namespace ksa::testing {

// One document of `tokens`, with the fp64 weights of `store` and annealing weight `mix`: the logits of its tokens,
// row by row.
[[nodiscard]] std::vector<std::vector<double>> NaiveLogits(const ModelConfig& config,
                                                           ParameterStore& store,
                                                           const std::vector<int32_t>& tokens,
                                                           double mix);

// The rows that run through each layer, with their weights (NaiveRow::weights); empty ones where a layer is no softmax
// attention on these rows.
[[nodiscard]] std::vector<std::vector<NaiveRow>> NaiveAttention(const ModelConfig& config,
                                                                ParameterStore& store,
                                                                const std::vector<int32_t>& tokens,
                                                                double mix);

// -log softmax(logits)[target]
[[nodiscard]] double NaiveTokenLoss(const std::vector<double>& logits, int32_t target);

}  // namespace ksa::testing
