#include <algorithm>
#include <vector>

#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"
#include "kernels/short_conv/conv_rows.h"
#include "kernels/short_conv/short_conv_backends.h"

namespace ksa::cpu {
namespace {

// Of both passes: the taps by distance, [K, c], so that loops over channels are loops over neighbours.
template <typename T>
class Taps {
 public:
  using A = Accumulator<T>;

  explicit Taps(const TensorView& weight)
      : channels_(weight.shape[0]), taps_(weight.shape[2]), by_distance_(static_cast<size_t>(weight.size())) {
    for (int64_t c = 0; c < channels_; ++c) {
      for (int64_t j = 0; j < taps_; ++j) {
        by_distance_[static_cast<size_t>(j * channels_ + c)] =
            static_cast<A>(weight.As<T>()[c * taps_ + taps_ - 1 - j]);
      }
    }
  }

  // Those that weigh the row `distance` before.
  [[nodiscard]] const A* At(int64_t distance) const { return by_distance_.data() + distance * channels_; }

 private:
  int64_t channels_;
  int64_t taps_;
  std::vector<A> by_distance_;
};

// Rows of a matrix and of the halo beside it.
template <typename T>
struct TextRows {
  const ConvRows& rows;
  const TensorView& x;
  const TensorView& halo;

  // The row `distance` before text row i.
  [[nodiscard]] const T* Before(int32_t sequence, int32_t i, int32_t distance) const {
    const int32_t run = rows.RunOf(i);
    const int32_t begin = rows.RowsOf(run).begin;
    if (i - distance >= begin) {
      return x.As<T>() + (rows.layout.TextRow(sequence, i) - distance) * x.cols();
    }
    return halo.As<T>() + rows.HaloRow(sequence, run, distance - (i - begin)) * x.cols();
  }
};

// sum += taps · row
template <typename T, typename A>
void AddTap(const A* taps, const T* row, int64_t channels, A* sum) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    sum[c] += taps[c] * static_cast<A>(row[c]);
  }
}

template <typename T, typename A>
void Round(const A* sum, int64_t channels, T* to) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    to[c] = static_cast<T>(sum[c]);
  }
}

// The row's own tap, which every row has, beside the row itself in the residual form.
template <typename T, typename A>
void BeginSum(ConvForm form, const A* taps, const T* row, int64_t channels, A* sum) {
  if (form == ConvForm::kSilu) {
    std::fill_n(sum, channels, A{});
    AddTap(taps, row, channels, sum);
    return;
  }
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    const A value = static_cast<A>(row[c]);
    sum[c] = value + taps[c] * value;
  }
}

// What u becomes in place.
template <typename A>
void Activate(int64_t channels, A* u) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    u[c] /= A{1} + Exp(-u[c]);
  }
}

// Rows that a task takes.
constexpr int64_t kTaskRows = 16;

// function(first, last) over all rows.
template <typename Function>
void ForEachTask(const Stream& stream, int64_t rows, int64_t channels, int64_t taps, const Function& function) {
  ParallelFor(stream, (rows + kTaskRows - 1) / kTaskRows, kTaskRows * channels * taps, [&](int64_t task) {
    function(task * kTaskRows, std::min(rows, (task + 1) * kTaskRows));
  });
}

// The sum of text row i, with the row itself in the residual form.
template <typename T, typename A>
void SumOfRow(ConvForm form, const TextRows<T>& text, const Taps<T>& taps, int32_t sequence, int32_t i, A* sum) {
  const int64_t channels = text.x.cols();
  BeginSum(form, taps.At(0), text.Before(sequence, i, 0), channels, sum);
  const int32_t reach = text.rows.ReachOf(sequence, i);
  for (int32_t j = 1; j <= reach; ++j) {
    AddTap(taps.At(j), text.Before(sequence, i, j), channels, sum);
  }
}

// What backward reads of rows: the gradients of their sums u.
template <typename T>
class SumGradients {
 public:
  using A = Accumulator<T>;

  SumGradients(const ShortConvBackwardArgs& args, const ConvRows& rows, const Taps<T>& taps)
      : args_(args), text_{rows, args.x, args.halo}, taps_(taps) {}

  [[nodiscard]] int64_t channels() const { return args_.dy.cols(); }

  // du [c] of text row i, which lies at row `row` of the matrix and is no padding.
  void Make(int32_t sequence, int32_t i, int64_t row, A* du) const {
    const T* dy = args_.dy.template As<T>() + row * channels();
    if (args_.form == ConvForm::kResidual) {
#pragma omp simd
      for (int64_t c = 0; c < channels(); ++c) {
        du[c] = static_cast<A>(dy[c]);
      }
      return;
    }
    SumOfRow(args_.form, text_, taps_, sequence, i, du);
#pragma omp simd
    for (int64_t c = 0; c < channels(); ++c) {
      const A sigmoid = A{1} / (A{1} + Exp(-du[c]));
      du[c] = static_cast<A>(dy[c]) * (sigmoid * (A{1} + du[c] * (A{1} - sigmoid)));
    }
  }

 private:
  const ShortConvBackwardArgs& args_;
  TextRows<T> text_;
  const Taps<T>& taps_;
};

// dx of row r: what it leaves in itself and in the rows behind it.
template <typename T>
void InputGradients(const ShortConvBackwardArgs& args,
                    const ConvRows& rows,
                    const Taps<T>& taps,
                    const Stream& stream) {
  using A = Accumulator<T>;
  const SumGradients<T> gradients(args, rows, taps);
  const int64_t channels = gradients.channels();
  const auto element = [&](int64_t i) { return static_cast<size_t>(i * channels); };
  ForEachTask(stream, args.dy.rows(), channels, rows.reach + 1, [&](int64_t first, int64_t last) {
    std::vector<A> sum(element(1));
    std::vector<A> du(element(last - first + rows.reach));  // of rows from `first` on, as far as they are made
    int64_t made = first;
    for (int64_t r = first; r < last; ++r) {
      const SummaryLayout::Place at = rows.layout.Locate(r);
      made = std::max(made, r);
      if (!at.is_text || rows.layout.IsPadding(at.sequence, at.index)) {
        std::copy_n(args.dy.As<T>() + r * channels, channels, args.dx.As<T>() + r * channels);
        continue;
      }
      const int32_t readers = rows.ReadersOf(at.sequence, at.index);
      for (; made <= r + readers; ++made) {
        gradients.Make(at.sequence, at.index + static_cast<int32_t>(made - r), made, du.data() + element(made - first));
      }
      BeginSum(args.form, taps.At(0), du.data() + element(r - first), channels, sum.data());
      for (int32_t j = 1; j <= readers; ++j) {
        AddTap(taps.At(j), du.data() + element(r + j - first), channels, sum.data());
      }
      Round(sum.data(), channels, args.dx.As<T>() + r * channels);
    }
  });
}

template <typename T>
void HaloGradients(const ShortConvBackwardArgs& args, const ConvRows& rows, const Taps<T>& taps) {
  using A = Accumulator<T>;
  const SumGradients<T> gradients(args, rows, taps);
  const int64_t channels = gradients.channels();
  std::vector<A> sum(static_cast<size_t>(channels));
  std::vector<A> du(static_cast<size_t>(channels));
  for (int32_t q = 0; q < rows.layout.sequences && rows.halo_rows() > 0; ++q) {
    for (int32_t run = 0; run < rows.runs(); ++run) {
      for (int32_t distance = 1; distance <= rows.reach; ++distance) {
        std::fill(sum.begin(), sum.end(), A{});
        const int32_t first = rows.RowsOf(run).begin;
        const int32_t readers = rows.ReadersOfHalo(q, run, distance);
        for (int32_t r = 0; r < readers; ++r) {
          gradients.Make(q, first + r, rows.layout.TextRow(q, first + r), du.data());
          AddTap(taps.At(distance + r), du.data(), channels, sum.data());
        }
        Round(sum.data(), channels, args.dhalo.As<T>() + rows.HaloRow(q, run, distance) * channels);
      }
    }
  }
}

template <typename T>
void WeightGradient(const ShortConvBackwardArgs& args,
                    const ConvRows& rows,
                    const Taps<T>& by_distance,
                    const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t channels = args.dy.cols();
  const int64_t taps = args.weight.shape[2];
  const TextRows<T> text = {rows, args.x, args.halo};
  const SumGradients<T> gradients(args, rows, by_distance);
  std::vector<A> sums(static_cast<size_t>(taps * channels));  // by distance
  const auto add_row = [&](int64_t r, A* sum) {
    const SummaryLayout::Place at = rows.layout.Locate(r);
    if (rows.layout.IsPadding(at.sequence, at.index)) {
      return;
    }
    std::vector<A> du(static_cast<size_t>(channels));
    gradients.Make(at.sequence, at.index, r, du.data());
    for (int32_t j = 0; j <= rows.ReachOf(at.sequence, at.index); ++j) {
      const T* x = text.Before(at.sequence, at.index, j);
      A* of_tap = sum + j * channels;
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        of_tap[c] += du[static_cast<size_t>(c)] * static_cast<A>(x[c]);
      }
    }
  };
  RowSums<A, decltype(add_row)>{.first = 0,
                                .last = rows.layout.text_rows(),
                                .cols = taps * channels,
                                .elements = taps * channels,
                                .out = sums.data(),
                                .add_row = add_row}
      .Run(stream);
  A* out = args.dweight.As<A>();
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t j = 0; j < taps; ++j) {
      A& sum = out[c * taps + taps - 1 - j];
      sum = (args.accumulate ? sum : A{}) + sums[static_cast<size_t>(j * channels + c)];
    }
  }
}

}  // namespace

template <typename T>
void ShortConvForward(const ShortConvForwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t channels = args.x.cols();
  const ConvRows rows = {args.layout, static_cast<int32_t>(args.weight.shape[2]) - 1};
  const Taps<T> taps(args.weight);
  const TextRows<T> text = {rows, args.x, args.halo};
  ForEachTask(stream, args.x.rows(), channels, rows.reach + 1, [&](int64_t first, int64_t last) {
    std::vector<A> sum(static_cast<size_t>(channels));
    for (int64_t r = first; r < last; ++r) {
      const SummaryLayout::Place at = rows.layout.Locate(r);
      if (!at.is_text || rows.layout.IsPadding(at.sequence, at.index)) {
        std::copy_n(args.x.As<T>() + r * channels, channels, args.y.As<T>() + r * channels);
        continue;
      }
      SumOfRow(args.form, text, taps, at.sequence, at.index, sum.data());
      if (args.form == ConvForm::kSilu) {
        Activate(channels, sum.data());
      }
      Round(sum.data(), channels, args.y.As<T>() + r * channels);
    }
  });
}

template <typename T>
void ShortConvBackward(const ShortConvBackwardArgs& args, const Stream& stream) {
  const ConvRows rows = {args.layout, static_cast<int32_t>(args.weight.shape[2]) - 1};
  const Taps<T> taps(args.weight);
  InputGradients<T>(args, rows, taps, stream);
  HaloGradients<T>(args, rows, taps);
  WeightGradient<T>(args, rows, taps, stream);
}

template void ShortConvForward<double>(const ShortConvForwardArgs&, const Stream&);
template void ShortConvForward<float>(const ShortConvForwardArgs&, const Stream&);
template void ShortConvForward<BFloat16>(const ShortConvForwardArgs&, const Stream&);
template void ShortConvBackward<double>(const ShortConvBackwardArgs&, const Stream&);
template void ShortConvBackward<float>(const ShortConvBackwardArgs&, const Stream&);
template void ShortConvBackward<BFloat16>(const ShortConvBackwardArgs&, const Stream&);

}  // namespace ksa::cpu
