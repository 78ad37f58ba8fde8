#include "kernels/loss/linear_cross_entropy_scratch.h"

#include <algorithm>

namespace ksa {
namespace {

// Products of 4096 rows run at full speed; of a vocabulary of 151936 they are 2.3 GiB.
constexpr int64_t kMostRows = 4096;
constexpr int64_t kLogitBytes = int64_t{5} << 29;
constexpr int64_t kRowStep = 128;

int64_t MostRowsOf(const LinearCrossEntropyArgs& args) {
  return std::max(args.x.rows(), args.most_rows);
}

}  // namespace

int64_t CrossEntropyChunk(int64_t n, int64_t vocabulary) {
  if (n == 0) {
    return 0;
  }
  const int64_t row_bytes = 4 * vocabulary;
  const int64_t fit = std::clamp(kLogitBytes / row_bytes / kRowStep * kRowStep, kRowStep, kMostRows);
  const int64_t chunks = (n + fit - 1) / fit;
  const int64_t rows = (n + chunks - 1) / chunks;
  return std::min(n, (rows + kRowStep - 1) / kRowStep * kRowStep);
}

int64_t CrossEntropyChunk(const LinearCrossEntropyArgs& args) {
  return CrossEntropyChunk(MostRowsOf(args), LongestPartOf(args) * (args.teacher_x.empty() ? 1 : 2));
}

CrossEntropyScratch TakeCrossEntropyScratch(const LinearCrossEntropyArgs& args) {
  const int64_t rows = CrossEntropyChunk(args);
  CrossEntropyScratch scratch;
  const Shape shape{rows, args.weight.rows()};
  if (rows > 0) {
    scratch.logits = Tensor::Empty(shape, DType::kF32, *args.allocator);
    if (!args.teacher_x.empty()) {
      scratch.teacher = Tensor::Empty(shape, DType::kF32, *args.allocator);
    }
    if (!args.dx.empty() && args.x.dtype == DType::kBF16) {
      scratch.gradient = Tensor::Empty(shape, DType::kBF16, *args.allocator);
    }
  }
  if (args.row_loss.empty()) {
    scratch.losses = Tensor::Empty({args.x.rows()}, DType::kF32, *args.allocator);
  }
  if (HasFurtherTerms(args) || !args.largest.empty()) {
    scratch.terms = Tensor::Empty({HasFurtherTerms(args) ? 4 : 1, MostRowsOf(args)}, DType::kF32, *args.allocator);
  }
  if (rows > 0 && (args.shard.parts > 1 || HasFurtherTerms(args))) {
    scratch.stats = Tensor::Empty({args.shard.parts * rows, StatisticsOfRow(args)}, DType::kF32, *args.allocator);
  }
  return scratch;
}

TensorView StatisticsOf(const LinearCrossEntropyArgs& args, const CrossEntropyScratch& scratch, int64_t rows) {
  const int64_t parts = args.shard.parts;
  return scratch.stats.empty()
             ? TensorView()
             : scratch.stats.view().Rows(0, parts * rows).Reshape({parts, rows, StatisticsOfRow(args)});
}

}  // namespace ksa
