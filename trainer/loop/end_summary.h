// What a run says when it has ended: what came out, where it is, and what to type next.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trainer/observe/color.h"

namespace ksa {

struct SourceSummary {
  struct Row {
    int64_t step = 0;
    double loss = 0;                       // nats a token
    std::optional<double> standard_error;  // of a validation by this start; metrics.jsonl has none
  };

  std::string name;
  Row last;
  Row best;
  int64_t samples_read = 0;
  int64_t samples_there = 0;
  std::optional<double> bytes_per_target;
};

struct RunSummary {
  std::string name;
  int64_t updates = 0;
  int64_t max_steps = 0;
  int64_t tokens = 0;
  double seconds = 0;  // of training, of all starts
  int64_t starts = 1;
  std::optional<double> tokens_per_second;  // of this start
  std::optional<double> training_loss;
  int64_t averaged = 1;  // updates over which it is the mean
  std::vector<SourceSummary> validation;
  std::string checkpoint;         // the newest; empty: there is none
  std::vector<std::string> next;  // commands, and remarks that begin with #
};

// A line, and how a terminal shows it.
using StyledLine = std::pair<std::string, Style>;

[[nodiscard]] std::vector<StyledLine> RenderSummary(const RunSummary& summary);

}  // namespace ksa
