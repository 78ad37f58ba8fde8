// What an operation computes and moves, as it says itself: the one source of every count of operations, of traffic and
// of estimated time (docs/design/plan.md).
#pragma once

#include <cstdint>

namespace ksa {

// What limits an operation's speed; the figures of a device are given by these.
enum class WorkKind : int {
  kNone,               // nothing that takes the device's time
  kProduct,            // matrix products
  kAttentionForward,   // of text queries; summary queries beside them included
  kAttentionBackward,  // likewise
  kRows,               // row-wise kernels: memory, read and written once
  kStream,             // passes over flat buffers: the optimizer
};

// One operation, or several alike. FLOPs are two for a multiply-add.
struct OpWork {
  WorkKind kind = WorkKind::kNone;
  int64_t useful = 0;  // FLOPs that the mathematics needs, of rows that somebody reads
  int64_t done = 0;    // FLOPs that are computed
  int64_t bytes = 0;   // of memory, read and written
  // Attention: text queries, and the visible pairs of them and of summary queries.
  int64_t text_queries = 0;
  int64_t text_pairs = 0;
  int64_t summary_pairs = 0;
};

// For operations that compute nothing.
inline constexpr auto NoWork = [] { return OpWork{}; };

// Places in a run that a count of an update is divided by.
enum class StepMark : int {
  kMicroBatch,  // a micro-batch begins: its forward pass
  kReplay,      // a part of a forward pass begins to run again for its backward
  kReplayed,    // and has ended: its backward begins
  kUpdate,      // all gradients of this rank are there: their sums over ranks, and the optimizer
};

}  // namespace ksa
