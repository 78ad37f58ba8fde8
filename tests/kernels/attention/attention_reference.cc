#include "tests/kernels/attention/attention_reference.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/core/dispatch.h"

namespace ksa {
namespace {

// One row that exists in a tensor: who it is, and where it lies.
struct Row {
  int32_t sequence = 0;
  RowId id;
  int64_t index = 0;
};

// The rows of a tensor in their order: a stretch of every sequence's text, then the summaries of every sequence.
std::vector<Row> RowsOf(const SummaryLayout& layout, Range text, int32_t summaries) {
  std::vector<Row> rows;
  for (int32_t sequence = 0; sequence < layout.sequences; ++sequence) {
    for (int32_t i = text.begin; i < text.end; ++i) {
      rows.push_back({sequence, {false, i}, static_cast<int64_t>(rows.size())});
    }
  }
  for (int32_t sequence = 0; sequence < layout.sequences; ++sequence) {
    for (int32_t i = 0; i < summaries; ++i) {
      rows.push_back({sequence, {true, i}, static_cast<int64_t>(rows.size())});
    }
  }
  return rows;
}

template <typename Args>
std::vector<Row> QueriesOf(const Args& args) {
  const SummaryLayout& layout = args.layout;
  const Range text = args.text_queries ? layout.Queries() : Range{};
  const bool with_summaries = args.q.rows() > int64_t{1} * layout.sequences * text.size();
  return RowsOf(layout, text, with_summaries ? layout.live_summaries() : 0);
}

// By sequence.
template <typename Args>
std::vector<std::vector<Row>> KeysOf(const Args& args) {
  const SummaryLayout& layout = args.layout;
  const bool with_summaries = args.k.rows() > layout.text_rows();
  std::vector<std::vector<Row>> keys(static_cast<size_t>(layout.sequences));
  for (const Row& row : RowsOf(layout, {0, layout.text_tokens}, with_summaries ? layout.live_summaries() : 0)) {
    keys[static_cast<size_t>(row.sequence)].push_back(row);
  }
  return keys;
}

// One head of one row: dim elements.
template <typename T>
T* Head(const TensorView& tensor, int64_t row, int64_t head) {
  return tensor.As<T>() + (row * tensor.shape[1] + head) * tensor.shape[2];
}

template <typename T>
Accumulator<T> Dot(const T* a, const T* b, int64_t dim) {
  Accumulator<T> sum = 0;
  for (int64_t i = 0; i < dim; ++i) {
    sum += static_cast<Accumulator<T>>(a[i]) * static_cast<Accumulator<T>>(b[i]);
  }
  return sum;
}

// sum += factor · x
template <typename T>
void Add(Accumulator<T> factor, const T* x, int64_t dim, Accumulator<T>* sum) {
  for (int64_t i = 0; i < dim; ++i) {
    sum[i] += factor * static_cast<Accumulator<T>>(x[i]);
  }
}

template <typename A, typename Args>
A ScaleOf(const Args& args) {
  return args.scale > 0.0 ? static_cast<A>(args.scale) : 1 / std::sqrt(static_cast<A>(args.q.shape[2]));
}

// The visible rows among `keys`, and the softmax weight of each.
template <typename A>
struct Weights {
  std::vector<Row> keys;
  std::vector<A> weights;
  A lse = -std::numeric_limits<A>::infinity();
};

template <typename T, typename Args>
Weights<Accumulator<T>> Softmax(const Args& args, const std::vector<Row>& keys, const Row& query, int64_t head) {
  using A = Accumulator<T>;
  const int64_t group = head / (args.q.shape[1] / args.k.shape[1]);
  const int64_t dim = args.q.shape[2];
  const A scale = ScaleOf<A>(args);
  const T* q = Head<T>(args.q, query.index, head);
  Weights<A> result;
  A max = -std::numeric_limits<A>::infinity();
  for (const Row& key : keys) {
    if (Visible(args.layout, args.window, query.sequence, query.id, key.id)) {
      result.keys.push_back(key);
      result.weights.push_back(scale * Dot(q, Head<T>(args.k, key.index, group), dim));
      max = std::max(max, result.weights.back());
    }
  }
  A sum = 0;
  for (A& weight : result.weights) {
    weight = std::exp(weight - max);
    sum += weight;
  }
  for (A& weight : result.weights) {
    weight /= sum;
  }
  if (!result.keys.empty()) {
    result.lse = max + std::log(sum);
  }
  return result;
}

template <typename T>
void Forward(const AttentionForwardArgs& args) {
  using A = Accumulator<T>;
  const int64_t heads = args.q.shape[1];
  const int64_t share = heads / args.k.shape[1];
  const int64_t dim = args.v.shape[2];
  const std::vector<std::vector<Row>> keys = KeysOf(args);
  for (const Row& query : QueriesOf(args)) {
    for (int64_t head = 0; head < heads; ++head) {
      const Weights<A> softmax = Softmax<T>(args, keys[static_cast<size_t>(query.sequence)], query, head);
      std::vector<A> sum(static_cast<size_t>(dim));
      for (size_t j = 0; j < softmax.keys.size(); ++j) {
        Add(softmax.weights[j], Head<T>(args.v, softmax.keys[j].index, head / share), dim, sum.data());
      }
      for (int64_t i = 0; i < dim; ++i) {
        Head<T>(args.out, query.index, head)[i] = static_cast<T>(sum[static_cast<size_t>(i)]);
      }
      args.lse.As<A>()[query.index * heads + head] = softmax.lse;
    }
  }
}

// Sums of gradients are kept in the accumulation type and rounded once, at the end.
template <typename A>
struct Gradients {
  std::vector<A> dq, dk, dv;
};

template <typename T>
void AddQueryGradients(const AttentionBackwardArgs& args,
                       const Weights<Accumulator<T>>& softmax,
                       const Row& query,
                       int64_t head,
                       Gradients<Accumulator<T>>& sums) {
  using A = Accumulator<T>;
  const int64_t dim = args.q.shape[2];
  const int64_t heads = args.q.shape[1];
  const int64_t groups = args.k.shape[1];
  const int64_t group = head / (heads / groups);
  const A scale = ScaleOf<A>(args);
  const T* q = Head<T>(args.q, query.index, head);
  const T* dout = Head<T>(args.dout, query.index, head);
  const int64_t value_dim = args.v.shape[2];
  const A delta = Dot(dout, Head<T>(args.out, query.index, head), value_dim);
  for (size_t j = 0; j < softmax.keys.size(); ++j) {
    const int64_t key = softmax.keys[j].index;
    const A weight = softmax.weights[j];
    const A dscore = scale * weight * (Dot(dout, Head<T>(args.v, key, group), value_dim) - delta);
    A* dq = sums.dq.data() + (query.index * heads + head) * dim;
    A* dk = sums.dk.data() + (key * groups + group) * dim;
    A* dv = sums.dv.data() + (key * groups + group) * value_dim;
    Add(dscore, Head<T>(args.k, key, group), dim, dq);
    Add(dscore, q, dim, dk);
    Add(weight, dout, value_dim, dv);
  }
}

template <typename T>
void Round(const std::vector<Accumulator<T>>& from, const TensorView& to) {
  for (size_t i = 0; i < from.size(); ++i) {
    to.As<T>()[i] = static_cast<T>(from[i]);
  }
}

template <typename T>
void Backward(const AttentionBackwardArgs& args) {
  Gradients<Accumulator<T>> sums;
  sums.dq.resize(static_cast<size_t>(args.q.size()));
  sums.dk.resize(static_cast<size_t>(args.k.size()));
  sums.dv.resize(static_cast<size_t>(args.v.size()));
  const std::vector<std::vector<Row>> keys = KeysOf(args);
  for (const Row& query : QueriesOf(args)) {
    for (int64_t head = 0; head < args.q.shape[1]; ++head) {
      const auto softmax = Softmax<T>(args, keys[static_cast<size_t>(query.sequence)], query, head);
      AddQueryGradients<T>(args, softmax, query, head, sums);
    }
  }
  Round<T>(sums.dq, args.dq);
  Round<T>(sums.dk, args.dk);
  Round<T>(sums.dv, args.dv);
}

}  // namespace

void AttentionReferenceForward(const AttentionForwardArgs& args) {
  DispatchFloating(args.q.dtype, [&](auto element) { Forward<decltype(element)>(args); });
}

void AttentionReferenceBackward(const AttentionBackwardArgs& args) {
  DispatchFloating(args.q.dtype, [&](auto element) { Backward<decltype(element)>(args); });
}

}  // namespace ksa
