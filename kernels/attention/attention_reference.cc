#include "kernels/attention/attention_reference.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/core/dtype.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// One row that exists in a tensor: who it is, and where it lies.
struct Row {
  RowId id;
  int64_t index = 0;
};

std::vector<Row> RowsOf(const SummaryLayout& layout, int32_t sequence, bool with_summaries) {
  std::vector<Row> rows;
  for (int32_t i = 0; i < layout.text_tokens; ++i) {
    rows.push_back({{false, i}, layout.TextRow(sequence, i)});
  }
  for (int32_t i = 0; with_summaries && i < layout.live_summaries(); ++i) {
    rows.push_back({{true, i}, layout.SummaryRow(sequence, i)});
  }
  return rows;
}

template <typename T>
Accumulator<T> At(const TensorView& tensor, int64_t row, int64_t head, int64_t i) {
  return static_cast<Accumulator<T>>(tensor.As<T>()[(row * tensor.shape[1] + head) * tensor.shape[2] + i]);
}

template <typename T>
T* Head(const TensorView& tensor, int64_t row, int64_t head) {
  return tensor.As<T>() + (row * tensor.shape[1] + head) * tensor.shape[2];
}

template <typename T>
Accumulator<T> Dot(
    const TensorView& a, int64_t a_row, int64_t a_head, const TensorView& b, const Row& b_row, int64_t g) {
  Accumulator<T> sum = 0;
  for (int64_t i = 0; i < a.shape[2]; ++i) {
    sum += At<T>(a, a_row, a_head, i) * At<T>(b, b_row.index, g, i);
  }
  return sum;
}

// The visible rows among `keys`, and the softmax weight of each.
template <typename A>
struct Weights {
  std::vector<Row> keys;
  std::vector<A> weights;
  A lse = -std::numeric_limits<A>::infinity();
};

template <typename T, typename Args>
Weights<Accumulator<T>> Softmax(
    const Args& args, int32_t sequence, const std::vector<Row>& keys, const Row& query, int64_t head) {
  using A = Accumulator<T>;
  const int64_t group = head / (args.q.shape[1] / args.k.shape[1]);
  const A scale = 1 / std::sqrt(static_cast<A>(args.q.shape[2]));
  Weights<A> result;
  A max = -std::numeric_limits<A>::infinity();
  for (const Row& key : keys) {
    if (Visible(args.layout, args.window, sequence, query.id, key.id)) {
      result.keys.push_back(key);
      result.weights.push_back(scale * Dot<T>(args.q, query.index, head, args.k, key, group));
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
  for (int32_t sequence = 0; sequence < args.layout.sequences; ++sequence) {
    const std::vector<Row> keys = RowsOf(args.layout, sequence, args.k.rows() > args.layout.text_rows());
    for (const Row& query : RowsOf(args.layout, sequence, args.q.rows() > args.layout.text_rows())) {
      for (int64_t head = 0; head < heads; ++head) {
        const Weights<A> softmax = Softmax<T>(args, sequence, keys, query, head);
        for (int64_t i = 0; i < args.q.shape[2]; ++i) {
          A sum = 0;
          for (size_t j = 0; j < softmax.keys.size(); ++j) {
            sum += softmax.weights[j] * At<T>(args.v, softmax.keys[j].index, head / share, i);
          }
          Head<T>(args.out, query.index, head)[i] = static_cast<T>(sum);
        }
        args.lse.As<A>()[query.index * heads + head] = softmax.lse;
      }
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
  const A scale = 1 / std::sqrt(static_cast<A>(dim));
  const A delta = Dot<T>(args.dout, query.index, head, args.out, query, head);
  for (size_t j = 0; j < softmax.keys.size(); ++j) {
    const Row& key = softmax.keys[j];
    const A weight = softmax.weights[j];
    const A dscore = scale * weight * (Dot<T>(args.dout, query.index, head, args.v, key, group) - delta);
    for (int64_t i = 0; i < dim; ++i) {
      const auto q = static_cast<size_t>((query.index * heads + head) * dim + i);
      const auto k = static_cast<size_t>((key.index * groups + group) * dim + i);
      sums.dq[q] += dscore * At<T>(args.k, key.index, group, i);
      sums.dk[k] += dscore * At<T>(args.q, query.index, head, i);
      sums.dv[k] += weight * At<T>(args.dout, query.index, head, i);
    }
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
  for (int32_t sequence = 0; sequence < args.layout.sequences; ++sequence) {
    const std::vector<Row> keys = RowsOf(args.layout, sequence, args.k.rows() > args.layout.text_rows());
    for (const Row& query : RowsOf(args.layout, sequence, args.q.rows() > args.layout.text_rows())) {
      for (int64_t head = 0; head < args.q.shape[1]; ++head) {
        AddQueryGradients<T>(args, Softmax<T>(args, sequence, keys, query, head), query, head, sums);
      }
    }
  }
  Round<T>(sums.dq, args.dq);
  Round<T>(sums.dk, args.dk);
  Round<T>(sums.dv, args.dv);
}

}  // namespace

void AttentionReferenceForward(const AttentionForwardArgs& args) {
  switch (args.q.dtype) {
    case DType::kF64:
      return Forward<double>(args);
    case DType::kF32:
      return Forward<float>(args);
    case DType::kBF16:
      return Forward<BFloat16>(args);
    case DType::kI32:
      break;
  }
  Fail(ExitCode::kInternal, "the reference attention takes fp64, fp32 and bf16, got {}", NameOf(args.q.dtype));
}

void AttentionReferenceBackward(const AttentionBackwardArgs& args) {
  switch (args.q.dtype) {
    case DType::kF64:
      return Backward<double>(args);
    case DType::kF32:
      return Backward<float>(args);
    case DType::kBF16:
      return Backward<BFloat16>(args);
    case DType::kI32:
      break;
  }
  Fail(ExitCode::kInternal, "the reference attention takes fp64, fp32 and bf16, got {}", NameOf(args.q.dtype));
}

}  // namespace ksa
