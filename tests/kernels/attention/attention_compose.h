// One attention problem put together from the calls that ranks make of it (attention_parts.h).
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "tests/kernels/attention/attention_parts.h"
#include "tests/support/context_layout.h"

namespace ksa::testing {

// The rows of the whole's matrices that a call's queries, and its keys, are. `sequence`: that of a text call, else 0.
struct CallRows {
  std::vector<int64_t> queries;
  std::vector<int64_t> keys;

  CallRows(const AttentionCase& whole, const AttentionCase& call, int32_t sequence) {
    const SummaryLayout& part = call.layout;
    for (int64_t row = 0; row < call.KeyRows(); ++row) {
      keys.push_back(WholeRow(whole.layout, part, sequence, row));
    }
    const int64_t first = call.text_queries ? part.query_begin : part.text_rows();
    queries.assign(keys.begin() + first, keys.begin() + first + call.QueryRows());
  }
};

inline void CopyRow(const TensorView& from, int64_t from_row, const TensorView& to, int64_t to_row) {
  const TensorView row = from.Rows(from_row, 1);
  std::memcpy(to.Rows(to_row, 1).data, row.data, static_cast<size_t>(row.bytes()));
}

inline Tensor TakeRows(const Tensor& from, const std::vector<int64_t>& rows, Allocator& allocator) {
  const auto count = static_cast<int64_t>(rows.size());
  Tensor to = Tensor::Empty({count, from.shape()[1], from.shape()[2]}, from.dtype(), allocator);
  for (int64_t i = 0; i < count; ++i) {
    CopyRow(from, rows[static_cast<size_t>(i)], to, i);
  }
  return to;
}

inline void PutRows(const Tensor& from, const std::vector<int64_t>& rows, const Tensor& to) {
  for (int64_t i = 0; i < from.rows(); ++i) {
    CopyRow(from, i, to, rows[static_cast<size_t>(i)]);
  }
}

// Sums over calls of gradients of keys, in fp64 until they are rounded once.
class KeyGradients {
 public:
  explicit KeyGradients(const Tensor& like) : columns_(like.cols()), sums_(static_cast<size_t>(like.size())) {}

  void Add(const Tensor& part, const std::vector<int64_t>& rows) {
    for (int64_t i = 0; i < part.size(); ++i) {
      const int64_t row = rows[static_cast<size_t>(i / columns_)];
      sums_[static_cast<size_t>(row * columns_ + i % columns_)] += ElementAt(part, i);
    }
  }

  void Round(const Tensor& to) const {
    for (int64_t i = 0; i < to.size(); ++i) {
      SetElement(to, i, sums_[static_cast<size_t>(i)]);
    }
  }

 private:
  int64_t columns_;
  std::vector<double> sums_;
};

using RunCall = std::function<void(const AttentionCase& call, const AttentionTensors& tensors)>;

// The outputs of `x`, the tensors of the problem `whole`, by way of calls. Both outlive it.
class Composition {
 public:
  // `run` does forward and backward of one call.
  Composition(const AttentionCase& whole, const AttentionTensors& x, Allocator& allocator, RunCall run)
      : whole_(whole), x_(x), allocator_(allocator), run_(std::move(run)), dk_(x.dk), dv_(x.dv) {}

  // `sequence`: that of a text call, else 0.
  void Add(const AttentionCase& call, int32_t sequence = 0) {
    SCOPED_TRACE(call.Describe());
    const CallRows rows(whole_, call, sequence);
    AttentionTensors part;
    part.q = TakeRows(x_.q, rows.queries, allocator_);
    part.dout = TakeRows(x_.dout, rows.queries, allocator_);
    part.k = TakeRows(x_.k, rows.keys, allocator_);
    part.v = TakeRows(x_.v, rows.keys, allocator_);
    part.MakeOutputs(allocator_);
    run_(call, part);
    PutRows(part.out, rows.queries, x_.out);
    PutRows(part.lse, rows.queries, x_.lse);
    PutRows(part.dq, rows.queries, x_.dq);
    dk_.Add(part.dk, rows.keys);
    dv_.Add(part.dv, rows.keys);
  }

  // After all calls.
  void Finish() const {
    dk_.Round(x_.dk);
    dv_.Round(x_.dv);
  }

 private:
  const AttentionCase& whole_;
  const AttentionTensors& x_;
  Allocator& allocator_;
  RunCall run_;
  KeyGradients dk_;
  KeyGradients dv_;
};

// All calls of `ranks` ranks.
inline void RunByRanks(
    const AttentionCase& whole, int32_t ranks, const AttentionTensors& x, Allocator& allocator, const RunCall& run) {
  Composition composition(whole, x, allocator, run);
  for (int32_t sequence = 0; sequence < whole.layout.sequences; ++sequence) {
    for (int32_t slice = 0; slice < 2 * ranks; ++slice) {
      composition.Add(TextCall(whole, ranks, sequence, slice, slice % 3), sequence);
    }
  }
  for (int32_t rank = 0; rank < ranks && whole.query_summaries; ++rank) {
    composition.Add(SummaryCall(whole, ranks, rank));
  }
  composition.Finish();
}

}  // namespace ksa::testing
