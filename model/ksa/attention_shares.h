// What attention is spent on: weights of chosen rows, computed again from queries and keys, never of all rows at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/autograd/context.h"
#include "model/ksa/model.h"

namespace ksa {

// Summaries (or entries) that are `from` to `to` chunks older than the query's chunk.
struct AgeShare {
  int32_t from = 0;
  int32_t to = 0;
  double share = 0;
};

// Chunk `chunk` of the text, by its summaries.
struct UsedSummary {
  int32_t chunk = 0;
  double share = 0;
};

// Of one head of a layer. Shares are of all attention of the chosen text rows: window, own and the ages sum to 1.
struct HeadShares {
  int32_t layer = 0;
  int32_t head = 0;
  double window = 0;                       // text before the query's chunk
  double own = 0;                          // text of the query's chunk, itself included
  std::vector<AgeShare> summaries_by_age;  // ages that double; empty where text sees no summary
  std::vector<UsedSummary> top;            // the most used chunks, the most used first
  // What summary rows attend to where they do: the text of their chunk by its place in it, mean over summary rows, and
  // summaries of their chunk. Empty and 0 where they don't.
  std::vector<double> summary_reads;
  double summary_reads_summaries = 0;
};

struct AttentionQuestion {
  std::vector<int32_t> rows;  // text rows whose weights are computed, rising
  size_t top = 5;             // of UsedSummary a head
};

struct AttentionAnswer {
  std::vector<HeadShares> heads;                        // by layer, then by head
  std::vector<std::pair<int32_t, std::string>> others;  // layers without attention weights, and their kind
};

// One sequence without documents, on one rank: input.layout of MakeLayout; input.trace is taken for itself.
[[nodiscard]] AttentionAnswer MeasureAttention(KsaModel& model,
                                               const ExecContext& cx,
                                               KsaModel::Input input,
                                               const AttentionQuestion& question);

// At most `count` text rows of a sequence of `tokens`, spread evenly, the last one among them; of those that see a
// summary in every ksa layer where there are any, else of all.
[[nodiscard]] std::vector<int32_t> RowsThatSeeSummaries(const ModelConfig& config, int32_t tokens, int32_t count);

}  // namespace ksa
