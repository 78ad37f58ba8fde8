#include "tests/parallel/equality/whole_run.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/parallel/equality/training.h"

namespace ksa::testing {
namespace {

bool SameBits(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

// Where element i of what is held lies in the whole.
size_t PlaceOf(const HeldTensor& held, int64_t i) {
  const int64_t whole_width = held.whole.size() / held.whole[0];
  const int64_t width = held.columns ? held.shape[1] : whole_width;
  const int64_t first = held.columns ? held.begin : held.begin * whole_width;
  return static_cast<size_t>(first + i / width * whole_width + i % width);
}

void Place(const HeldTensor& held, std::vector<double>& whole) {
  whole.resize(static_cast<size_t>(held.whole.size()), std::nan(""));
  int64_t different = 0;
  for (size_t i = 0; i < held.values.size(); ++i) {
    double& element = whole[PlaceOf(held, static_cast<int64_t>(i))];
    if (!std::isnan(held.values[i])) {
      different += std::isnan(element) || SameBits(element, held.values[i]) ? 0 : 1;
      element = held.values[i];
    }
  }
  EXPECT_EQ(different, 0) << held.name << ": elements differ between ranks";
}

std::map<std::string, std::vector<double>> Assemble(const std::vector<RankRun>& ranks,
                                                    std::vector<HeldTensor> RankRun::*tensors) {
  std::map<std::string, std::vector<double>> whole;
  for (const RankRun& rank : ranks) {
    for (const HeldTensor& held : rank.*tensors) {
      Place(held, whole[held.name]);
    }
  }
  for (const auto& [name, values] : whole) {
    EXPECT_TRUE(std::none_of(values.begin(), values.end(), [](double x) { return std::isnan(x); }))
        << name << ": no rank has some element";
  }
  return whole;
}

void Append(const std::vector<double>& values, std::string& bytes) {
  const size_t size = values.size();
  bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
  bytes.append(reinterpret_cast<const char*>(values.data()), size * sizeof(double));
}

std::vector<double> Next(const std::string& bytes, size_t& at) {
  size_t size = 0;
  std::memcpy(&size, bytes.data() + at, sizeof size);
  std::vector<double> values(size);
  std::memcpy(values.data(), bytes.data() + at + sizeof size, size * sizeof(double));
  at += sizeof size + size * sizeof(double);
  return values;
}

double Largest(const std::vector<double>& values) {
  double largest = 0.0;
  for (const double x : values) {
    largest = std::max(largest, std::abs(x));
  }
  return largest;
}

// The largest error of an element; infinite where there is no number.
double LargestError(const std::vector<double>& actual, const std::vector<double>& expected) {
  double largest = actual.size() == expected.size() ? 0.0 : HUGE_VAL;
  for (size_t i = 0; i < expected.size() && i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]);
    largest = error <= largest ? largest : (std::isnan(error) ? HUGE_VAL : error);
  }
  return largest;
}

double Over(double error, double scale) {
  return error == 0.0 ? 0.0 : error / scale;
}

// Of a whole tensor, relative.
double ErrorInL2(const std::vector<double>& actual, const std::vector<double>& expected) {
  double square = actual.size() == expected.size() ? 0.0 : HUGE_VAL;
  double norm = 0.0;
  for (size_t i = 0; i < expected.size() && i < actual.size(); ++i) {
    square += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::isnan(square) ? HUGE_VAL : Over(std::sqrt(square), std::sqrt(norm));
}

const std::vector<double>& Find(const std::map<std::string, std::vector<double>>& tensors, const std::string& name) {
  static const std::vector<double> nothing;
  const auto found = tensors.find(name);
  return found == tensors.end() ? nothing : found->second;
}

// A gradient that is zero but for roundings, as of queries that see a single key, has no scale of its own.
double ScaleOfGradient(const std::vector<double>& expected, double largest_of_all) {
  const double largest = Largest(expected);
  return largest < 1e-10 * largest_of_all ? 1e-3 * largest_of_all : largest;
}

// Nor has a tensor that started at 0 and holds what such gradients left of updates.
double ScaleOfWeight(const std::vector<double>& expected, double largest_of_all) {
  const double largest = Largest(expected);
  return largest < 1e-6 * kLearningRate ? largest_of_all : largest;
}

double WorstRelative(const std::vector<double>& actual, const std::vector<double>& expected) {
  double worst = actual.size() == expected.size() ? 0.0 : HUGE_VAL;
  for (size_t i = 0; i < expected.size() && i < actual.size(); ++i) {
    const double error = actual[i] == expected[i] ? 0.0 : std::abs(actual[i] - expected[i]) / std::abs(expected[i]);
    worst = error <= worst ? worst : (std::isnan(error) ? HUGE_VAL : error);
  }
  return worst;
}

}  // namespace

std::string Pack(const RankRun& run) {
  std::string bytes;
  Append(run.losses, bytes);
  Append(run.norms, bytes);
  for (const auto* tensors : {&run.gradients, &run.weights}) {
    for (const HeldTensor& held : *tensors) {
      std::vector<double> box = {static_cast<double>(held.begin)};
      for (int d = 0; d < held.shape.rank(); ++d) {
        box.push_back(static_cast<double>(held.shape[d]));
      }
      Append(box, bytes);
      Append(held.values, bytes);
    }
  }
  return bytes;
}

RankRun Unpack(const std::string& bytes, const RankRun& like) {
  RankRun run = like;
  size_t at = 0;
  run.losses = Next(bytes, at);
  run.norms = Next(bytes, at);
  for (auto* tensors : {&run.gradients, &run.weights}) {
    for (HeldTensor& held : *tensors) {
      const std::vector<double> box = Next(bytes, at);
      held.begin = static_cast<int64_t>(box[0]);
      held.shape = box.size() > 2 ? Shape{static_cast<int64_t>(box[1]), static_cast<int64_t>(box[2])}
                                  : Shape{static_cast<int64_t>(box[1])};
      held.values = Next(bytes, at);
    }
  }
  return run;
}

WholeRun Whole(const std::vector<RankRun>& ranks) {
  for (const RankRun& rank : ranks) {
    EXPECT_EQ(rank.losses, ranks.front().losses) << "ranks report different losses";
    EXPECT_EQ(rank.norms, ranks.front().norms) << "ranks report different norms";
  }
  return {.losses = ranks.front().losses,
          .norms = ranks.front().norms,
          .gradients = Assemble(ranks, &RankRun::gradients),
          .weights = Assemble(ranks, &RankRun::weights)};
}

void ExpectSameBits(const std::vector<RankRun>& actual, const std::vector<RankRun>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t rank = 0; rank < expected.size(); ++rank) {
    EXPECT_EQ(actual[rank].losses, expected[rank].losses) << "rank " << rank;
    EXPECT_EQ(actual[rank].norms, expected[rank].norms) << "rank " << rank;
    for (size_t p = 0; p < expected[rank].weights.size(); ++p) {
      EXPECT_EQ(actual[rank].weights[p].values, expected[rank].weights[p].values)
          << "rank " << rank << ", " << expected[rank].weights[p].name;
    }
  }
}

WholeRun Later(WholeRun run, int64_t first) {
  run.losses.erase(run.losses.begin(), run.losses.begin() + first - 1);
  run.norms.erase(run.norms.begin(), run.norms.begin() + first - 1);
  run.gradients.clear();
  return run;
}

void Difference::Add(const Difference& other) {
  loss = std::max(loss, other.loss);
  norm = std::max(norm, other.norm);
  weight_l2 = std::max(weight_l2, other.weight_l2);
  if (other.gradient > gradient) {
    gradient = other.gradient;
    worst_gradient = other.worst_gradient;
  }
  if (other.weight > weight) {
    weight = other.weight;
    worst_weight = other.worst_weight;
  }
}

std::string Difference::ToString() const {
  return fmt::format("loss {:.1e}, norm {:.1e}, gradient {:.1e} ({}), weight {:.1e} ({}), L2 {:.1e}",
                     loss,
                     norm,
                     gradient,
                     worst_gradient,
                     weight,
                     worst_weight,
                     weight_l2);
}

Difference Compare(const WholeRun& actual, const WholeRun& expected, bool updates_alone) {
  Difference worst = {.loss = WorstRelative(actual.losses, expected.losses),
                      .norm = WorstRelative(actual.norms, expected.norms)};
  double largest_gradient = 0.0;
  for (const auto& [name, values] : expected.gradients) {
    largest_gradient = std::max(largest_gradient, Largest(values));
  }
  for (const auto& [name, values] : expected.gradients) {
    const double error = LargestError(Find(actual.gradients, name), values);
    worst.Add({.gradient = Over(error, ScaleOfGradient(values, largest_gradient)), .worst_gradient = name});
  }
  double largest_weight = 0.0;
  for (const auto& [name, values] : expected.weights) {
    largest_weight = std::max(largest_weight, Largest(values));
  }
  for (const auto& [name, values] : expected.weights) {
    const std::vector<double>& held = Find(actual.weights, name);
    const bool counts = updates_alone || Largest(values) > 2.0 * kUpdates * kLearningRate;
    worst.Add({.weight = Over(LargestError(held, values), ScaleOfWeight(values, largest_weight)),
               .weight_l2 = counts ? ErrorInL2(held, values) : 0.0,
               .worst_weight = name});
  }
  return worst;
}

void ExpectWithinBounds(const Difference& difference, DType precision) {
  if (precision == DType::kF64) {
    EXPECT_LT(difference.loss, 1e-12);
    EXPECT_LT(difference.norm, 1e-12);
    EXPECT_LT(difference.gradient, 1e-12) << difference.worst_gradient;
    EXPECT_LT(difference.weight, 1e-11) << difference.worst_weight;
  } else {
    EXPECT_LT(difference.loss, 1e-5);
    EXPECT_LT(difference.norm, 1e-5);
    EXPECT_LT(difference.weight_l2, 5e-4);
  }
}

}  // namespace ksa::testing
