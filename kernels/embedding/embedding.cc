#include "kernels/embedding/embedding.h"

#include <algorithm>

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/embedding/embedding_backends.h"
#include "kernels/embedding/embedding_scratch.h"

namespace ksa {
namespace {

void CheckIds(const char* kernel, const TensorView& ids, int64_t vocabulary) {
  const int32_t* data = ids.As<int32_t>();
  for (int64_t r = 0; r < ids.size(); ++r) {
    if (data[r] < 0 || data[r] >= vocabulary) {
      Fail(ExitCode::kBadData,
           "{}: token id {} at text row {}, but the embedding has {} rows; does the data's tokenizer belong to this "
           "model?",
           kernel,
           data[r],
           r,
           vocabulary);
    }
  }
}

// What forward and backward share. Returns the ids of the whole vocabulary.
template <typename Args>
int64_t CheckShard(const ArgumentCheck& check, const Args& args, int64_t table_rows) {
  const int64_t vocabulary = VocabularyOf(args.shard, table_rows);
  check.Within("vocabulary", vocabulary, table_rows, INT32_MAX);
  check.Within("first_id", args.shard.first_id, 0, vocabulary - table_rows);
  if (args.summaries.first_id != SummaryStart::kOwnTable) {
    check.Within("first summary id", args.summaries.first_id, 0, vocabulary - args.layout.summary_tokens);
  }
  return vocabulary;
}

}  // namespace

void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("EmbeddingForward", stream);
  const DType dtype = args.table.dtype;
  check.Floating("table", args.table);
  check.Rank("table", args.table, 2);
  const int64_t d = args.table.cols();
  check.Tensor("table", args.table, dtype, args.table.shape);
  const int64_t vocabulary = CheckShard(check, args, args.table.rows());
  check.Elements("ids", args.ids, DType::kI32, args.layout.text_rows());
  check.Tensor("y", args.y, dtype, {args.layout.rows(), d});
  const bool own_table = args.summaries.first_id == SummaryStart::kOwnTable && args.summaries.contributes;
  if (args.layout.summary_rows() > 0 && own_table) {
    check.Tensor("summary_table", args.summary_table, dtype, {args.layout.summary_tokens, d});
  }
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.ids, args.y, args.y}); };  // rows of the table, and y
  RunOp("EmbeddingForward", stream, {args.ids.shape, args.table.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("EmbeddingForward", stream, cuda::EmbeddingForward(args, stream));
      return;
    }
    CheckIds("EmbeddingForward", args.ids, vocabulary);
    DispatchFloating(dtype, [&](auto element) { cpu::EmbeddingForward<decltype(element)>(args, stream); });
  });
}

void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("EmbeddingBackward", stream);
  const DType dtype = args.dy.dtype;
  check.Floating("dy", args.dy);
  check.Rank("dy", args.dy, 2);
  const int64_t d = args.dy.cols();
  check.Tensor("dy", args.dy, dtype, {args.layout.rows(), d});
  check.Elements("ids", args.ids, DType::kI32, args.layout.text_rows());
  int64_t vocabulary = 0;
  if (args.dtable.empty()) {
    KSA_CHECK(args.summaries.first_id == SummaryStart::kOwnTable,
              "EmbeddingBackward: summaries in a table without gradient");
  } else {
    check.Rank("dtable", args.dtable, 2);
    check.Tensor("dtable", args.dtable, AccumulationType(dtype), {args.dtable.rows(), d});
    vocabulary = CheckShard(check, args, args.dtable.rows());
  }
  check.Optional("dsummary_table", args.dsummary_table, AccumulationType(dtype), {args.layout.summary_tokens, d});
  const auto work = [&] {  // each row of dy, and the rows of the table that they are added to
    OpWork moved = MovedBy(WorkKind::kRows, {args.ids, args.dy});
    moved.bytes +=
        args.dtable.empty() ? 0 : 2 * std::min(args.ids.size(), args.dtable.rows()) * d * SizeOf(args.dtable.dtype);
    return moved;
  };
  RunOp("EmbeddingBackward", stream, {args.dy.shape, args.dtable.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      if (stream.dry) {
        Allocator& scratch = RequireScratch("EmbeddingBackward", args.allocator);
        if (!args.dtable.empty()) {
          static_cast<void>(TakeEmbeddingTextScratch(args, scratch));
        }
        static_cast<void>(EmbeddingSummaryPartials(args, scratch));
      }
      KSA_CUDA_OR_FAIL("EmbeddingBackward", stream, cuda::EmbeddingBackward(args, stream));
      return;
    }
    if (!args.dtable.empty()) {
      CheckIds("EmbeddingBackward", args.ids, vocabulary);
    }
    DispatchFloating(dtype, [&](auto element) { cpu::EmbeddingBackward<decltype(element)>(args, stream); });
  });
}

}  // namespace ksa
